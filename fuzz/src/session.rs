//! Honest sessions over a link that mangles them: frames are dropped, doubled, swapped, kept for later, cut, sent back
//! to their sender, and changed byte by byte or word by word. Whatever happens, nobody panics, books add up, nothing that
//! no till recorded is ever in them, and as soon as the link is honest again everything recorded arrives everywhere.

use std::collections::BTreeSet;

use engine::ids::RecordId;
use engine::sync::{MESSAGE_BYTES_LIMIT, Message};
use engine::transaction::Draft;

use crate::chance::Chance;
use crate::shop::{HUB, Shop};

const TILLS: usize = 2;
const STEPS: usize = 48;
/// Frames kept to be said again much later.
const KEPT: usize = 16;

/// The target.
pub fn session(bytes: &[u8]) {
    let chance = &mut Chance::new(bytes);
    let mut shop = Shop::new(TILLS);
    let mut kept: Vec<(usize, usize, Vec<u8>)> = Vec::new();
    let mut receipts = 0;
    for _ in 0..STEPS {
        if chance.is_used_up() {
            break;
        }
        let till = 1 + chance.below(TILLS);
        match chance.below(10) {
            0 => shop.link(till),
            1 if chance.one_in(3) => shop.cut(till),
            2 if chance.one_in(4) => shop.restart(chance.below(TILLS + 1)),
            1..=3 => {
                receipts += 1;
                let draft = Draft::from_json(&transaction(chance, receipts)).expect("a draft of ours is one");
                shop.capture(till, draft);
            }
            4 => shop.wait(*chance.of(&[1, 900, 4_000, 130_000, 90_000_000])),
            _ => carry(&mut shop, chance, &mut kept),
        }
        shop.assert_books_add_up();
        assert_only_true_records(&shop);
    }
    let saved: usize = (1..=TILLS).map(|till| shop.nodes[till].saved.len()).sum();
    for till in 1..=TILLS {
        shop.cut(till);
        shop.link(till);
    }
    // What one till brought is offered to the other; wake-ups seal what waited for its interval.
    for _ in 0..3 {
        shop.carry_all();
        shop.wait(4_000_000);
    }
    shop.carry_all();
    assert_only_true_records(&shop);
    let hub = shop.nodes[HUB].host.replica();
    let arrived: u64 =
        hub.log_heads().iter().filter(|(log, _)| !log.terminal.is_hub()).map(|(_, seq)| seq).sum();
    // A receipt number that is used again is answered with the first record, so there may be fewer records.
    assert!(usize::try_from(arrived).unwrap_or(0) <= saved, "{arrived} records of {saved} answers");
    let (heads, view) = (hub.log_heads(), hub.books().view_hash());
    for till in 1..=TILLS {
        let replica = shop.nodes[till].host.replica();
        assert_eq!(replica.log_heads(), heads, "something honest has not arrived");
        assert_eq!(replica.books().view_hash(), view, "till {till} has other books than the hub");
        assert_eq!(replica.waiting().count, 0, "till {till} waits although the hub holds everything");
    }
    shop.assert_sound();
}

/// Carries the oldest frame of a node, or does something worse with it.
fn carry(shop: &mut Shop, chance: &mut Chance<'_>, kept: &mut Vec<(usize, usize, Vec<u8>)>) {
    let from = chance.below(TILLS + 1);
    if chance.one_in(8) && !kept.is_empty() {
        let (from, to, frame) = chance.of(kept).clone();
        return shop.deliver(from, to, frame);
    }
    let Some((to, mut frame)) = shop.nodes[from].out.pop_front() else { return };
    if kept.len() < KEPT {
        kept.push((from, to, frame.clone()));
    }
    match chance.below(12) {
        0 => {}
        1 => {
            shop.deliver(from, to, frame.clone());
            shop.deliver(from, to, frame);
        }
        2 => shop.nodes[from].out.push_back((to, frame)),
        3 => {
            chance.mangle(&mut frame);
            shop.deliver(from, to, frame);
        }
        4 => shop.deliver(to, from, frame),
        5 => {
            let other = 1 + chance.below(TILLS);
            shop.deliver(other, HUB, frame);
        }
        6 | 7 => {
            let frame = reworded(chance, &frame, kept);
            shop.deliver(from, to, frame);
        }
        _ => shop.deliver(from, to, frame),
    }
}

/// The same kind of message with another content.
fn reworded(chance: &mut Chance<'_>, frame: &[u8], kept: &[(usize, usize, Vec<u8>)]) -> Vec<u8> {
    let Ok(mut message) = Message::decode(frame) else { return frame.to_vec() };
    match &mut message {
        Message::Hello { digest, .. } => digest[chance.below(32)] ^= 1,
        Message::Days(days) => {
            if let Some((day, digest)) = days.first_mut() {
                match chance.below(3) {
                    0 => day.0 = chance.any(),
                    1 => digest[chance.below(16)] ^= 1,
                    _ => days.clear(),
                }
            }
        }
        Message::Vector { held, reply } => {
            *reply ^= chance.one_in(4);
            for day in held {
                for (session, count) in &mut day.sessions {
                    match chance.below(4) {
                        0 => *count = chance.any(),
                        1 => session.0[chance.below(16)] ^= 1,
                        _ => {}
                    }
                }
            }
        }
        Message::Batches { number, batches } => match chance.below(6) {
            0 => *number = chance.any(),
            1 => batches.reverse(),
            2 => drop(batches.pop()),
            3 => {
                if let Some(first) = batches.first_mut() {
                    chance.mangle(&mut first.bytes);
                }
            }
            4 => {
                if let Some(first) = batches.first_mut() {
                    first.change[chance.below(32)] ^= 1;
                }
            }
            _ => {
                for (_, _, old) in kept {
                    if let Ok(Message::Batches { batches: old, .. }) = Message::decode(old) {
                        batches.extend(old);
                    }
                }
            }
        },
        Message::Short { number, batches } => match chance.below(6) {
            0 => *number = chance.any(),
            1 => batches.reverse(),
            2 => drop(batches.pop()),
            3 => {
                if let Some(first) = batches.first_mut() {
                    chance.mangle(&mut first.rest);
                }
            }
            4 => {
                if let Some(first) = batches.first_mut() {
                    first.like = chance.any();
                }
            }
            _ => {
                for (_, _, old) in kept {
                    if let Ok(Message::Short { batches: old, .. }) = Message::decode(old) {
                        batches.extend(old);
                    }
                }
            }
        },
        Message::Ack { number, digest } => match chance.one_in(2) {
            true => *number = chance.any(),
            false => *digest = chance.any(),
        },
        Message::Refused { batch, reason } => {
            batch.0[chance.below(32)] ^= 1;
            reason.clear();
        }
        Message::Status(status) => {
            (status.clock_ms, status.waiting, status.head_seq) = (chance.any(), chance.any(), chance.any());
            status.policy_version = chance.any();
        }
        Message::Clock { sent_ms, echo } => {
            (*sent_ms, *echo) = (chance.any(), chance.one_in(2).then(|| (chance.any(), chance.any())));
        }
    }
    let frame = message.encode();
    if frame.len() > MESSAGE_BYTES_LIMIT { Vec::new() } else { frame }
}

/// Nobody has a record that its own till does not have: nothing on the way could add to the books.
fn assert_only_true_records(shop: &Shop) {
    for (at, node) in shop.nodes.iter().enumerate() {
        let books = node.host.replica().books();
        for (writer, other) in shop.nodes.iter().enumerate().filter(|(writer, _)| *writer != at) {
            let log = crate::shop::log_of(writer);
            let true_ones: BTreeSet<RecordId> =
                other.host.replica().books().log_records(&log, 1).map(|record| record.id).collect();
            for record in books.log_records(&log, 1) {
                assert!(
                    true_ones.contains(&record.id),
                    "{} was recorded by nobody",
                    record.transaction.receipt
                );
            }
        }
    }
}

/// A transaction as a till records it; later ones refer to earlier ones, of this till or the other.
fn transaction(chance: &mut Chance<'_>, number: u32) -> String {
    let amount = 1 + i64::from(chance.any::<u16>());
    let earlier = 1 + chance.below(usize::try_from(number).unwrap_or(1));
    let receipt = if chance.one_in(9) { format!("R-{earlier}") } else { format!("R-{number}") };
    let basket = format!(
        r#""currency":"GBP","lines":[{{"sku":"a","quantity":"1","amount_minor":{amount},"tax_minor":0}}],"tenders":[{{"type":"cash","amount_minor":{amount}}}]"#
    );
    match chance.below(6) {
        0 => format!(
            r#"{{"kind":"refund","receipt":"{receipt}","original_receipt":"R-{earlier}","approver":"m",{basket}}}"#
        ),
        1 => format!(
            r#"{{"kind":"void","receipt":"{receipt}","original_receipt":"R-{earlier}","reverses":"sale","reason":"x",{basket}}}"#
        ),
        2 => format!(
            r#"{{"kind":"cash_move","movement":"paid_out","receipt":"{receipt}","currency":"GBP","amount_minor":{amount}}}"#
        ),
        _ => format!(r#"{{"kind":"sale","receipt":"{receipt}",{basket}}}"#),
    }
}
