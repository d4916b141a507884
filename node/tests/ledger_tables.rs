//! The books as tables in the hub's database: what people query is what the hub's own API says, each thing once, while hubs
//! are killed and connections are cut; a gapless feed of changes; a role that may read and nothing else.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::postgres::Server;
use common::{Company, captured, json, path, sales, till, tillsync, until, void};
use serde_json::Value;

/// "account currency" and minor units, as the views have them.
fn balances(server: &Server) -> BTreeMap<String, i64> {
    let rows = server.sql(
        "SELECT account || ' ' || currency, sum(amount_minor) FROM ledger.balances GROUP BY account, currency
        HAVING sum(amount_minor) <> 0",
    );
    let row =
        |line: &str| line.rsplit_once('|').map(|(account, sum)| (account.to_owned(), sum.parse().unwrap()));
    rows.lines().filter_map(row).collect()
}

/// Things that must hold in the tables at any moment.
fn assert_consistent(server: &Server) {
    let empty = [
        (
            "a posting is in the balances once",
            "SELECT store, account, currency, sum(amount_minor) FROM ledger.postings
            GROUP BY store, account, currency HAVING sum(amount_minor) <> 0
            EXCEPT SELECT store, account, currency, amount_minor FROM ledger.balances",
        ),
        (
            "the balances rest on postings",
            "SELECT store, account, currency, amount_minor FROM ledger.balances
            EXCEPT SELECT store, account, currency, sum(amount_minor) FROM ledger.postings
            GROUP BY store, account, currency",
        ),
        (
            "every entry balances",
            "SELECT store, number, currency FROM ledger.postings
            GROUP BY store, number, currency HAVING sum(amount_minor) <> 0",
        ),
        (
            "numbers of the journal are gapless",
            "SELECT store FROM ledger.journal_entries GROUP BY store
            HAVING count(*) <> max(number) OR min(number) <> 1",
        ),
        (
            "numbers of the feed are gapless",
            "SELECT hub FROM ledger.changes GROUP BY hub
            HAVING count(*) <> max(seq) OR min(seq) <> 1",
        ),
        (
            "the feed tells each entry once",
            "SELECT store, subject FROM ledger.changes WHERE topic = 'journal_entry'
            GROUP BY store, subject HAVING count(*) <> 1",
        ),
        (
            "the feed tells every entry",
            "SELECT store, number::text FROM ledger.journal_entries
            EXCEPT SELECT store, subject FROM ledger.changes WHERE topic = 'journal_entry'",
        ),
        (
            "the feed tells each receipt once",
            "SELECT store, subject FROM ledger.changes WHERE topic = 'receipt'
            GROUP BY store, subject HAVING count(*) <> 1",
        ),
        (
            "every account is in the chart",
            "SELECT account FROM ledger.postings EXCEPT SELECT account FROM ledger.accounts",
        ),
    ];
    for (claim, query) in empty {
        assert_eq!(server.sql(query), "", "{claim}");
    }
}

fn count(server: &Server, query: &str) -> usize {
    server.sql(&format!("SELECT count(*) FROM {query}")).parse().unwrap()
}

/// Waits until the tables say what the hub says.
fn until_level(company: &Company, server: &Server, records: usize) {
    until("everything at the hub", || company.records() == records as u64);
    until("every receipt in the tables", || count(server, "ledger.receipts") == records);
    until("the same balances", || balances(server) == company.balances());
    assert_consistent(server);
}

/// Id, type and state of each case, from the hub and from the tables.
fn cases(company: &Company, server: &Server) -> [Vec<String>; 2] {
    let listed = company.ask(&["cases"]);
    let word = |case: &Value, field: &str| case[field].as_str().unwrap().to_owned();
    let said = |case: &Value| format!("{}|{}|{}", word(case, "id"), word(case, "type"), word(case, "state"));
    let mut told: Vec<String> = listed.as_array().unwrap().iter().map(said).collect();
    let rows = server.sql("SELECT case_id, type, state FROM ledger.cases");
    let mut there: Vec<String> = rows.lines().map(str::to_owned).collect();
    told.sort();
    there.sort();
    [told, there]
}

fn custody(server: &Server, receipt: &str) -> String {
    server.sql(&format!("SELECT custody FROM ledger.receipts WHERE receipt = '{receipt}'"))
}

#[test]
fn the_tables_say_what_the_hub_says_and_each_thing_once() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let at = ["--database", url.as_str()];
    let mut company = Company::new();
    let mut hub = company.hub_with(&at, false);
    let dirs = [company.join("store-1", "till-01"), company.join("store-2", "till-02")];
    let twin = company.join("store-1", "till-03");
    let [one, two, three] = [till(&dirs[0]), till(&dirs[1]), till(&twin)];
    captured(&one, &sales("A", 0, 30));
    captured(&two, &sales("B", 0, 30));
    until_level(&company, &server, 60);
    let knows = ["custody", "A-3", "--api", &three.http];
    until("the other till knows the sale", || tillsync(&knows, "").status.success());

    // Hubs are killed and every connection cut, the follower's too, while tills sell.
    hub.kill();
    captured(&one, &[void("V-1", "A-3", 103)]);
    captured(&three, &[void("V-2", "A-3", 103)]);
    for round in 0..6 {
        hub = company.hub_with(&at, false);
        let from = 30 + 20 * round;
        captured(&one, &sales("A", from, from + 20));
        server.cut();
        captured(&two, &sales("B", from, from + 20));
        std::thread::sleep(Duration::from_millis(150 * round as u64));
        server.cut();
        assert_consistent(&server);
        hub.kill();
    }
    hub = company.hub_with(&at, false);
    let all = 30 + 30 + 2 + 240;
    until_level(&company, &server, all);
    until("the same cases", || {
        let [told, there] = cases(&company, &server);
        told == there
    });
    let held = server.sql(
        "SELECT r.receipt FROM ledger.case_members m JOIN ledger.receipts r
        ON r.store = m.store AND r.record_id = m.record_id WHERE m.held IS NOT NULL",
    );
    assert!(held == "V-1" || held == "V-2", "{held}");
    assert_eq!((custody(&server, &held).as_str(), custody(&server, "A-5").as_str()), ("in_review", "posted"));
    let day = server.sql("SELECT DISTINCT business_day FROM ledger.receipts WHERE store = 'store-1'");
    let told = company.ask(&["close-status", "--store", "store-1", "--day", day.lines().next().unwrap()]);
    for row in told["terminals"].as_array().unwrap() {
        let terminal = row["terminal"].as_str().unwrap();
        let day = told["day"].as_str().unwrap();
        let query = format!(
            "SELECT state || ' ' || records FROM ledger.store_days
            WHERE store = 'store-1' AND day = '{day}' AND terminal = '{terminal}'"
        );
        assert_eq!(server.sql(&query), format!("{} {}", row["state"].as_str().unwrap(), row["records"]));
    }

    // What a reviewer decides and what is exported shows, too.
    let case = company.ask(&["cases", "--type", "REVERSAL_CONFLICT"])[0]["id"].as_str().unwrap().to_owned();
    let decide =
        ["decide", &case, "--action", "over-short", "--reason", "counted", "--dir", path(&company.dir)];
    let decided = tillsync(&decide, "");
    assert!(decided.status.success(), "{}", String::from_utf8_lossy(&decided.stderr));
    until("the decision in the tables", || {
        let [told, there] = cases(&company, &server);
        told == there && custody(&server, &held) == "posted"
    });
    let out = company.folder().join("export");
    json(&["export", "--format", "csv", "--out", path(&out), "--dir", path(&company.dir), "--json"]);
    until("the export in the tables", || custody(&server, "A-5") == "exported");
    assert_eq!(count(&server, "ledger.receipts WHERE custody <> 'exported'"), 0);
    assert_consistent(&server);
    hub.stop();

    // Nothing in them is believed: emptied, they are filled anew; the feed goes on.
    let before = balances(&server);
    server.sql("TRUNCATE tillsync.follower, tillsync.journal_entry, tillsync.posting, tillsync.balance, tillsync.receipt,
        tillsync.review_case, tillsync.case_member, tillsync.store_day, tillsync.change, tillsync.feed");
    let hub = company.hub_with(&at, false);
    until_level(&company, &server, all);
    assert_eq!(balances(&server), before);
    until("the same cases", || {
        let [told, there] = cases(&company, &server);
        told == there
    });
    hub.stop();
    drop((one, two, three));
}

/// Whoever listens is woken, and reads from the feed what came after the last number he has seen; with a role that may
/// read the views and nothing else.
#[test]
fn a_reader_is_woken_and_can_only_read() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let mut company = Company::new();
    let hub = company.hub_with(&["--database", &url], false);
    let node = till(&company.join("store-1", "till-01"));
    captured(&node, &sales("A", 0, 5));
    until_level(&company, &server, 5);
    server.sql("CREATE ROLE accounting LOGIN PASSWORD 'pencil'");
    let granted = tillsync(&["db", "grant", "accounting", "--database", &url], "");
    assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stderr));
    let ask = |query: &str| server.sql_as("accounting", "pencil", query);
    let seen: i64 = ask("SELECT max(seq) FROM ledger.changes").unwrap().parse().unwrap();

    let mut listener = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", &server.url_of("accounting", "pencil", "postgres")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut asks = listener.stdin.take().unwrap();
    let mut answers = BufReader::new(listener.stdout.take().unwrap());
    asks.write_all(b"LISTEN tillsync_changes;\nSELECT 'listening';\n").unwrap();
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "listening");
    captured(&node, &sales("A", 5, 6));
    until_level(&company, &server, 6);
    asks.write_all(b"SELECT 'woken';\n").unwrap();
    drop(asks);
    let mut said = String::new();
    answers.read_to_string(&mut said).unwrap();
    listener.wait().unwrap();
    assert!(said.contains("\"tillsync_changes\""), "{said}");
    let new = ask(&format!("SELECT topic FROM ledger.changes WHERE seq > {seen} ORDER BY seq")).unwrap();
    assert!(new.contains("receipt") && new.contains("journal_entry"), "{new}");

    for refused in [
        "SELECT * FROM tillsync.entry",
        "SELECT * FROM tillsync.receipt",
        "DELETE FROM ledger.changes",
        "UPDATE ledger.balances SET amount_minor = 0",
        "CREATE TABLE ledger.mine (x integer)",
    ] {
        let said = ask(refused).expect_err(refused);
        assert!(said.contains("permission denied"), "{refused}: {said}");
    }
    let nobody = tillsync(&["db", "grant", "nobody\"s", "--database", &url], "");
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("does not exist"), "{nobody:?}");
    hub.stop();
}

/// A hub that stood still wakes up: its log is another process's by now, whose follower has brought the tables further than this
/// one's log reaches. To it they look like tables of a log that was replaced; it empties nothing.
#[test]
fn a_hub_whose_log_was_taken_neither_empties_tables_nor_writes_into_them() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let mut company = Company::new();
    let mut hub = company.hub_with(&["--database", &url], false);
    let node = till(&company.join("store-1", "till-01"));
    for round in 0..3 {
        captured(&node, &sales("A", 2 * round, 2 * round + 1));
        until_level(&company, &server, 2 * round + 1);
        std::thread::scope(|scope| {
            // What the next hub would have done, while the follower of this one is about to write.
            scope.spawn(|| {
                server.sql(
                    "BEGIN; LOCK TABLE tillsync.follower IN EXCLUSIVE MODE; SELECT pg_sleep(3);
                    UPDATE tillsync.log SET fence = fence + 1, writer = decode(repeat('00', 16), 'hex');
                    UPDATE tillsync.follower SET batches = batches + 1000; COMMIT",
                );
            });
            std::thread::sleep(Duration::from_millis(2_000));
            captured(&node, &sales("A", 2 * round + 1, 2 * round + 2));
        });
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let ready = format!("{}/readyz", hub.http);
        until("it has noticed", || agent.get(&ready).call().is_ok_and(|answer| answer.status() == 503));
        hub.ended();
        assert_eq!(count(&server, "ledger.changes WHERE topic = 'store_emptied'"), 0, "round {round}");
        assert_eq!(count(&server, "ledger.receipts"), 2 * round + 1, "round {round}");
        assert_consistent(&server);
        server.sql("UPDATE tillsync.follower SET batches = batches - 1000");
        hub = company.hub_with(&["--database", &url], false);
        until_level(&company, &server, 2 * round + 2);
    }
    hub.stop();
}
