//! Somebody who has stolen a till's key and lies with it: frames that no honest node sends, put on the till's link to
//! the hub. Whatever they hold must never be seen in anybody's books, and must not stop what is honest.

use engine::batch::{Batch, BatchEntry, Sealed};
use engine::document::Document;
use engine::ids::SessionId;
use engine::sync::{Carried, Held, MESSAGE_BYTES_LIMIT, Message};
use engine::time::Instant;

use crate::drafts;
use crate::scenario::{Item, Lying, Paid};
use crate::truth::Truth;
use crate::world::{World, key, log_of};

/// Tells one lie over a till's link to the hub, if it has one. Gives whether it could.
pub fn lie(world: &mut World, truth: &mut Truth, till: &str, how: Lying) -> bool {
    let linked = world.linked_hub(till);
    let Some(hub) = linked.filter(|hub| world.nodes[&**hub].is_up()) else { return false };
    let receipt = format!("LIE-{}-{}", till, truth.lies.len());
    truth.lies.insert(receipt.clone());
    truth.suspicious.insert(till.to_owned());
    truth.forked.insert(till.to_owned());
    for frame in frames(world, till, (&hub, &receipt), how) {
        world.put_frame(till, &hub, &frame);
    }
    true
}

fn frames(world: &World, till: &str, (hub, receipt): (&str, &str), how: Lying) -> Vec<Vec<u8>> {
    let now = world.nodes[till].clock.shows(world.now_ms);
    // The liar counts right, so that it is heard at all.
    let writer = world.nodes[till].writer();
    let hub = world.nodes[hub].replica();
    let number = hub.peers().find(|(peer, _)| *peer == writer).map_or(1, |(_, state)| state.expects());
    let batches = |carried: Vec<Carried>| vec![Message::Batches { number, batches: carried }.encode()];
    match how {
        Lying::Noise => vec![vec![1, 255, 254, 253, 0, 7], vec![9; 40], Vec::new()],
        Lying::Oversized => vec![vec![1; MESSAGE_BYTES_LIMIT + 1]],
        Lying::LyingVector => {
            let days: Vec<_> = world.nodes[till].replica().days().map(|(day, _)| day).collect();
            let session = SessionId([3; 16]);
            let held = |day| Held { day, sessions: vec![(session, u32::MAX)] };
            vec![Message::Vector { held: days.into_iter().map(held).collect(), reply: true }.encode()]
        }
        Lying::Replay => {
            let disk = &world.nodes[till].disk;
            batches(disk.batch(0).into_iter().collect())
        }
        Lying::ForgedSignature | Lying::OthersLog | Lying::RewrittenHistory | Lying::FutureTime => {
            batches(vec![forged(world, till, receipt, how, now)])
        }
    }
}

/// A batch that is well made but for one thing.
fn forged(world: &World, till: &str, receipt: &str, how: Lying, now: Instant) -> Carried {
    let node = &world.nodes[till];
    let identity = node.identity();
    let at = if how == Lying::FutureTime { Instant::utc(now.ms + 400 * 86_400_000) } else { now };
    let items = [Item { pieces: 1, price_minor: 60_000 }];
    let transaction = drafts::sale(receipt, &items, Paid::Cash, None, 0).transaction;
    let log = if how == Lying::OthersLog { log_of("till-99", 1) } else { identity.log.clone() };
    let nonce = if how == Lying::RewrittenHistory { identity.nonce } else { [0xEE; 16] };
    let later = if how == Lying::FutureTime { 10_000_000_000_000 } else { 0 };
    let batch = Batch {
        store: identity.store.clone(),
        writer: node.writer(),
        log,
        nonce,
        day: now.day(),
        index: 0,
        first_seq: 1,
        prev: None,
        seen: Vec::new(),
        entries: vec![BatchEntry { at, effective_later_ms: later, transaction }],
    };
    let session = batch.session();
    let sealed = Sealed::seal(batch, &key(identity.log.terminal.as_str(), identity.log.incarnation));
    let mut bytes = sealed.bytes.to_vec();
    if how == Lying::ForgedSignature {
        bytes[10] ^= 1;
    }
    // But for a place that is taken, the change is announced as it should be: only one thing is wrong with each lie.
    let change = match how {
        Lying::RewrittenHistory => [0; 32],
        _ => Document::new(identity.store.clone(), now.day()).prepare(node.writer(), session, &bytes).id(),
    };
    Carried { bytes, change }
}
