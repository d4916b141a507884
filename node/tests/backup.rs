//! Backup of running nodes and restore: a restored node takes back what the others hold before it records anything, and
//! where that was not possible the fork is a case, never a silent overwrite.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Company, Node, assert_verified, json, path, sale, till, till_with, tillsync, until};

fn capture(node: &Node, from: usize, to: usize) -> (Option<i32>, String) {
    let lines: String =
        (from..to).map(|n| sale(&format!("R-{n}"), 100 + i64::try_from(n).unwrap()) + "\n").collect();
    let output = tillsync(&["capture", "-", "--api", &node.http], &lines);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn captured(node: &Node, from: usize, to: usize) {
    let (code, said) = capture(node, from, to);
    assert_eq!(code, Some(0), "{said}");
}

fn backup(dir: &Path, to: &Path) -> serde_json::Value {
    json(&["backup", "--dir", path(dir), "--to", path(to), "--json"])
}

fn restore(from: &Path, folder: &Path, name: &str) -> PathBuf {
    let dir = folder.join(name);
    json(&["restore", "--from", path(from), "--dir", path(&dir), "--json"]);
    dir
}

fn cases(company: &Company) -> String {
    company.ask(&["cases"]).to_string()
}

#[test]
fn a_restored_till_takes_back_what_the_hub_holds_before_it_records() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let node = till(&dir);
    captured(&node, 0, 10);
    drop(hub);
    // Some of them wait unsealed when the backup is made, and are sealed by the old till afterwards.
    captured(&node, 10, 15);
    let to = company.folder().join("backup");
    let made = backup(&dir, &to);
    assert_eq!(
        (made["live"].as_bool(), made["checked"]["records"].as_u64() >= Some(10)),
        (Some(true), true),
        "{made}"
    );
    let hub = company.hub();
    captured(&node, 15, 30);
    until("all at the hub", || company.records() == 30);
    drop(node);
    hub.stop();
    // A backup is not run, and not brought back over anything.
    let run = tillsync(&["terminal", "run", "--http", "127.0.0.1:0", "--dir", path(&to)], "");
    assert!(String::from_utf8_lossy(&run.stderr).contains("is a backup"), "{:?}", run.stderr);
    let over = tillsync(&["restore", "--from", path(&to), "--dir", path(&dir)], "");
    assert!(String::from_utf8_lossy(&over.stderr).contains("not empty"), "{:?}", over.stderr);
    let restored = restore(&to, company.folder(), "restored");
    let node = till(&restored);
    let (code, said) = capture(&node, 100, 101);
    assert!(code != Some(0) && said.contains("restored from a backup"), "{said}");
    let _hub = company.hub();
    until("the till has its records back", || capture(&node, 100, 101).0 == Some(0));
    assert_eq!(node.status()["head_seq"], 31, "it goes on behind what the hub held");
    until("the new sale at the hub", || company.records() == 31);
    assert!(!cases(&company).contains("CLONED_TERMINAL"), "{}", cases(&company));
    let drawer = company.balances()["Assets:Cash:Drawer:till-01 GBP"];
    assert_eq!(drawer, (0..30).chain([100]).map(|n| 100 + n).sum::<i64>(), "nothing twice");
    node.stop();
    assert!(!restored.join("restored.json").exists(), "the waiting is over for good");
    let node = till(&restored);
    captured(&node, 101, 102);
    node.stop();
    assert_verified(&restored);
}

#[test]
fn a_restored_till_that_could_not_ask_makes_a_fork_that_is_seen() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let node = till(&dir);
    captured(&node, 0, 5);
    until("at the hub", || company.records() == 5);
    let to = company.folder().join("backup");
    backup(&dir, &to);
    captured(&node, 5, 10);
    until("all at the hub", || company.records() == 10);
    drop(node);
    drop(hub);
    let restored = restore(&to, company.folder(), "restored");
    let node = till_with(&restored, &["--write-at-once"]);
    captured(&node, 200, 203);
    let hub = company.hub();
    until("the fork seen", || cases(&company).contains("CLONED_TERMINAL"));
    let drawer = company.balances()["Assets:Cash:Drawer:till-01 GBP"];
    let taken: i64 = (0..10).chain(200..203).map(|n| 100 + n).sum();
    assert_eq!(drawer, taken, "both branches are in the books");
    node.stop();
    hub.stop();
    assert_verified(&company.dir);
    assert_verified(&restored);
}

#[test]
fn a_restored_hub_takes_back_what_its_tills_hold_before_it_states_anything() {
    let mut company = Company::encrypted("Shops");
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let key = company.key.clone();
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    let node = till_with(&dir, &key);
    captured(&node, 0, 10);
    until("at the hub", || company.records() == 10);
    let to = company.folder().join("backup");
    json(&[&["backup", "--dir", path(&company.dir), "--to", path(&to), "--json"][..], &key].concat());
    captured(&node, 10, 20);
    until("all at the hub", || company.records() == 20);
    node.stop();
    drop(hub);
    let restored = company.folder().join("restored");
    json(&[&["restore", "--from", path(&to), "--dir", path(&restored), "--json"][..], &key].concat());
    company.dir = restored;
    let hub = company.hub();
    assert_eq!(company.records(), 10);
    let set = ["policy", "set", "--store", "store-1", "refund_limit_minor=5000", "--dir", path(&company.dir)];
    let set = [&set[..], &key].concat();
    let refused = tillsync(&set, "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("restored from a backup"), "{refused:?}");
    let node = till_with(&dir, &key);
    until("the hub has taken back", || company.records() == 20);
    until("and states again", || tillsync(&set, "").status.success());
    captured(&node, 20, 25);
    until("goes on", || company.records() == 25);
    assert!(!cases(&company).contains("CLONED_TERMINAL"));
    node.stop();
    hub.stop();
    let verified = tillsync(&[&["verify", "--dir", path(&company.dir)][..], &key].concat(), "");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// The format of a data directory: one from before manifests opens and is brought up to date, a newer one is refused.
#[test]
fn an_older_directory_is_migrated_and_a_newer_one_refused() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let node = till(&dir);
    captured(&node, 0, 3);
    node.stop();
    hub.stop();
    for dir in [&dir, &company.dir.clone()] {
        fs::remove_file(dir.join("manifest")).unwrap();
    }
    assert_verified(&dir);
    let hub = company.hub();
    let node = till(&dir);
    captured(&node, 3, 5);
    until("at the hub", || company.records() == 5);
    node.stop();
    hub.stop();
    for dir in [&dir, &company.dir] {
        assert!(dir.join("manifest").exists(), "migrated");
        assert_verified(dir);
        fs::write(dir.join("manifest"), r#"{"format": 2, "else": 1}"#).unwrap();
    }
    let run = tillsync(&["terminal", "run", "--http", "127.0.0.1:0", "--dir", path(&dir)], "");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(
        run.status.code() == Some(1) && said.contains("format 2") && said.contains("update tillsync"),
        "{said}"
    );
}
