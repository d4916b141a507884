//! The bytes that are hashed, stored and sent are frozen (FORMAT.md). A test that fails here means that old logs and
//! old tills would not be understood any more: make a new version instead of changing the old one.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use engine::batch::{Batch, BatchEntry, BatchError, Sealed, session_id};
use engine::codec;
use engine::ids::{LogId, RecordId, WriterId};
use engine::record::{Place, Record};
use engine::sync::{Carried, Familiar, Message};
use engine::time::Instant;
use engine::transaction::{Draft, Transaction};

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn transaction() -> Transaction {
    let text = r#"{"kind":"sale","receipt":"R-1001","idempotency_key":"cart-77","operator":"op-7","currency":"GBP",
        "lines":[{"line":1,"sku":"85123A","description":"Lantern","quantity":"6","unit_price_minor":255,
        "amount_minor":1530,"tax_minor":255,"tax_code":"S","tax_rate":"20"}],
        "tenders":[{"type":"card","amount_minor":1530,"payment":"pay-9","auth":"V-77","card_last4":"4242"}]}"#;
    Draft::from_json(text).unwrap().transaction
}

fn batch() -> Batch {
    Batch {
        store: "store-1".parse().unwrap(),
        writer: WriterId(key().verifying_key().to_bytes()),
        log: LogId { terminal: "till-01".parse().unwrap(), incarnation: 1 },
        nonce: [2; 16],
        day: "2026-11-23".parse().unwrap(),
        index: 0,
        first_seq: 1,
        prev: None,
        seen: vec![(WriterId([3; 32]), 9)],
        entries: vec![BatchEntry { at: at(), effective_later_ms: 5, transaction: transaction() }],
    }
}

fn at() -> Instant {
    "2026-11-23T10:00:00+01:00".parse().unwrap()
}

#[test]
fn a_transaction() {
    assert_eq!(hex(&codec::encode(&transaction())), include_str!("fixtures/transaction.hex").trim());
}

#[test]
fn the_id_of_a_record() {
    let place = Place {
        store: "store-1".parse().unwrap(),
        writer: WriterId(key().verifying_key().to_bytes()),
        log: LogId { terminal: "till-01".parse().unwrap(), incarnation: 1 },
        seq: 7,
        prev: Some(RecordId([4; 32])),
        business_day: "2026-11-23".parse().unwrap(),
        at: at(),
        effective_ms: 1_795_428_000_000,
    };
    assert_eq!(
        Record::new(place, transaction()).id.to_string(),
        include_str!("fixtures/record_id.hex").trim()
    );
}

#[test]
fn a_sealed_batch() {
    let sealed = Sealed::seal(batch(), &key());
    assert_eq!(hex(&sealed.bytes), include_str!("fixtures/batch.hex").trim());
    assert_eq!(sealed.hash.to_string(), include_str!("fixtures/batch_hash.hex").trim());
    assert_eq!(hex(&session_id(&WriterId([3; 32]), &[2; 16]).0), include_str!("fixtures/session.hex").trim());
    assert_eq!(Sealed::open(sealed.bytes.clone()), Ok(sealed));
}

/// Twelve records of every kind that a basket has, and a float.
fn batch_of_many() -> Batch {
    let line = r#"{"line":1,"sku":"85123A","quantity":"6","unit_price_minor":255,"amount_minor":1530,"tax_minor":255,"tax_rate":"20"},
        {"line":2,"sku":"00071053","description":"Cheese","quantity":"0.535","unit_price_minor":999,"discount_minor":34,
        "amount_minor":500,"tax_minor":24,"tax_code":"R","tax_rate":"5"}"#;
    let text = |n: i64| match n {
        0 => r#"{"kind":"cash_move","movement":"float","amount_minor":10000,"currency":"GBP"}"#.to_owned(),
        4 | 9 => format!(
            r#"{{"kind":"{}","receipt":"R-{}","currency":"GBP","original_receipt":"R-{}","lines":[{line}],"approver":"op-1",
            "tenders":[{{"type":"card","amount_minor":2030,"payment":"pay-{:06}","card_last4":"0042"}}]}}"#,
            if n == 4 { "refund" } else { "void" },
            1000 + n,
            999 + n,
            n * 104_729
        ),
        n => format!(
            r#"{{"kind":"sale","receipt":"R-{}","idempotency_key":"cart-{:08}","operator":"op-{n}","currency":"GBP","tip_minor":{n},
            "lines":[{line},{{"line":3,"sku":"gift","quantity":"1","amount_minor":{},"tax_minor":0}}],
            "tenders":[{{"type":"card","amount_minor":30,"payment":"pay-{:06}"}},{{"type":"cash","amount_minor":{},
            "tendered_minor":5000,"change_minor":{}}}]}}"#,
            1000 + n,
            n * 7_654_321,
            n * 101,
            n * 104_729,
            2000 + 102 * n,
            3000 - 102 * n,
        ),
    };
    let entry = |n: i64| BatchEntry {
        at: Instant { ms: at().ms + n * n * 4_321, ..at() },
        effective_later_ms: u64::from(n == 7),
        transaction: Draft::from_json(&text(n)).unwrap().transaction,
    };
    Batch { entries: (0..12).map(entry).collect(), ..batch() }
}

/// How a batch of many is packed may change, and a node reads what any version packed.
#[test]
fn sealed_batches_of_many_records() {
    let fixtures =
        [(2, include_str!("fixtures/batch_columns.hex")), (3, include_str!("fixtures/batch_residuals.hex"))];
    for (codec, fixture) in fixtures {
        let bytes = data_encoding::HEXLOWER.decode(fixture.trim().as_bytes()).unwrap();
        assert_eq!(bytes[1], codec);
        assert_eq!(Sealed::open(bytes.into()).unwrap().batch, batch_of_many(), "codec {codec}");
    }
    assert_eq!(Sealed::seal(batch_of_many(), &key()).bytes[1], 3);
}

#[test]
fn a_message() {
    let message =
        Message::Batches { number: 1, batches: vec![Carried { bytes: vec![9; 5], change: [8; 32] }] };
    assert_eq!(hex(&message.encode()), include_str!("fixtures/message.hex").trim());
}

/// How a batch is written short may change, how it is read may not: both ends must expect the same bodies.
#[test]
fn a_message_of_short_batches() {
    let first = batch();
    let place = Place {
        store: first.store.clone(),
        writer: first.writer,
        log: first.log.clone(),
        seq: 1,
        prev: None,
        business_day: first.day,
        at: at(),
        effective_ms: at().ms + 5,
    };
    let prev = Some(Record::new(place, transaction()).id);
    let mut second = Batch { index: 1, first_seq: 2, prev, seen: Vec::new(), ..batch() };
    second.entries[0].transaction.receipt = "R-1002".to_owned();
    let sealed = [first, second].map(|batch| Sealed::seal(batch, &key()).bytes);
    let frame = data_encoding::HEXLOWER.decode(include_str!("fixtures/short.hex").trim().as_bytes()).unwrap();
    let Ok(Message::Short { number: 1, batches }) = Message::decode(&frame) else { panic!("it is short") };
    assert_eq!(batches.iter().map(|short| short.like).collect::<Vec<_>>(), [0, 1]);
    let mut familiar = Familiar::default();
    let read: Vec<Vec<u8>> = batches.iter().map(|short| familiar.read(short).unwrap()).collect();
    assert_eq!(read, sealed.map(|bytes| bytes.to_vec()));
}

#[test]
fn every_flipped_bit_of_a_batch_is_found() {
    let sealed = Sealed::seal(batch(), &key());
    for at in 0..sealed.bytes.len() {
        let mut bytes = sealed.bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        assert!(Sealed::open(Arc::from(bytes)).is_err(), "byte {at}");
    }
}

#[test]
fn a_batch_that_unpacks_to_gigabytes_is_refused_before_it_does() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    for claimed in [1u32 << 20, u32::MAX, 64 << 20] {
        let mut bytes = vec![1, 1];
        bytes.extend(claimed.to_le_bytes());
        bytes.extend([0; 64]);
        bytes.extend(&bomb);
        assert_eq!(Sealed::open(Arc::from(bytes)), Err(BatchError::Compression));
    }
}
