//! A hub acknowledges what is durable before its books have it, and a till that rests seals what fills a batch: nothing of it
//! may change what anybody holds in the end.

#[allow(dead_code, reason = "other tests use more of it")]
mod shop;

use engine::entry::Entry;
use engine::replica::{Capture, Input};
use engine::review::Knowledge;
use engine::sync::Dialect;
use engine::transaction::{Draft, Enrolment, HubRecord};

use shop::{HUB, Node, Shop, identity, log, writer};

/// Batches in a node's log with their records.
fn batches(shop: &Shop, at: usize) -> Vec<usize> {
    let of = |line: &engine::host::Line| match Entry::decode(line.kind, &line.bytes) {
        Ok((_, Entry::Batch(batch))) => {
            Some(engine::batch::Sealed::reopen(batch.bytes.into()).unwrap().batch.entries.len())
        }
        _ => None,
    };
    shop.nodes[at].log.iter().filter_map(of).collect()
}

/// A hub that is busy, linked with two tills that have sold offline; everything was carried.
fn busy_with(sales: u64) -> Shop {
    let mut shop = Shop::new(2);
    shop.give(HUB, Input::Wakeup);
    for sale in 0..sales {
        shop.sell(1 + usize::try_from(sale % 2).unwrap());
    }
    shop.busy = true;
    shop.link(1, Dialect::Short);
    shop.link(2, Dialect::Short);
    shop
}

#[test]
fn a_busy_hub_acknowledges_what_its_books_do_not_have_yet_and_they_follow() {
    let mut shop = busy_with(40);
    let hub = &shop.nodes[HUB].host;
    assert_eq!((hub.replica().backlog(), hub.replica().books().len()), (40, 2), "two enrolments were filed");
    for till in [1, 2] {
        assert_eq!(shop.nodes[till].host.replica().waiting().count, 0, "the hub holds what till {till} sold");
    }
    shop.busy = false;
    shop.assert_level(40);
    assert_eq!(shop.nodes[HUB].host.replica().backlog(), 0);
    assert!(shop.nobody_ended());
}

/// Voids till 1's sale of that token at a till.
fn void(shop: &mut Shop, till: usize, sale: u64) {
    shop.token += 1;
    shop.now.ms += 1_000;
    let (token, amount) = (shop.token, 100 + sale);
    let text = format!(
        r#"{{"kind":"void","receipt":"V-{till}-{token:06}","reverses":"sale","original_receipt":"R-1-{sale:06}",
        "operator":"op-1","approver":"op-2","currency":"GBP","tenders":[{{"type":"cash","amount_minor":{amount}}}],
        "lines":[{{"sku":"SKU-{sale:08}","quantity":"1","amount_minor":{amount}}}]}}"#
    );
    shop.give(till, Input::Capture(vec![Capture { token, draft: Draft::from_json(&text).unwrap() }]));
}

#[test]
fn what_a_till_knew_counts_although_its_record_is_filed_later() {
    let void_twice = |till_2_knows: bool| {
        let mut shop = Shop::new(2);
        shop.give(HUB, Input::Wakeup);
        shop.link(1, Dialect::Short);
        shop.link(2, Dialect::Short);
        shop.sell_live(1);
        let sale = shop.token;
        if !till_2_knows {
            shop.cut(2);
        }
        void(&mut shop, 1, sale);
        shop.carry();
        void(&mut shop, 2, sale);
        shop.busy = true;
        if till_2_knows {
            shop.carry();
        } else {
            shop.link(2, Dialect::Short);
        }
        assert_eq!(shop.nodes[HUB].host.replica().backlog(), 1, "the second void waits to be filed");
        shop.busy = false;
        shop.assert_level(3);
        let cases =
            |node: usize| shop.nodes[node].host.replica().books().cases().cloned().collect::<Vec<_>>();
        assert_eq!(cases(HUB), cases(2));
        cases(HUB).iter().flat_map(|case| &case.verdicts).map(|verdict| verdict.knowledge).collect::<Vec<_>>()
    };
    assert_eq!(void_twice(true), [Knowledge::Knowing]);
    assert_eq!(void_twice(false), [Knowledge::Concurrent]);
}

#[test]
fn an_image_is_not_made_while_something_waits_to_be_filed() {
    let mut shop = busy_with(4);
    assert!(shop.nodes[HUB].host.replica_mut().image().is_none());
    shop.busy = false;
    shop.give(HUB, Input::Wakeup);
    assert!(shop.nodes[HUB].host.replica_mut().image().is_some());
}

#[test]
fn a_statement_of_the_hub_comes_after_what_it_had_received() {
    let mut shop = busy_with(10);
    let enrolment = Enrolment { log: log(3), writer: writer(3) };
    let record = Box::new(HubRecord::Enrol(enrolment));
    shop.give(HUB, Input::State { token: 900, record, receipt: "enrol-3".to_owned() });
    assert_eq!(shop.nodes[HUB].host.replica().books().len(), 13);
    shop.busy = false;
    shop.carry();
    shop.assert_level(10);
}

#[test]
fn a_hub_that_dies_before_its_books_have_what_it_acknowledged_has_it_after_its_start() {
    let mut shop = busy_with(20);
    let mut hub = Node::over(shop.nodes[HUB].restarted(HUB, 1));
    std::mem::swap(&mut hub.log, &mut shop.nodes[HUB].log);
    shop.nodes[HUB] = hub;
    shop.busy = false;
    for till in [1, 2] {
        shop.nodes[till].out.clear();
        shop.give(till, Input::PeerDown(writer(HUB)));
        shop.link(till, Dialect::Short);
    }
    shop.assert_level(20);
}

#[test]
fn a_session_that_goes_on_from_a_record_which_is_not_filed_yet_is_taken_in() {
    let mut shop = Shop::new(2);
    shop.give(HUB, Input::Wakeup);
    shop.sell(1);
    // The device is copied, and both sell on from the same record.
    let copy = shop.nodes[1].restarted(1, 1);
    shop.sell(1);
    shop.sell(1);
    shop.busy = true;
    shop.link(1, Dialect::Short);
    let first = std::mem::replace(&mut shop.nodes[1], Node::over(copy));
    shop.give(HUB, Input::PeerDown(writer(1)));
    shop.nodes[HUB].out.clear();
    shop.sell(1);
    shop.link(1, Dialect::Short);
    assert_eq!(shop.nodes[HUB].refused, Vec::<String>::new());
    assert_eq!(identity(1, 1).log, first.host.replica().identity().log);
    shop.busy = false;
    shop.give(HUB, Input::Wakeup);
    let books = shop.nodes[HUB].host.replica().books();
    assert_eq!(books.len(), 2 + 4, "both branches are there");
    assert_eq!(
        books.cases().filter(|case| case.key.subject.contains("till-01")).count(),
        1,
        "and a person is asked"
    );
}

#[test]
fn a_till_that_rests_seals_what_fills_a_batch_and_leaves_the_rest() {
    let mut shop = Shop::new(1);
    for _ in 0..2_300 {
        shop.sell(1);
    }
    assert!(batches(&shop, 1).is_empty());
    let due = shop.nodes[1].host.replica().next_wakeup().unwrap();
    assert_eq!(due, shop.now.ms + 1_000, "a second after the last sale");
    shop.give(1, Input::Wakeup);
    assert!(batches(&shop, 1).is_empty(), "not before");
    shop.now.ms = due;
    shop.give(1, Input::Wakeup);
    assert_eq!(batches(&shop, 1), [1_000, 1_000]);
    assert_eq!(shop.nodes[1].host.replica().next_wakeup(), None, "what does not fill one waits");
    assert_eq!(shop.nodes[1].host.replica().waiting().count, 2_300, "all of it still waits for the hub");

    // A start goes on from there, and nothing is sealed twice.
    let mut till = Node::over(shop.nodes[1].restarted(1, 1));
    std::mem::swap(&mut till.log, &mut shop.nodes[1].log);
    shop.nodes[1] = till;
    shop.sell(1);
    shop.link(1, Dialect::Short);
    assert_eq!(batches(&shop, 1), [1_000, 1_000, 301, 1], "the last is the hub's word of its enrolment");
    shop.assert_level(2_301);
}
