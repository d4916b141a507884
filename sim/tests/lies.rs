//! Each lie is refused for the one thing that is wrong with it: a lie that is wrong in two ways would hide that one of the
//! two is not looked at.

use engine::policy::Policy;
use engine::replica::SyncEvent;
use sim::drafts;
use sim::liar::lie;
use sim::scenario::{Item, Lying, Paid};
use sim::truth::Truth;
use sim::world::{Delays, HUB, World};

const TILL: &str = "till-01";

/// A hub and two tills that have sold and are level.
fn shop() -> World {
    let tills = [TILL.to_owned(), "till-02".to_owned()];
    let policy = Policy { currencies: vec!["GBP".parse().unwrap()], ..Policy::default() };
    let mut world = World::new(&tills, Delays { link_ms: (1, 20), disk_ms: (1, 3) }, &policy, 7);
    world.connect(TILL, HUB);
    world.connect("till-02", HUB);
    world.run_for(5_000);
    for (number, till) in tills.iter().cycle().take(6).enumerate() {
        let items = [Item { pieces: 1, price_minor: 600 }];
        world.capture(till, drafts::sale(&format!("R-{number}"), &items, Paid::Cash, None, 0));
        world.run_for(2_000);
    }
    world
}

/// What the hub says of a lie.
fn said(how: Lying) -> Vec<String> {
    let (mut world, mut truth) = (shop(), Truth::default());
    world.node(HUB).events.clear();
    assert!(lie(&mut world, &mut truth, TILL, how), "there is a link to lie over");
    world.run_for(3_000);
    let hub = world.nodes[HUB].replica();
    for lie in &truth.lies {
        assert!(hub.books().find_receipt(lie).is_empty(), "{how:?} is seen");
    }
    let said = |event: &SyncEvent| match event {
        SyncEvent::Refused { reason, by_peer: false, .. } | SyncEvent::Garbled { reason, .. } => {
            Some(reason.clone())
        }
        _ => None,
    };
    world.nodes[HUB].events.iter().filter_map(said).collect()
}

#[test]
fn each_lie_is_refused_for_the_one_thing_that_is_wrong_with_it() {
    let cases = [
        (Lying::ForgedSignature, "signature"),
        (Lying::OthersLog, "log"),
        (Lying::RewrittenHistory, "place"),
        (Lying::FutureTime, "time"),
        (Lying::Oversized, "bytes"),
        (Lying::Noise, "do not decode"),
    ];
    for (how, word) in cases {
        let said = said(how);
        assert!(said.first().is_some_and(|reason| reason.contains(word)), "{how:?}: {said:?}");
    }
}

#[test]
fn a_replay_and_a_lying_vector_change_nothing() {
    for how in [Lying::Replay, Lying::LyingVector] {
        let said = said(how);
        assert!(said.is_empty(), "{how:?}: {said:?}");
    }
}
