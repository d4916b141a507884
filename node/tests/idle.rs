//! A company in which nothing happens: nobody is asked in vain, and yet what happens next is noticed at once.

mod common;

use std::time::{Duration, Instant};

use common::{Company, Node, captured, json, sale, till, until};

/// How often something was noted at a node.
fn noted(node: &Node, event: &str) -> usize {
    let all = json(&["audit", "--json", "--api", &node.http]);
    all.as_array().unwrap().iter().filter(|row| row["event"] == event).count()
}

#[test]
fn a_return_of_another_stores_sale_finds_it_whichever_comes_first() {
    let mut company = Company::new();
    let _hub = company.hub();
    let vouched = || {
        let all = company.ask(&["audit"]);
        all.as_array().unwrap().iter().filter(|row| row["event"] == "vouched").count()
    };
    let north = till(&company.join("north", "n"));
    let south = till(&company.join("south", "s"));
    let refund = |receipt: &str, of: &str| {
        let refund = sale(receipt, 100).replace("\"kind\":\"sale\"", "\"kind\":\"refund\"");
        refund.replacen('{', &format!("{{\"original_receipt\":\"{of}\",\"reason\":\"damaged\","), 1)
    };
    captured(&north, &[sale("n-1", 100)]);
    captured(&south, &[refund("s-1", "n-1")]);
    until("the sale is found", || vouched() == 1);
    // Long enough for everybody to have found nothing new.
    std::thread::sleep(Duration::from_secs(1));
    captured(&south, &[refund("s-2", "n-2")]);
    until("the hub has the return", || company.records() == 3);
    captured(&north, &[sale("n-2", 100)]);
    until("the later sale is found", || vouched() == 2);
}

#[test]
fn an_only_hub_that_is_killed_and_started_again_has_its_idle_till_back_at_once() {
    let mut company = Company::new();
    let mut hub = company.hub();
    let till = till(&company.join("north", "n"));
    // A quarter to three quarters of a minute after it came.
    until("the till lets its link rest", || noted(&till, "paced") == 1);
    let is_online = |company: &Company| company.ask(&["stores"])[0]["online"] == 1;
    until("it is back after that", || is_online(&company));
    let callers = company.dir.join("callers");
    until("the hub knows whom to tell", || callers.exists());
    std::thread::sleep(Duration::from_secs(3));
    hub.kill();
    std::thread::sleep(Duration::from_secs(1));
    let hub = company.hub();
    let back = Instant::now();
    until("the till is back", || is_online(&company));
    // Its next word is up to ten seconds away; the machine may be slow.
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    assert_eq!(noted(&till, "paced"), 1, "it knows its hub");
    hub.stop();
    assert!(!callers.exists(), "nobody is left to be told");
}
