//! Much at once: what an outage leaves behind arrives in one go, with a case for every record, and nothing stops over it.

mod common;

use std::fmt::Write;

use common::{Company, assert_verified, sale, till, tillsync, until};

/// More cases than appends may wait for the disk.
const SALES: usize = 9_000;

#[test]
fn a_case_for_each_of_nine_thousand_records_at_once_stops_neither_hub_nor_till() {
    let mut company = Company::new();
    let hub = company.hub();
    let dirs = [company.join("store-1", "till-01"), company.join("store-1", "till-02")];
    hub.stop();
    let mut basket = String::new();
    for number in 0..SALES {
        // The same basket again and again: each looks like a duplicate of the one before.
        writeln!(basket, "{}", sale(&format!("R-{number}"), 100)).unwrap();
    }
    let seller = till(&dirs[0]);
    let beside = till(&dirs[1]);
    assert!(tillsync(&["capture", "-", "--api", &seller.http], &basket).status.success());
    let hub = company.hub();
    until("all of it at the hub", || company.records() == SALES as u64);
    until("nothing waits", || seller.status()["waiting"]["count"] == 0);
    let cases = company.ask(&["stores"])[0]["open_cases"].as_u64().unwrap();
    assert!(cases > 8_000, "{cases} cases");
    // All three go on recording, without a restart.
    company.ask(&["policy", "set", "--store", "store-1", "refund_limit_minor=7700"]);
    for (node, receipt) in [(&seller, "LAST-1"), (&beside, "LAST-2")] {
        let output = tillsync(&["capture", "-", "--api", &node.http], &sale(receipt, 250));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    until("the last sales at the hub", || company.records() == SALES as u64 + 2);
    seller.stop();
    beside.stop();
    hub.stop();
    assert_verified(&company.dir);
    assert_verified(&dirs[1]);
}
