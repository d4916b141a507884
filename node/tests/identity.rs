//! Identity for life, with real processes over real QUIC: certificates that renew themselves, a replaced authority, lost,
//! revoked and cloned tills.

mod common;

use std::path::{Path, PathBuf};

use common::{Company, Node, assert_verified, path, sale, till, tillsync, until};
use serde_json::{Value, json};

/// A company whose certificates live so many seconds.
fn company(life_seconds: u64, grace_seconds: u64) -> Company {
    let company = Company::new();
    let file = company.dir.join("hub.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config["certificates"] = json!({"life_seconds": life_seconds, "grace_seconds": grace_seconds});
    std::fs::write(&file, config.to_string()).unwrap();
    company
}

fn certificate(dir: &Path) -> String {
    let text = std::fs::read(dir.join("identity/enrolment.json")).unwrap();
    let kept: Value = serde_json::from_slice(&text).unwrap();
    kept["certificate"].as_str().unwrap().to_owned()
}

fn sell(node: &Node, receipt: &str) {
    let output = tillsync(&["capture", "-", "--api", &node.http], &sale(receipt, 100));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn online(node: &Node) -> bool {
    node.status()["online"] == true
}

fn audit(node: &Node) -> String {
    common::json(&["audit", "--json", "--api", &node.http]).to_string()
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    // The mark of a node that runs does not belong to the copy.
    let _ = std::fs::remove_file(to.join("run.json"));
}

#[test]
fn a_certificate_renews_itself_on_the_connection_and_after_it_has_ended() {
    let mut company = company(6, 3_600);
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let first = certificate(&dir);
    let node = till(&dir);
    until("a renewal while connected", || certificate(&dir) != first);
    assert!(online(&node));
    sell(&node, "R-1");
    node.stop();

    // Away until the certificate has ended, judged by the hub's clock.
    let last = certificate(&dir);
    std::thread::sleep(std::time::Duration::from_secs(7));
    let node = till(&dir);
    until("it comes back by itself", || online(&node));
    assert_ne!(certificate(&dir), last);
    assert!(company.ask(&["audit"]).to_string().contains("after its old one had ended"));
    sell(&node, "R-2");
    until("both records at the hub", || company.records() == 2);
    drop((node, hub));
    assert_verified(&dir);
}

#[test]
fn beyond_the_grace_time_a_till_must_be_enrolled_anew() {
    let mut company = company(3, 0);
    let _hub = company.hub();
    let dir = company.join("store-1", "till-01");
    std::thread::sleep(std::time::Duration::from_secs(4));
    let node = till(&dir);
    until("it is told why", || audit(&node).contains("ended too long ago"));
    sell(&node, "R-1");
    assert!(!online(&node), "and goes on selling meanwhile");
}

#[test]
fn a_new_authority_reaches_tills_that_are_there_and_tills_that_come_later() {
    let mut company = company(3_600, 3_600);
    let hub = company.hub();
    let (here, away) = (company.join("store-1", "till-01"), company.join("store-1", "till-02"));
    let node = till(&here);
    until("the till online", || online(&node));
    let (old, old_away) = (certificate(&here), certificate(&away));
    let shown = company.ask(&["hub", "ca", "show"])["fingerprint"].clone();
    let rotated = company.ask(&["hub", "ca", "rotate", "--overlap", "0s"]);
    assert_ne!(rotated["fingerprint"], shown);
    assert_eq!(rotated["former"][0]["fingerprint"], shown);
    assert!(!company.dir.join("identity/ca.key").exists(), "the old key is gone");
    until("the connected till has a new certificate", || certificate(&here) != old);
    until("and is connected", || online(&node));

    // The hub restarts; the till that slept through all of it knows only the old authority.
    hub.stop();
    let _hub = company.hub();
    let late = till(&away);
    until("the sleeper comes back by itself", || online(&late));
    assert_ne!(certificate(&away), old_away);
    sell(&late, "R-1");
    until("its record at the hub", || company.records() == 1);
    drop(late);

    // A third has never come, and the former authority is ended: it is a stranger now.
    let never = company.join("store-1", "till-03");
    company.ask(&["hub", "ca", "rotate", "--overlap", "1d"]);
    let dropped = company.ask(&["hub", "ca", "drop"]);
    assert_eq!(dropped["former"], json!([]));
    let never = till(&never);
    until("it is not believed any more", || audit(&never).contains("refused-by-hub"));
    assert!(!online(&never));
}

#[test]
fn a_revoked_till_is_cut_off_at_once_and_for_good_and_its_records_come_by_another() {
    let mut company = Company::new();
    let hub = company.hub();
    let (lost, other) = (company.join("store-1", "till-01"), company.join("store-1", "till-02"));
    hub.stop();
    let backup = company.folder().join("hub-before");
    copy(&company.dir, &backup);

    let hub = company.hub();
    let (thief, witness) = (till(&lost), till(&other));
    until("both online", || online(&thief) && online(&witness));
    for receipt in ["R-1", "R-2", "R-3"] {
        sell(&thief, receipt);
    }
    let held = |node: &Node, receipt: &str| {
        tillsync(&["custody", receipt, "--api", &node.http], "").status.success()
    };
    until("the other till holds them", || held(&witness, "R-3"));

    let revoked = company.ask(&["hub", "revoke", "--terminal", "till-01", "--after-seq", "2"]);
    assert_eq!(revoked["last_valid_seq"], 2);
    until("cut off", || !online(&thief));
    until("and told why", || audit(&thief).contains("is revoked"));
    sell(&thief, "R-4");
    drop(witness);
    hub.stop();

    // After a restart the hub still knows.
    let hub = company.hub();
    until("the hub has turned it away", || {
        company.ask(&["audit"]).to_string().matches("is revoked").count() > 1
    });
    assert_eq!(company.records(), 3, "nothing of it came after the revocation");
    hub.stop();

    // The hub burns down and is restored from before the sales; the revocation is stated again. What the lost till
    // wrote comes by the other one: accepted up to the point, held after it.
    std::fs::rename(&company.dir, company.folder().join("hub-burnt")).unwrap();
    copy(&backup, &company.dir);
    let offline =
        ["hub", "revoke", "--dir", path(&company.dir), "--terminal", "till-01", "--after-seq", "2", "--json"];
    common::json(&offline);
    let hub = company.hub();
    let witness = till(&other);
    until("all three by the other till", || company.records() == 3);
    until("the one after the point is held", || {
        let cases = company.ask(&["cases", "--state", "open"]);
        cases.as_array().unwrap().iter().any(|case| case["type"] == "REVOKED_TERMINAL")
    });
    let drawer = || company.balances().get("Assets:Cash:Drawer:till-01 GBP").copied();
    assert!(drawer().is_some_and(|minor| minor >= 200), "what came before the point counts: {:?}", drawer());

    // The lost till is replaced: another device of the same name, which the revocation does not concern.
    let anew = join_as(&company, "till-01", "till-01-anew");
    let second = till(&anew);
    until("the new device online", || online(&second));
    sell(&second, "R-1");
    until("its record at the hub", || company.records() == 4);
    assert_eq!(second.status()["incarnation"], 2);
    let tills = company.ask(&["terminals"]);
    let states: std::collections::BTreeSet<(u64, bool)> = tills
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["terminal"] == "till-01")
        .map(|row| (row["incarnation"].as_u64().unwrap(), row["revoked"].as_bool().unwrap()))
        .collect();
    assert_eq!(states, [(1, true), (2, false)].into());
    drop((thief, witness, second));
    hub.stop();
    assert_verified(&company.dir);
}

fn join_as(company: &Company, terminal: &str, folder: &str) -> PathBuf {
    let store = "store-1";
    let code = company.ask(&["hub", "enroll", "--store", store, "--terminal", terminal]);
    let dir = company.folder().join(folder);
    let code = code["code"].as_str().unwrap();
    let output = tillsync(&["terminal", "join", "--dir", path(&dir), "--code", code], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir
}

#[test]
fn an_older_device_of_a_name_can_be_revoked_after_its_successor_came() {
    let mut company = Company::new();
    let _hub = company.hub();
    let old = company.join("store-1", "till-01");
    let new = join_as(&company, "till-01", "till-01-anew");
    let (old, new) = (till(&old), till(&new));
    until("both devices online", || online(&old) && online(&new));
    company.ask(&["hub", "revoke", "--terminal", "till-01", "--incarnation", "1"]);
    until("the old one cut off", || !online(&old));
    assert!(online(&new), "the new one does not notice");
    let wrong = ["hub", "revoke", "--dir", path(&company.dir), "--terminal", "till-01", "--incarnation", "9"];
    assert_eq!(tillsync(&wrong, "").status.code(), Some(1));
}

#[test]
fn a_copied_data_directory_is_noticed_at_both_ends_and_its_records_are_a_case() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let first = till(&dir);
    sell(&first, "R-1");
    until("the first record at the hub", || company.records() == 1);
    first.stop();
    let copied = company.folder().join("copied");
    copy(&dir, &copied);

    let (one, two) = (till(&dir), till(&copied));
    let cloned = |view: &Value| view.to_string().contains("cloned");
    until("the hub says so", || cloned(&company.ask(&["terminals"])));
    until("a till says so", || cloned(&one.status()) || cloned(&two.status()));
    until("and the audit log", || company.ask(&["audit"]).to_string().contains("runs twice with one key"));

    // With the hub away neither learns of the other's record before it writes its own; with the hub there, the second
    // would often continue the first one's log, and nothing would fork.
    hub.stop();
    sell(&one, "R-2");
    sell(&two, "R-3");
    let _hub = company.hub();
    until("the fork is a case", || {
        let cases = company.ask(&["cases", "--state", "open"]);
        cases.as_array().unwrap().iter().any(|case| case["type"] == "CLONED_TERMINAL")
    });
}
