//! Decoders of the engine: what a peer sends, what a log holds, what a POS or a person hands over as text.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use engine::batch::{BATCH_BYTES_LIMIT, BATCH_VERSION, Batch, BatchEntry, Sealed};
use engine::entry::Entry;
use engine::ids::WriterId;
use engine::policy::{Policy, PolicyChange, parse_duration_ms};
use engine::sync::{Carried, Familiar, Message};
use engine::transaction::{Draft, looks_like_card_number, mask_card_numbers};
use engine::{codec, columns};

/// Memory that a decoded value of a target may claim.
const LIMIT: usize = 16 << 20;
/// As many as a writer packs as columns.
const RECORDS: usize = 12;

/// A sealed batch: as it stands, and with a header that fits a body of any bytes, so that what lies behind the header is
/// reached. The bytes of a batch are canonical: a second spelling would be a second identity of one thing.
pub fn batch(bytes: &[u8]) {
    let _ = Sealed::open(Arc::from(bytes));
    if let Ok(batch) = columns::decode::<Batch>(bytes, LIMIT) {
        let again = columns::encode(&batch).expect("what was read can be written");
        assert_eq!(columns::decode::<Batch>(&again, LIMIT).expect("what was written can be read"), batch);
        packed(batch);
    }
    let mut headed = vec![BATCH_VERSION, 0];
    headed.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    headed.extend([0; 64]);
    headed.extend(bytes);
    let Ok(sealed) = Sealed::reopen(Arc::from(headed)) else { return };
    assert!(!sealed.batch.entries.is_empty());
    assert!(sealed.batch.last_seq() >= sealed.batch.first_seq);
    let again = codec::encode(&sealed.batch);
    let read: Batch = codec::decode::<_, LIMIT>(&again).expect("what was decoded encodes");
    assert_eq!(read, sealed.batch);
    for entry in &sealed.batch.entries {
        let _ = entry.transaction.validate_schema();
        let _ = entry.transaction.validate_statement();
        let _ = entry.transaction.validate_capture(&Policy::default());
    }
}

/// Whatever amounts a batch has, they come back out of what a writer makes of them.
fn packed(mut batch: Batch) {
    let key = SigningKey::from_bytes(&[1; 32]);
    batch.writer = WriterId(key.verifying_key().to_bytes());
    batch.first_seq = 1;
    batch.seen.truncate(4);
    let few: Vec<BatchEntry> = batch.entries.drain(..).take(RECORDS).collect();
    batch.entries = few.iter().cycle().take(RECORDS).cloned().collect();
    if few.is_empty() || codec::encode(&batch).len() > BATCH_BYTES_LIMIT / 4 {
        return;
    }
    let sealed = Sealed::seal(batch.clone(), &key);
    assert_eq!(Sealed::open(sealed.bytes).expect("what was sealed opens").batch, batch);
}

/// A frame of a link.
pub fn message(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    if let Message::Short { batches, .. } = &message {
        let [mut heard, mut told, mut heard_again] = [(); 3].map(|()| Familiar::default());
        for short in batches {
            let Ok(bytes) = heard.read(short) else { break };
            let carried = Carried { bytes: bytes.clone(), change: [0; 32] };
            let written = told.write(&[carried]).expect("what came short can be written short");
            assert_eq!(heard_again.read(&written[0]), Ok(bytes));
        }
    }
    assert_eq!(Message::decode(&message.encode()), Ok(message));
}

/// An entry of a node's log; the first byte is its kind.
pub fn entry(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    if let Ok((store, entry)) = Entry::decode(*kind, body) {
        let (again, encoded) = entry.encode(&store);
        assert_eq!(again, *kind);
        assert_eq!(Entry::decode(again, &encoded), Ok((store, entry)));
    }
}

/// What an image holds, behind its hash.
pub fn checkpoint(bytes: &[u8]) {
    let _ = crate::shop::hub_replica().resume(bytes);
    let _ = crate::shop::hub_replica().resume(&engine::image::frame(bytes));
}

/// A transaction as a POS hands it over.
pub fn transaction(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(draft) = Draft::from_json(text) else { return };
    let _ = draft.transaction.validate_capture(&Policy::default());
    if draft.transaction.validate_schema().is_ok() {
        let encoded = codec::encode(&draft.transaction);
        assert_eq!(codec::decode::<_, LIMIT>(&encoded), Ok(draft.transaction));
    }
}

/// What masks card numbers leaves none behind.
pub fn card_numbers(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let masked = mask_card_numbers(text);
    assert!(!looks_like_card_number(&masked), "{text:?} was masked as {masked:?}");
    if !looks_like_card_number(text) {
        assert_eq!(masked, text);
    }
}

/// Settings of a policy, one a line; a line without `=` is also read as a duration.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut policy = Policy::default();
    for line in text.lines() {
        let _ = parse_duration_ms(line);
        let _ = PolicyChange::parse([line], None, "somebody");
        if let Some((key, value)) = line.split_once('=') {
            let _ = policy.set(key.trim(), value.trim());
        }
    }
    // Whatever was set can be printed, and what is printed can be set.
    for (key, value) in policy.settings() {
        let mut again = policy.clone();
        again.set(key, &value).unwrap_or_else(|error| panic!("{key} prints as {value:?}: {error}"));
        assert_eq!(again, policy, "{key} = {value:?}");
    }
}

/// A scenario of the books (CONTRACT's form), read and run.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(scenarios) = engine::scenario::read(text) else { return };
    for scenario in scenarios.iter().take(4) {
        let books = scenario.run();
        for (currency, (debits, credits)) in books.trial_balance() {
            assert_eq!(debits, credits, "{currency}");
        }
        let _ = scenario.report(&books);
    }
}

/// A scenario file of the simulator. It is not run: what passes is checked by the simulator's own seeds.
pub fn happenings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(scenario) = sim::file::read("fuzzed.toml", text) else { return };
    let written = sim::file::write(&scenario);
    let again = sim::file::read("written.toml", &written);
    assert_eq!(again.as_ref(), Ok(&scenario), "{written}");
}
