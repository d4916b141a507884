//! Batches that both ends of a connection have seen go one way, and what would follow each of them: the same session, its
//! next place and number, the record before it. A batch of one record is written by its likeness to what was expected, so
//! key, session, log and predecessor, which both ends know, take no bytes. Both ends keep the same, because they reckon
//! it from the bytes that went over the connection alone, never from what was made of them.
//!
//! Nothing here is believed: what is read back are sealed bytes like any others, and checked like them.

use serde::{Deserialize, Serialize};

use super::likeness::{self, Unlike};
use super::message::{Carried, SHORT_BATCHES_LIMIT, SHORT_BODY_LIMIT, Short};
use crate::batch::{self, SIGNATURE_BYTES};
use crate::codec;
use crate::document::ChangeId;
use crate::ids::{LogId, RecordId, StoreId, WriterId};
use crate::record::{self, Place};
use crate::time::{Day, Instant};

/// Sessions whose next batch is expected: those that wrote last.
pub const SESSIONS_EXPECTED: usize = 16;

/// Why a short batch cannot be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotShort {
    /// The two ends have not agreed on it.
    #[error("this link has no batches that are written short")]
    Dialect,
    /// No such body is expected here.
    #[error("it is written by body {0}, which is not expected here")]
    Unexpected(u8),
    /// There is no room for a signature.
    #[error("it has no signature")]
    Signature,
    /// Its steps make no body.
    #[error(transparent)]
    Unlike(#[from] Unlike),
}

/// What is expected in one direction of a connection.
#[derive(Debug, Default)]
pub struct Familiar {
    /// The session that wrote last comes first.
    expected: Vec<Expected>,
}

/// What the next batch of a session would be, up to its own transaction.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    writer: WriterId,
    nonce: [u8; 16],
    body: Vec<u8>,
}

/// A body up to the transaction of its first record; fields as in [`Batch`](crate::batch::Batch).
#[derive(Serialize, Deserialize)]
struct Opening {
    store: StoreId,
    writer: WriterId,
    log: LogId,
    nonce: [u8; 16],
    day: Day,
    index: u32,
    first_seq: u64,
    prev: Option<RecordId>,
    seen: Vec<(WriterId, u64)>,
    records: u64,
    at: Instant,
    effective_later_ms: u64,
}

impl Familiar {
    /// Writes the batches of a message short, and expects what follows them. `None`, and nothing has changed, if they are
    /// too many, or one has another than a plain and small body.
    pub fn write(&mut self, batches: &[Carried]) -> Option<Vec<Short>> {
        if batches.len() > SHORT_BATCHES_LIMIT {
            return None;
        }
        let plain: Vec<_> = batches.iter().map(plain).collect::<Option<_>>()?;
        let write = |(signature, body, change)| self.write_one(signature, body, change);
        Some(plain.into_iter().map(write).collect())
    }

    fn write_one(&mut self, signature: &[u8; SIGNATURE_BYTES], body: &[u8], change: &ChangeId) -> Short {
        let opened = Opening::of(body);
        let known = opened.as_ref().and_then(|(opening, _)| self.position(opening));
        let model = known.map_or(&[][..], |at| &self.expected[at].body);
        let rest = [signature.as_slice(), &likeness::write(model, body)].concat();
        let like = known.map_or(0, |at| u8::try_from(at + 1).expect("few sessions are expected"));
        self.expect_after(opened, known);
        let (change, _) = change.split_first_chunk().expect("a hash has 32 bytes");
        Short { like, change: *change, rest }
    }

    /// Reads sealed bytes back, and expects what follows them.
    ///
    /// # Errors
    /// It was not written by what is expected here.
    pub fn read(&mut self, short: &Short) -> Result<Vec<u8>, NotShort> {
        let model = match usize::from(short.like).checked_sub(1) {
            None => &[][..],
            Some(at) => &self.expected.get(at).ok_or(NotShort::Unexpected(short.like))?.body,
        };
        let (signature, steps) =
            short.rest.split_first_chunk::<SIGNATURE_BYTES>().ok_or(NotShort::Signature)?;
        let body = likeness::read(model, steps, SHORT_BODY_LIMIT)?;
        let opened = Opening::of(&body);
        let known = opened.as_ref().and_then(|(opening, _)| self.position(opening));
        self.expect_after(opened, known);
        Ok(batch::of_plain_parts(signature, &body))
    }

    fn position(&self, opening: &Opening) -> Option<usize> {
        let same = |one: &Expected| one.writer == opening.writer && one.nonce == opening.nonce;
        self.expected.iter().position(same)
    }

    /// The session of a batch wrote last. A body that cannot be understood changes nothing, at either end.
    fn expect_after(&mut self, opened: Option<(Opening, &[u8])>, known: Option<usize>) {
        let Some(next) = opened.and_then(|(opening, transaction)| opening.next(transaction)) else { return };
        if let Some(known) = known {
            self.expected.remove(known);
        }
        self.expected.truncate(SESSIONS_EXPECTED - 1);
        self.expected.insert(0, next);
    }
}

/// Signature, body and change of a batch that can be written short.
fn plain(carried: &Carried) -> Option<(&[u8; SIGNATURE_BYTES], &[u8], &ChangeId)> {
    let (signature, body) = batch::plain_parts(&carried.bytes)?;
    (body.len() <= SHORT_BODY_LIMIT).then_some((signature, body, &carried.change))
}

impl Opening {
    /// The opening of a body of one record, and its transaction.
    fn of(body: &[u8]) -> Option<(Self, &[u8])> {
        let (opening, transaction) = codec::decode_head::<Self, { 8 * SHORT_BODY_LIMIT }>(body).ok()?;
        (opening.records == 1).then_some((opening, transaction))
    }

    /// What follows it: `transaction` goes on, because the next one is like it.
    fn next(self, transaction: &[u8]) -> Option<Expected> {
        let effective_ms = self.at.ms.checked_add(i64::try_from(self.effective_later_ms).ok()?)?;
        let place = Place {
            store: self.store,
            writer: self.writer,
            log: self.log,
            seq: self.first_seq,
            prev: self.prev,
            business_day: self.day,
            at: self.at,
            effective_ms,
        };
        let id = record::derive_id(&place, transaction);
        let next = Self {
            store: place.store,
            log: place.log,
            index: self.index.checked_add(1)?,
            first_seq: self.first_seq.checked_add(1)?,
            prev: Some(id),
            seen: Vec::new(),
            ..self
        };
        let (writer, nonce) = (next.writer, next.nonce);
        let mut body = codec::encode(&next);
        body.extend(transaction);
        Some(Expected { writer, nonce, body })
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{Batch, BatchEntry, BatchError, Sealed};
    use crate::record::Record;
    use crate::transaction::Draft;

    /// A till that seals every sale by itself.
    struct Till {
        key: SigningKey,
        session: u8,
        sold: u64,
        prev: Option<RecordId>,
    }

    impl Till {
        fn new(session: u8) -> Self {
            Self { key: SigningKey::from_bytes(&[session; 32]), session, sold: 0, prev: None }
        }

        /// Its next sale, of so many lines.
        fn sell(&mut self, lines: u64) -> Carried {
            self.sold += 1;
            let amount = 100 + self.sold * 7;
            let line = format!(r#"{{"sku":"SKU-{amount:08}","quantity":"1","amount_minor":{amount}}}"#);
            let lines_text = vec![line; usize::try_from(lines).unwrap()].join(",");
            let text = format!(
                r#"{{"kind":"sale","receipt":"R-{:07}","operator":"op-4","currency":"GBP","lines":[{lines_text}],
                "tenders":[{{"type":"cash","amount_minor":{}}}]}}"#,
                self.sold,
                amount * lines
            );
            let transaction = Draft::from_json(&text).unwrap().transaction;
            let at = Instant::utc(1_795_420_800_000 + amount.cast_signed() * 997);
            let batch = Batch {
                store: "store-1".parse().unwrap(),
                writer: WriterId(self.key.verifying_key().to_bytes()),
                log: LogId { terminal: "till-01".parse().unwrap(), incarnation: 1 },
                nonce: [self.session; 16],
                day: at.day(),
                index: u32::try_from(self.sold - 1).unwrap(),
                first_seq: self.sold,
                prev: self.prev,
                seen: Vec::new(),
                entries: vec![BatchEntry { at, effective_later_ms: 0, transaction: transaction.clone() }],
            };
            let place = Place {
                store: batch.store.clone(),
                writer: batch.writer,
                log: batch.log.clone(),
                seq: self.sold,
                prev: self.prev,
                business_day: batch.day,
                at,
                effective_ms: at.ms,
            };
            self.prev = Some(Record::new(place, transaction).id);
            let sealed = Sealed::seal(batch, &self.key);
            Carried { bytes: sealed.bytes.to_vec(), change: [self.session; 32] }
        }
    }

    /// Written at one end and read at the other, bit for bit; how it was written.
    fn pass(from: &mut Familiar, to: &mut Familiar, carried: &Carried) -> Short {
        let mut written = from.write(std::slice::from_ref(carried)).expect("it is small");
        let short = written.remove(0);
        assert_eq!(to.read(&short).as_deref(), Ok(carried.bytes.as_slice()));
        assert_eq!(from.expected, to.expected, "both ends expect the same");
        short
    }

    #[test]
    fn what_both_ends_know_of_a_session_takes_no_bytes() {
        let (mut from, mut to, mut till) = (Familiar::default(), Familiar::default(), Till::new(1));
        let first = pass(&mut from, &mut to, &till.sell(1));
        assert_eq!(first.like, 0);
        for _ in 0..30 {
            let prev = till.prev.unwrap();
            let carried = till.sell(1);
            assert!(carried.bytes.windows(32).any(|part| part == prev.0), "it names the record before it");
            let short = pass(&mut from, &mut to, &carried);
            assert_eq!((short.like, short.change), (1, [1; 8]));
            assert!(short.rest.len() < SIGNATURE_BYTES + 32, "{} bytes", short.rest.len());
        }
    }

    #[test]
    fn of_more_sessions_than_are_expected_those_that_wrote_last_are_written_by_their_likeness() {
        let (mut from, mut to) = (Familiar::default(), Familiar::default());
        let mut tills: Vec<Till> = (1..=20).map(Till::new).collect();
        for till in &mut tills {
            pass(&mut from, &mut to, &till.sell(1));
        }
        assert_eq!(from.expected.len(), SESSIONS_EXPECTED);
        let likes: Vec<u8> =
            tills.iter_mut().rev().map(|till| pass(&mut from, &mut to, &till.sell(1)).like).collect();
        let known = (1..=16).collect::<Vec<u8>>();
        assert_eq!(likes, [known.as_slice(), &[0; 4]].concat(), "the four that were forgotten go in full");
    }

    #[test]
    fn a_message_with_anything_that_is_not_small_and_plain_is_not_written_short_and_changes_nothing() {
        let (mut from, mut to, mut till) = (Familiar::default(), Familiar::default(), Till::new(1));
        pass(&mut from, &mut to, &till.sell(1));
        let (small, compressed) = (till.sell(1), till.sell(60));
        assert_eq!(from.write(&[small.clone(), compressed]), None);
        assert_eq!(from.write(&vec![small.clone(); SHORT_BATCHES_LIMIT + 1]), None);
        let mut odd = small.clone();
        odd.bytes[2] ^= 1;
        assert_eq!(from.write(&[odd]), None, "its header says another length than it has");
        assert_eq!(from.write(&[Carried { bytes: vec![1; 9], change: [0; 32] }]), None);
        assert_eq!(pass(&mut from, &mut to, &small).like, 1);
    }

    #[test]
    fn a_batch_that_comes_again_or_was_left_out_is_read_all_the_same() {
        let (mut from, mut to, mut till) = (Familiar::default(), Familiar::default(), Till::new(1));
        let first = till.sell(1);
        pass(&mut from, &mut to, &first);
        pass(&mut from, &mut to, &first);
        let _went_in_full = till.sell(1);
        pass(&mut from, &mut to, &till.sell(1));
        pass(&mut from, &mut to, &first);
    }

    #[test]
    fn what_is_not_written_by_what_is_expected_is_refused_and_changes_nothing() {
        let (mut from, mut to, mut till) = (Familiar::default(), Familiar::default(), Till::new(1));
        pass(&mut from, &mut to, &till.sell(1));
        let carried = till.sell(1);
        let short = from.write(std::slice::from_ref(&carried)).unwrap().remove(0);
        let with = |like: u8, steps: &[u8]| Short {
            like,
            rest: [&short.rest[..SIGNATURE_BYTES], steps].concat(),
            ..short.clone()
        };
        // The same 47 bytes again and again.
        let bomb = [&[0x0F, 0x20][..], &[0x8F, 0x20, 0x5D].repeat(24)].concat();
        let cases = [
            (with(2, &[]), NotShort::Unexpected(2)),
            (with(255, &[]), NotShort::Unexpected(255)),
            (Short { rest: vec![0; SIGNATURE_BYTES - 1], ..short.clone() }, NotShort::Signature),
            (with(0, &[0x01]), Unlike::Outside.into()),
            (with(1, &[0x70]), Unlike::Cut.into()),
            (with(1, &bomb), Unlike::TooLong.into()),
        ];
        for (wrong, why) in cases {
            assert_eq!(to.read(&wrong), Err(why));
        }
        assert_eq!(to.read(&short).as_deref(), Ok(carried.bytes.as_slice()));
    }

    #[test]
    fn a_body_that_cannot_be_understood_is_for_the_checks_to_refuse_and_is_not_expected_to_go_on() {
        let (mut from, mut to, mut till) = (Familiar::default(), Familiar::default(), Till::new(1));
        pass(&mut from, &mut to, &till.sell(1));
        let rest = [&[7; SIGNATURE_BYTES][..], &[0x40, 9, 9, 9, 9]].concat();
        let read = to.read(&Short { like: 0, change: [0; 8], rest }).unwrap();
        assert!(matches!(Sealed::open(read.into()), Err(BatchError::Codec(_))));
        // Its numbers cannot go on.
        let mut last = Opening::of(batch::plain_parts(&till.sell(1).bytes).unwrap().1).unwrap().0;
        (last.index, last.first_seq) = (u32::MAX, u64::MAX);
        let body = codec::encode(&last);
        let rest = [&[7; SIGNATURE_BYTES][..], &likeness::write(&[], &body)].concat();
        to.read(&Short { like: 0, change: [0; 8], rest }).unwrap();
        assert_eq!(from.expected, to.expected);
        pass(&mut from, &mut to, &till.sell(1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_a_body_a_session(
            likes in proptest::collection::vec((0..4_u8, proptest::collection::vec(any::<(u8, u8)>(), 0..6)), 1..40),
        ) {
            let (mut from, mut to) = (Familiar::default(), Familiar::default());
            let mut tills = [Till::new(1), Till::new(2)];
            for (which, edits) in likes {
                let carried = tills[usize::from(which) % 2].sell(1);
                let mut short = from.write(&[carried]).unwrap().remove(0);
                short.like = which;
                for (at, with) in edits {
                    let length = short.rest.len();
                    short.rest[usize::from(at) % length] = with;
                }
                if let Ok(bytes) = to.read(&short) {
                    prop_assert!(bytes.len() <= SHORT_BODY_LIMIT + 70);
                    prop_assert_eq!(batch::plain_parts(&bytes).map(|(signature, _)| signature.as_slice()), Some(&short.rest[..SIGNATURE_BYTES]));
                }
                prop_assert!(to.expected.len() <= SESSIONS_EXPECTED);
                // Numbers may become longer, and a predecessor be named where there was none.
                prop_assert!(to.expected.iter().all(|one| one.body.len() <= SHORT_BODY_LIMIT + 48));
            }
        }
    }
}
