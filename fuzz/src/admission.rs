//! A thief with the key of an enrolled till: batches signed by it whose every field, and the Automerge change announced
//! with them, are the fuzzer's. What the hub takes in must be what an honest till could have written, whatever else was
//! tried; the books stay sound, an honest till trades on, and a restart from the log sees the same.

use std::sync::Arc;

use engine::batch::{BATCH_RECORDS_LIMIT, Batch, BatchEntry, Sealed};
use engine::codec;
use engine::document::Document;
use engine::ids::{LogId, RecordId, WriterId};
use engine::replica::{Input, Replica};
use engine::sync::{Carried, MESSAGE_BYTES_LIMIT, Message};
use engine::time::Instant;
use engine::transaction::{Body, Draft, Transaction};

use crate::chance::Chance;
use crate::shop::{HUB, Shop, key, log_of, store, writer};

const THIEF: usize = 1;
const HONEST: usize = 2;
const BATCHES: usize = 12;

/// The target.
pub fn admission(bytes: &[u8]) {
    let chance = &mut Chance::new(bytes);
    let mut shop = Shop::new(2);
    for till in [THIEF, HONEST] {
        shop.capture(till, sale(&format!("R-{till}")));
        shop.link(till);
    }
    shop.carry_all();
    for _ in 0..BATCHES {
        if chance.is_used_up() {
            break;
        }
        let Some(forged) = forged(chance, shop.nodes[HUB].host.replica(), shop.now) else { continue };
        if !shop.is_linked(THIEF) {
            shop.link(THIEF);
        }
        let number = expected(&shop);
        let frame = Message::Batches { number, batches: vec![forged.carried] }.encode();
        if frame.len() > MESSAGE_BYTES_LIMIT {
            continue;
        }
        let before = shop.nodes[HUB].host.replica().batch_count();
        shop.nodes[THIEF].out.clear();
        shop.give(HUB, Input::Message(writer(THIEF), frame));
        shop.assert_books_add_up();
        let after = shop.nodes[HUB].host.replica().batch_count();
        if after > before {
            assert_lawful(&forged.batch, shop.nodes[HUB].host.replica());
        }
    }
    // Somebody honest still gets in, and gets out what is in.
    shop.capture(HONEST, sale("R-last"));
    shop.cut(HONEST);
    shop.link(HONEST);
    for _ in 0..3 {
        // What the thief's own node would say to all this is not of interest.
        shop.cut(THIEF);
        shop.carry_all();
        shop.wait(4_000_000);
    }
    let (hub, honest) = (shop.nodes[HUB].host.replica(), shop.nodes[HONEST].host.replica());
    assert!(!hub.books().find_receipt("R-last").is_empty(), "an honest record has not arrived");
    assert_eq!(honest.books().view_hash(), hub.books().view_hash(), "an honest till has other books");
    let view = hub.books().view_hash();
    shop.assert_sound();
    shop.restart(HUB);
    assert_eq!(shop.nodes[HUB].host.replica().books().view_hash(), view, "a restart sees other books");
    shop.assert_sound();
}

fn sale(receipt: &str) -> Draft {
    let text = format!(
        r#"{{"kind":"sale","receipt":"{receipt}","currency":"GBP","lines":[{{"sku":"a","quantity":"2","amount_minor":900,"tax_minor":150}}],
           "tenders":[{{"type":"cash","amount_minor":900}}]}}"#
    );
    Draft::from_json(&text).expect("a draft of ours is one")
}

fn expected(shop: &Shop) -> u64 {
    let hub = shop.nodes[HUB].host.replica();
    hub.peers().find(|(peer, _)| *peer == writer(THIEF)).map_or(1, |(_, state)| state.expects())
}

/// What a batch in the books must be, told without asking the code that admitted it.
fn assert_lawful(batch: &Batch, hub: &Replica) {
    assert_eq!((&batch.store, batch.writer, &batch.log), (&store(), writer(THIEF), &log_of(THIEF)));
    assert!(batch.day.is_lawful());
    assert_eq!(batch.prev.is_none(), batch.first_seq == 1, "a log begins once");
    let mut before: Option<RecordId> = batch.prev;
    let mut effective = i64::MIN;
    for (seq, entry) in (batch.first_seq..).zip(&batch.entries) {
        assert!(!matches!(entry.transaction.body, Body::Hub(_)), "a till speaks for the hub");
        assert!(entry.transaction.validate_schema().is_ok());
        assert!(entry.at.is_lawful());
        // A fork may hold the same sale twice behind one record, rung at two times.
        let effective_ms = entry.at.ms.checked_add_unsigned(entry.effective_later_ms);
        let mut here = hub.books().log_records(&batch.log, seq).filter(|record| record.seq == seq);
        let record = here.find(|record| {
            let rung = (record.at, Some(record.effective_ms)) == (entry.at, effective_ms);
            rung && record.prev == before && record.transaction == entry.transaction
        });
        let record = record.expect("what was admitted is in the books, behind its predecessor");
        assert!(record.effective_ms >= entry.at.ms.max(effective), "time runs backwards in a log");
        (before, effective) = (Some(record.id), record.effective_ms);
    }
    for (of, seq) in &batch.seen {
        let log = hub.registry().log_of(of).expect("a writer that was seen is known");
        assert!(hub.log_heads().get(log).is_some_and(|head| head >= seq));
    }
}

struct Forged {
    batch: Batch,
    carried: Carried,
}

/// A batch that is right but for what the fuzzer changes.
fn forged(chance: &mut Chance<'_>, hub: &Replica, now: Instant) -> Option<Forged> {
    let nonce = [*chance.of(&[0, 7, 8]); 16];
    let day = if chance.one_in(8) { engine::time::Day(chance.any()) } else { now.day() };
    let session = engine::batch::session_id(&writer(THIEF), &nonce);
    let held = hub.days().find(|(held, _)| *held == day).map_or(0, |(_, document)| document.count(&session));
    let records: Vec<_> =
        hub.books().log_records(&log_of(THIEF), 1).map(|record| (record.seq, record.id)).collect();
    let (last, prev) = match chance.one_in(6) {
        true => *chance.of(&records),
        false => *records.last()?,
    };
    let count = 1 + if chance.one_in(16) { chance.below(BATCH_RECORDS_LIMIT) } else { chance.below(3) };
    let entries: Vec<BatchEntry> = (0..count).map(|_| entry(chance, now)).collect();
    let mut batch = Batch {
        store: store(),
        writer: writer(THIEF),
        log: log_of(THIEF),
        nonce,
        day,
        index: held,
        first_seq: last + 1,
        prev: Some(prev),
        seen: Vec::new(),
        entries,
    };
    match chance.below(16) {
        0 => batch.store = "s2".parse().ok()?,
        1 => batch.log = log_of(HONEST),
        2 => batch.log = LogId { terminal: log_of(THIEF).terminal, incarnation: chance.any() },
        3 => batch.index = chance.any(),
        4 => batch.first_seq = 1 + (chance.any::<u64>() >> 20),
        5 => batch.prev = None,
        6 => batch.prev = Some(RecordId(chance.any())),
        7 => batch.seen.push((WriterId(chance.any()), chance.any())),
        8 => batch.seen.push((writer(HONEST), chance.any::<u64>() >> 62)),
        9 => batch.seen.push((writer(HUB), chance.any())),
        _ => {}
    }
    let fits = batch.first_seq > 0 && batch.first_seq < 1 << 47;
    let plain = codec::encode(&batch).len();
    if !fits || plain > engine::batch::BATCH_BYTES_LIMIT {
        return None;
    }
    let sealed = Sealed::seal(batch.clone(), &key(THIEF));
    let mut bytes = sealed.bytes.to_vec();
    let change = match hub.days().find(|(held, _)| *held == batch.day) {
        Some((_, document)) => document.prepare(batch.writer, batch.session(), &bytes).id(),
        None => Document::new(store(), batch.day).prepare(batch.writer, batch.session(), &bytes).id(),
    };
    let change = if chance.one_in(16) { chance.any() } else { change };
    if chance.one_in(16) {
        chance.mangle(&mut bytes);
        // Mangled into itself, it is the same batch.
        if let Ok(opened) = Sealed::open(Arc::from(bytes.clone())) {
            assert_eq!(opened.batch, batch, "bytes that differ open as another batch");
        }
    }
    Some(Forged { batch, carried: Carried { bytes, change } })
}

/// A transaction: one a till could have sent, mangled in its encoded form, so that every number and text is reached.
fn entry(chance: &mut Chance<'_>, now: Instant) -> BatchEntry {
    const TEXTS: &[&str] = &[
        r#"{"kind":"sale","receipt":"X-1","currency":"GBP","lines":[{"sku":"a","quantity":"2","amount_minor":900,"tax_minor":150}],"tenders":[{"type":"cash","amount_minor":900}]}"#,
        r#"{"kind":"refund","receipt":"X-2","currency":"GBP","original_receipt":"R-1","reason":"r","approver":"m","lines":[{"sku":"a","quantity":"1","amount_minor":450,"tax_minor":75}],"tenders":[{"type":"cash","amount_minor":450}]}"#,
        r#"{"kind":"refund","receipt":"X-3","currency":"GBP","original_receipt":"R-2","lines":[{"sku":"a","quantity":"2","amount_minor":900,"original_line":1}],"tenders":[{"type":"card","amount_minor":900,"payment":"p1"}]}"#,
        r#"{"kind":"void","receipt":"X-4","currency":"GBP","original_receipt":"X-1","reverses":"sale","lines":[{"sku":"a","quantity":"2","amount_minor":900,"tax_minor":150}],"tenders":[{"type":"cash","amount_minor":900}]}"#,
        r#"{"kind":"cash_move","movement":"pickup","receipt":"X-5","currency":"GBP","amount_minor":5000}"#,
        r#"{"kind":"day_close","receipt":"X-6","counted":{"GBP":900}}"#,
        r#"{"kind":"sale","receipt":"X-7","currency":"USD","lines":[{"sku":"b","quantity":"1.5","amount_minor":300,"tax_minor":20,"tax_code":"A","tax_exclusive":true},{"sku":"a","quantity":"1","amount_minor":100,"return_in_sale":true}],"tenders":[{"type":"card","amount_minor":220,"status":"pending","payment":"p2","card_last4":"1234"}],"tip_minor":7}"#,
    ];
    let template = chance.below(TEXTS.len());
    let draft =
        Draft::from_json(TEXTS[template]).unwrap_or_else(|error| panic!("template {template}: {error}"));
    let mut encoded = codec::encode(&draft.transaction);
    if !chance.one_in(3) {
        chance.mangle(&mut encoded);
    }
    let mangled: Result<Transaction, _> = codec::decode::<_, { 1 << 20 }>(&encoded);
    let transaction = mangled.unwrap_or(draft.transaction);
    let at = match chance.below(8) {
        0 => Instant { ms: chance.any(), offset_minutes: chance.any() },
        1 => Instant::utc(now.ms + i64::from(chance.any::<i32>())),
        _ => now,
    };
    BatchEntry { at, effective_later_ms: if chance.one_in(8) { chance.any() } else { 0 }, transaction }
}
