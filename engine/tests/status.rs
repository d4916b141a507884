//! How often nodes tell each other how they are: soon after something happened, seldom while nothing does, and never so seldom
//! that a peer which owes an answer is forgotten.

#[allow(dead_code, reason = "other tests use more of it")]
mod shop;

use engine::replica::Input;
use engine::sync::{Dialect, Message};

use shop::{HUB, Shop};

/// Lets the time pass until `until_ms`: everybody is woken when he wants to be. Gives when each status was said, by whom; what a
/// node of `mute` says is lost.
fn pass(shop: &mut Shop, until_ms: i64, mute: &[usize]) -> Vec<(i64, usize)> {
    let mut told = Vec::new();
    loop {
        for node in 0..shop.nodes.len() {
            let said = shop.nodes[node].out.iter().map(|(_, frame)| Message::decode(frame).unwrap());
            told.extend(said.filter(|said| matches!(said, Message::Status(_))).map(|_| (shop.now.ms, node)));
            if mute.contains(&node) {
                shop.nodes[node].out.clear();
            }
        }
        shop.carry();
        let due = |node: usize| shop.nodes[node].host.replica().next_wakeup();
        let (at_ms, node) = (0..shop.nodes.len()).filter_map(|node| Some((due(node)?, node))).min().unwrap();
        if at_ms > until_ms {
            shop.now.ms = until_ms;
            return told;
        }
        shop.now.ms = shop.now.ms.max(at_ms);
        shop.give(node, Input::Wakeup);
    }
}

#[test]
fn a_node_says_how_it_is_soon_after_something_happened_and_every_two_minutes_while_nothing_does() {
    let mut shop = Shop::new(1);
    shop.link(1, Dialect::Short);
    let start = shop.now.ms;
    pass(&mut shop, start + 60_000, &[]);
    let told = pass(&mut shop, start + 3_660_000, &[]);
    let by = |node: usize| told.iter().filter(|row| row.1 == node).count();
    assert!((29..=31).contains(&by(HUB)) && (29..=31).contains(&by(1)), "in an hour: {told:?}");
    shop.sell(1);
    let sold = shop.now.ms;
    let told = pass(&mut shop, sold + 90_000, &[]);
    let mut after = told.iter().filter(|row| row.1 == 1).map(|row| row.0 - sold);
    assert!(after.next().is_some_and(|ms| ms <= 3_000), "the sale's: {told:?}");
    assert!(after.next().is_some_and(|ms| ms <= 36_000), "and once more soon after: {told:?}");
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_after_two_minutes_however_little_happens() {
    let mut shop = Shop::new(1);
    shop.link(1, Dialect::Short);
    let start = shop.now.ms;
    pass(&mut shop, start + 600_000, &[]);
    shop.sell(1);
    let sold = shop.now.ms;
    pass(&mut shop, sold + 155_000, &[HUB]);
    assert!(shop.nodes[1].ended.iter().any(|(peer, _)| *peer == HUB), "the till still waits for its hub");
}
