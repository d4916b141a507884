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
