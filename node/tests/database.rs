//! A company whose hub keeps its log in PostgreSQL: real processes, real QUIC, a real server; connections cut and hubs killed
//! while tills sell, a server that is away, and the same books from the database and from segment files.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use common::postgres::Server;
use common::{Company, captured, json, path, sales, till, tillsync, until, void};
use serde_json::Value;

/// Name and view hash of every store.
fn books(company: &Company) -> BTreeMap<String, String> {
    let stores = company.ask(&["stores"]);
    let named = |store: &Value| {
        (store["store"].as_str().unwrap().to_owned(), store["view_hash"].as_str().unwrap().to_owned())
    };
    stores.as_array().unwrap().iter().map(named).collect()
}

fn verified(dir: &Path, more: &[&str]) -> Value {
    json(&[&["verify", "--json", "--dir", path(dir)], more].concat())
}

fn get(url: &str) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent.get(url).call().unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// Two tills sell, offline and online, void one sale twice, while the hub is killed and its connections are cut. Nothing is
/// lost and nothing is there twice; `verify` finds nothing wrong; and the same records in segment files make the same books.
#[test]
fn hubs_are_killed_and_connections_cut_and_the_books_are_those_of_the_embedded_store() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let at = ["--database", url.as_str()];
    let mut company = Company::new();
    let mut hub = company.hub_with(&at, false);
    let dirs = [company.join("store-1", "till-01"), company.join("store-2", "till-02")];
    let twin = company.join("store-1", "till-03");
    let [one, two, three] = [till(&dirs[0]), till(&dirs[1]), till(&twin)];
    captured(&one, &sales("A", 0, 20));
    captured(&two, &sales("B", 0, 20));
    until("forty at the hub", || company.records() == 40);
    let knows = ["custody", "A-3", "--api", &three.http];
    until("the other till knows the sale", || tillsync(&knows, "").status.success());
    // In the dark, both tills of the store void the same sale.
    hub.kill();
    captured(&one, &[void("V-1", "A-3", 103)]);
    captured(&three, &[void("V-2", "A-3", 103)]);
    captured(&one, &sales("A", 20, 40));
    captured(&two, &sales("B", 20, 40));
    for round in 0..5 {
        hub = company.hub_with(&at, false);
        let from = 40 + 20 * round;
        captured(&one, &sales("A", from, from + 20));
        server.cut();
        captured(&two, &sales("B", from, from + 20));
        server.cut();
        hub.kill();
    }
    hub = company.hub_with(&at, false);
    let all = 140 + 140 + 2;
    until("everything at the hub", || company.records() == all);
    let (balances, hashes) = (company.balances(), books(&company));
    let of = |till: &str| balances[&format!("Assets:Cash:Drawer:{till} GBP")];
    let sold: i64 = (0..140).map(|n| 100 + n).sum();
    assert_eq!(
        (of("till-01"), of("till-02"), of("till-03")),
        (sold - 103, sold, -103),
        "nothing lost, nothing twice"
    );
    let cases = company.ask(&["cases"]).to_string();
    assert!(cases.contains("REVERSAL_CONFLICT"), "{cases}");
    assert_eq!(balances.values().sum::<i64>(), 0);
    hub.stop();
    drop((one, two, three));
    let report = verified(&company.dir, &at);
    assert!(report["checked"]["records"].as_u64() >= Some(all), "{report}");
    let per_store = server.sql("SELECT count(DISTINCT store) FROM tillsync.entry WHERE store <> ''");
    assert_eq!(per_store, "2", "a store's entries can be found");

    // The same records in segment files: a backup of this hub, brought back, runs without the database.
    let (backup, embedded) = (company.folder().join("backup"), company.folder().join("embedded"));
    let made = json(&["backup", "--dir", path(&company.dir), "--to", path(&backup), "--json", at[0], at[1]]);
    assert_eq!(made["checked"]["records"], report["checked"]["records"]);
    json(&["restore", "--from", path(&backup), "--dir", path(&embedded), "--json"]);
    verified(&embedded, &[]);
    company.dir = embedded;
    let hub = company.hub_with(&["--write-at-once"], false);
    assert_eq!(books(&company), hashes, "the same books from both stores");
    assert_eq!(company.balances(), balances);
    hub.stop();
}

/// While the database is away tills go on selling and keep what they sold; the hub says so and acknowledges nothing. When
/// it is back, everything arrives by itself.
#[test]
fn tills_keep_their_records_while_the_database_is_away() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let mut company = Company::new();
    let hub = company.hub_with(&["--database", &url], false);
    let node = till(&company.join("store-1", "till-01"));
    captured(&node, &sales("A", 0, 10));
    until("ten at the hub", || node.status()["at_hub_through"]["seq"].as_u64() == Some(10));
    let ready = || get(&format!("{}/readyz", hub.http)).0;
    assert_eq!(ready(), 200);
    server.stop("immediate");
    until("the hub says so", || ready() == 503);
    captured(&node, &sales("A", 10, 300));
    until("everything waits at the till", || node.status()["waiting"]["count"].as_u64() == Some(290));
    assert_eq!(node.status()["at_hub_through"]["seq"].as_u64(), Some(10), "nothing is acknowledged");
    assert_eq!(get(&format!("{}/healthz", hub.http)).0, 200, "the hub itself lives");
    server.resume();
    until("it is back", || ready() == 200);
    until("everything at the hub", || node.status()["at_hub_through"]["seq"].as_u64() == Some(300));
    // Stopped while the database is away, the hub ends in time and loses nothing.
    server.stop("fast");
    captured(&node, &sales("A", 300, 310));
    assert_eq!(hub.ended(), Some(1), "it ends, and says that something waited");
    server.resume();
    let hub = company.hub_with(&["--database", &url], false);
    until("everything at the hub", || company.records() == 310);
    hub.stop();
    verified(&company.dir, &["--database", &url]);
}

/// The store that a directory was begun with is kept, and said; the address may come in the environment, where no list of
/// processes shows it.
#[test]
fn the_store_of_a_directory_is_kept_and_named() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let begun = |company: &Company| company.dir.clone();
    let run = |dir: &Path, url: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tillsync"));
        command.args(["hub", "enroll", "--store", "s", "--terminal", "t", "--dir", path(dir)]);
        command.env_remove("TILLSYNC_DATABASE").stdin(Stdio::null());
        if let Some(url) = url {
            command.env("TILLSYNC_DATABASE", url);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (files, kept) = (Company::new(), Company::new());
    assert_eq!(run(&begun(&files), None).0, Some(0));
    let (code, said) = run(&begun(&files), Some(&url));
    assert!(code == Some(1) && said.contains("is in the directory itself"), "{said}");
    assert_eq!(run(&begun(&kept), Some(&url)).0, Some(0), "begun in the database");
    let (code, said) = run(&begun(&kept), None);
    assert!(code == Some(1) && said.contains("TILLSYNC_DATABASE") && said.contains("127.0.0.1"), "{said}");
    let (code, said) = run(&begun(&kept), Some(&server.url_of("postgres", "wrong", "postgres")));
    assert!(
        code == Some(1) && said.contains("check user and password") && !said.contains("wrong@"),
        "{said}"
    );
    let encrypted = ["key", "encrypt", "--dir", path(&kept.dir)];
    let key = kept.folder().join("key");
    assert!(tillsync(&["key", "new", path(&key)], "").status.success());
    let refused = tillsync(&[&encrypted[..], &["--key-file", path(&key)]].concat(), "");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("its log is in a database"), "{refused:?}");

    let status = json(&["db", "status", "--json", "--database", &url]);
    assert_eq!(status["version"], status["known"], "{status}");
    server.sql("UPDATE tillsync.schema_version SET version = version + 1");
    let (code, said) = run(&begun(&kept), Some(&url));
    assert!(code == Some(1) && said.contains("update tillsync"), "{said}");
    let migrate = tillsync(&["db", "migrate", "--database", &url], "");
    assert!(!migrate.status.success(), "{migrate:?}");
    server.sql("DROP SCHEMA tillsync CASCADE");
    let migrated = json(&["db", "migrate", "--json", "--database", &url]);
    assert_eq!((migrated["migrated_from"].as_i64(), &migrated["version"]), (Some(0), &status["known"]));
    let (code, said) = run(&begun(&kept), Some(&url));
    assert!(code == Some(1) && said.contains("has no log"), "a log that is gone is not begun anew: {said}");
}

/// The database is replaced by an older copy: the hub refuses to go on with it as if nothing had happened. Accepted as lost, it
/// takes back from the tills what they hold, and the tables of the books follow.
#[test]
fn an_older_database_is_refused_and_made_good_from_the_tills() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let at = ["--database", url.as_str()];
    let mut company = Company::new();
    let hub = company.hub_with(&at, false);
    let node = till(&company.join("store-1", "till-01"));
    captured(&node, &sales("A", 0, 20));
    until("twenty at the hub", || company.records() == 20);
    hub.stop();
    let dir = company.dir.clone();
    let accept = ["db", "accept-loss", "--dir", path(&dir), at[0], at[1]];
    let nothing = tillsync(&accept, "");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("has everything"), "{nothing:?}");
    // Beside the tables of before, which reach further in the books than the older log will.
    server.sql("CREATE TABLE old_log AS TABLE tillsync.log; CREATE TABLE old_entry AS TABLE tillsync.entry");
    let hub = company.hub_with(&at, false);
    captured(&node, &sales("A", 20, 70));
    until("seventy at the hub", || company.records() == 70);
    let (balances, receipts) = (company.balances(), || server.sql("SELECT count(*) FROM ledger.receipts"));
    until("seventy in the tables", || receipts() == "70");
    hub.stop();
    server.sql(
        "DELETE FROM tillsync.entry; INSERT INTO tillsync.entry SELECT * FROM old_entry;
        DELETE FROM tillsync.log; INSERT INTO tillsync.log SELECT * FROM old_log",
    );
    let run = ["hub", "run", "--dir", path(&company.dir), "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let refused = tillsync(&[&run[..], &at].concat(), "");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("is an older copy"), "{said}");
    let output = tillsync(&["verify", "--json", "--dir", path(&company.dir), at[0], at[1]], "");
    assert_eq!(output.status.code(), Some(4), "{output:?}");

    let accepted = tillsync(&accept, "");
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    let hub = company.hub_with(&at, false);
    until("seventy at the hub again", || company.records() == 70);
    assert_eq!(company.balances(), balances);
    let sum = "SELECT count(*), sum(total_minor) FROM ledger.receipts";
    let sold: i64 = (0..70).map(|n| 100 + n).sum();
    until("the tables follow", || server.sql(sum) == format!("70|{sold}"));
    let behind = "SELECT count(*) FROM ledger.journal_entries e FULL JOIN ledger.receipts r ON r.record_id = e.record_id
        WHERE e.number IS NULL OR r.receipt IS NULL";
    until("every receipt has its entry", || server.sql(behind) == "0");
    hub.stop();
    verified(&company.dir, &at);
}
