//! How often nodes tell each other how they are: soon after something happened, seldom while nothing does, and never so seldom
//! that a peer which owes an answer is forgotten.

#[allow(dead_code, reason = "other tests use more of it")]
mod shop;

use engine::replica::Input;
use engine::sync::Dialect;

use shop::{HUB, Shop, writer};

/// The till.
const TILL: usize = 1;

/// Lets the time pass until then: everybody is woken when he wants to be. Gives when each node heard how the other is; with a line
/// that loses everything nobody does.
fn pass(shop: &mut Shop, until_ms: i64, lost: bool) -> [Vec<i64>; 2] {
    let mut heard = [vec![], vec![]];
    loop {
        if lost {
            shop.nodes.iter_mut().for_each(|node| node.out.clear());
        }
        shop.carry();
        for node in [HUB, TILL] {
            let last = shop.nodes[node].host.replica().last_status(&writer(1 - node)).map(|row| row.0);
            heard[node]
                .extend(last.filter(|at_ms| *at_ms == shop.now.ms && heard[node].last() != Some(at_ms)));
        }
        let due = |node: usize| shop.nodes[node].host.replica().next_wakeup();
        let next = [HUB, TILL].into_iter().filter_map(|node| Some((due(node)?, node))).min();
        let Some((at_ms, node)) = next.filter(|(at_ms, _)| *at_ms <= until_ms) else {
            shop.now.ms = until_ms;
            return heard;
        };
        shop.now.ms = shop.now.ms.max(at_ms);
        shop.give(node, Input::Wakeup);
    }
}

#[test]
fn a_node_says_how_it_is_soon_after_something_happened_and_every_two_minutes_while_nothing_does() {
    let mut shop = Shop::new(1);
    shop.link(TILL, Dialect::Short);
    let start = shop.now.ms;
    pass(&mut shop, start + 60_000, false);
    let heard = pass(&mut shop, start + 3_660_000, false);
    assert_eq!(heard.map(|heard| heard.len()), [30, 30], "in an hour");
    shop.sell(TILL);
    let sold = shop.now.ms;
    let [by_hub, _] = pass(&mut shop, sold + 90_000, false);
    let after: Vec<i64> = by_hub.iter().map(|at_ms| at_ms - sold).collect();
    assert!(
        after.len() >= 2 && after[0] <= 3_000 && after[1] <= 36_000,
        "at once, and soon once more: {after:?}"
    );
}

#[test]
fn a_peer_that_never_says_its_first_word_is_given_up_within_three_minutes() {
    let mut shop = Shop::new(1);
    let start = shop.now.ms;
    // Two minutes after the first look; looks every two minutes would need four and a half.
    shop.give(TILL, Input::PeerUp(writer(HUB), Dialect::Short));
    pass(&mut shop, start + 190_000, true);
    assert!(shop.nodes[TILL].ended.iter().any(|(peer, _)| *peer == HUB), "the till still waits for its hub");
}
