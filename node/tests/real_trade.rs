//! Three days of real trade of twelve tills in three stores, captured while the hub is down: the books equal the
//! file's control totals, to the penny, and an accounting program accepts the export.

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::{Company, Node, assert_verified, path, shared, till, tillsync, until};
use serde_json::Value;

#[test]
fn a_file_of_real_transactions_captured_offline_makes_books_that_equal_its_control_totals() {
    let Some(text) = shared("data/uci-sample/transactions.ndjson") else { return };
    let Some(control) = shared("data/uci-sample/control_totals.json") else { return };
    let mut parts: BTreeMap<(String, String), String> = BTreeMap::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let name = |field: &str| row[field].as_str().unwrap().to_owned();
        let part = parts.entry((name("store"), name("terminal"))).or_default();
        part.push_str(line);
        part.push('\n');
    }
    assert_eq!(parts.len(), 12);

    let mut company = Company::new();
    let hub = company.hub();
    let dirs: Vec<_> = parts.keys().map(|(store, terminal)| company.join(store, terminal)).collect();
    for store in ["store-1", "store-2", "store-3"] {
        let settings =
            ["policy", "set", "--store", store, "refund_limit_minor=unlimited", "blind_refunds=allow"];
        company.ask(&settings);
    }
    hub.stop();

    let tills: Vec<Node> = dirs.iter().map(|dir| till(dir)).collect();
    for (node, part) in tills.iter().zip(parts.values()) {
        let output = tillsync(&["capture", "-", "--api", &node.http], part);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), part.lines().count());
    }
    assert_eq!(tills[0].status()["online"], false);

    let hub = company.hub();
    until("every record at the hub", || company.records() == 373);
    until("references across stores resolved", || {
        !company.balances().keys().any(|name| name.contains("Suspense"))
    });
    let control: Value = serde_json::from_str(&control).unwrap();
    let expected = &control["GBP"]["expected_ledger"];
    let balances = company.balances();
    let sum =
        |prefix: &str| balances.iter().filter(|row| row.0.starts_with(prefix)).map(|row| row.1).sum::<i64>();
    let rows = [
        ("Assets:Cash", "assets:cash"),
        ("Assets:Card:Clearing", "assets:card-clearing"),
        ("Liabilities:Sales-Tax", "liabilities:sales-tax"),
        ("Income:Sales", "income:sales (sales less voids, net of tax)"),
        ("Income:Returns", "income:returns (refunds, net of tax)"),
    ];
    for (account, name) in rows {
        assert_eq!(Some(sum(account)), expected[name].as_i64(), "{account}");
    }
    assert_eq!(balances.values().sum::<i64>(), 0, "the trial balance");

    let out = company.folder().join("export");
    let arguments = ["export", "--format", "hledger", "--out", path(&out), "--dir", path(&company.dir)];
    assert!(tillsync(&arguments, "").status.success());
    let file = std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    match Command::new("hledger").args(["-f", path(&file), "check", "--strict"]).output() {
        Ok(checked) => assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr)),
        Err(_) => eprintln!("skipped: hledger is not installed"),
    }
    let again = company.ask(&["export", "--format", "hledger", "--batch", "1"]);
    assert_eq!(again["files"][0]["content"].as_str(), Some(std::fs::read_to_string(&file).unwrap().as_str()));

    until("every till level", || tills.iter().all(|node| node.status()["waiting"]["count"] == 0));
    for node in tills {
        node.stop();
    }
    hub.stop();
    for dir in dirs.iter().chain([&company.dir]) {
        assert_verified(dir);
    }
}
