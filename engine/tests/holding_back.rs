//! A policy that holds receipts back holds them back for as long as it says: a link that is dialled anew does not send them, one
//! that comes after an outage does.

#[allow(dead_code, reason = "other tests use more of it")]
mod shop;

use engine::policy::PolicyChange;
use engine::replica::Input;
use engine::sync::Dialect;
use engine::transaction::HubRecord;

use shop::{HUB, Shop};

const TILL: usize = 1;
const HOUR_MS: i64 = 3_600_000;

/// A till that is linked, may send once an hour, and has just sold.
fn holding_back() -> Shop {
    let mut shop = Shop::new(1);
    let change = PolicyChange::parse(["sync_interval=1h"], None, "admin").unwrap();
    shop.token += 1;
    let (token, receipt) = (shop.token, "policy-1".to_owned());
    shop.give(HUB, Input::State { token, record: Box::new(HubRecord::Config(change)), receipt });
    shop.link(TILL, Dialect::Short);
    assert_eq!(shop.sell_live(TILL), [], "held back");
    shop
}

/// Dials anew after so long without a link. Gives how many receipts are still held back.
fn dialled_anew(shop: &mut Shop, after_ms: i64) -> u64 {
    shop.cut(TILL);
    shop.now.ms += after_ms;
    shop.link(TILL, Dialect::Short);
    shop.nodes[TILL].host.replica().waiting().count
}

#[test]
fn what_is_held_back_stays_so_when_a_link_is_dialled_anew_and_is_sent_when_it_is_due() {
    let mut shop = holding_back();
    let sold_ms = shop.now.ms;
    assert_eq!(dialled_anew(&mut shop, 3_000), 1);
    assert_eq!(dialled_anew(&mut shop, 0), 1);
    shop.now.ms = sold_ms + HOUR_MS - 1;
    shop.give(TILL, Input::Wakeup);
    shop.carry();
    assert_eq!(shop.nodes[TILL].host.replica().waiting().count, 1, "the hour is not over");
    shop.now.ms += 1;
    shop.give(TILL, Input::Wakeup);
    shop.carry();
    shop.assert_level(1);
    assert!(shop.nobody_ended());
}

#[test]
fn a_link_that_comes_after_an_outage_takes_everything() {
    let mut shop = holding_back();
    assert_eq!(dialled_anew(&mut shop, 10_000), 0);
    shop.assert_level(1);
}

#[test]
fn what_was_sold_while_the_link_was_dialled_anew_is_sent_when_it_is_due() {
    let mut shop = holding_back();
    shop.cut(TILL);
    shop.sell(TILL);
    shop.link(TILL, Dialect::Short);
    assert_eq!(shop.nodes[TILL].host.replica().waiting().count, 2);
    shop.now.ms += HOUR_MS;
    shop.give(TILL, Input::Wakeup);
    shop.carry();
    shop.assert_level(2);
}
