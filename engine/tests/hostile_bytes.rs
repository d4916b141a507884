//! Bytes of any origin never panic a decoder, and what decodes at all encodes to the same bytes again.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use engine::batch::{Batch, BatchEntry, Sealed};
use engine::entry::Entry;
use engine::ids::{LogId, WriterId};
use engine::sync::{Carried, Held, Message, Short, Status};
use engine::transaction::Draft;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn sealed() -> Sealed {
    let key = SigningKey::from_bytes(&[1; 32]);
    let text = r#"{"kind":"refund","receipt":"F-1","currency":"GBP","original_receipt":"R-1","lines":[{"sku":"a",
        "quantity":"1","amount_minor":100,"tax_minor":20}],"tenders":[{"type":"cash","amount_minor":100}]}"#;
    let transaction = Draft::from_json(text).unwrap().transaction;
    let entry =
        BatchEntry { at: "2026-11-23T10:00:00Z".parse().unwrap(), effective_later_ms: 0, transaction };
    let batch = Batch {
        store: "s".parse().unwrap(),
        writer: WriterId(key.verifying_key().to_bytes()),
        log: LogId { terminal: "t".parse().unwrap(), incarnation: 1 },
        nonce: [2; 16],
        day: "2026-11-23".parse().unwrap(),
        index: 0,
        first_seq: 1,
        prev: None,
        seen: vec![(WriterId([3; 32]), 9)],
        entries: vec![entry; 9],
    };
    Sealed::seal(batch, &key)
}

/// Records as columns.
fn sealed_many() -> Sealed {
    let mut batch = sealed().batch;
    let entry = batch.entries.remove(0);
    let entry = |n: u8| {
        let mut entry = entry.clone();
        entry.at.ms += i64::from(n) * i64::from(n);
        entry.transaction.receipt = format!("F-{}", 1_000 + i64::from(n) * 7_919 % 97);
        entry
    };
    Sealed::seal(Batch { entries: (0..40).map(entry).collect(), ..batch }, &SigningKey::from_bytes(&[1; 32]))
}

fn messages() -> Vec<Message> {
    vec![
        Message::Hello { store: "s".parse().unwrap(), digest: [7; 32], clock_ms: 5 },
        Message::Vector {
            held: vec![Held { day: engine::time::Day(3), sessions: vec![Default::default()] }],
            reply: true,
        },
        Message::Batches {
            number: 1,
            batches: vec![Carried { bytes: sealed().bytes.to_vec(), change: [8; 32] }],
        },
        Message::Short { number: 1, batches: vec![Short { like: 1, change: [8; 8], rest: vec![7; 90] }; 3] },
        Message::Status(Status { software: "x".to_owned(), ..Status::default() }),
    ]
}

fn mutated(mut bytes: Vec<u8>, edits: &[(u16, u8)], cut: Option<u16>) -> Vec<u8> {
    for (at, with) in edits {
        let length = bytes.len();
        bytes[usize::from(*at) % length] = *with;
    }
    if let Some(cut) = cut {
        bytes.truncate(usize::from(cut) % bytes.len());
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_messages(which in 0usize..5, edits in prop::collection::vec(any::<(u16, u8)>(), 0..6), cut in any::<Option<u16>>()) {
        let bytes = mutated(messages()[which].encode(), &edits, cut);
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn mutated_batches(edits in prop::collection::vec(any::<(u16, u8)>(), 0..6), cut in any::<Option<u16>>()) {
        let honest = sealed();
        let bytes = mutated(honest.bytes.to_vec(), &edits, cut);
        let changed = *bytes != *honest.bytes;
        let opened = Sealed::open(Arc::from(bytes.clone()));
        prop_assert!(opened.is_err() || !changed, "a changed batch is not the writer's");
        if let Ok(read) = Sealed::reopen(Arc::from(bytes)) {
            prop_assert!(!read.batch.entries.is_empty());
        }
    }

    /// A body is packed again after it was changed, so that what lies behind the compression is reached.
    #[test]
    fn mutated_columns(edits in prop::collection::vec(any::<(u16, u8)>(), 1..6), cut in any::<Option<u16>>()) {
        let honest = sealed_many().bytes;
        prop_assert_eq!(honest[1], 3);
        let body = mutated(zstd::bulk::decompress(&honest[70..], 1 << 20).unwrap(), &edits, cut);
        let mut bytes = vec![1, 3];
        bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend([0; 64]);
        bytes.extend(zstd::bulk::compress(&body, 1).unwrap());
        if let Ok(read) = Sealed::reopen(Arc::from(bytes)) {
            prop_assert!(!read.batch.entries.is_empty());
            // What was read can be packed, and is the same again.
            let key = SigningKey::from_bytes(&[1; 32]);
            let batch = Batch { writer: WriterId(key.verifying_key().to_bytes()), ..read.batch };
            prop_assert_eq!(Sealed::open(Sealed::seal(batch.clone(), &key).bytes).map(|again| again.batch), Ok(batch));
        }
    }

    #[test]
    fn noise(kind in any::<u8>(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::decode(&bytes);
        let _ = Entry::decode(kind, &bytes);
        let _ = Sealed::open(Arc::from(bytes.clone()));
        let _ = Draft::from_json(&String::from_utf8_lossy(&bytes));
    }
}
