//! What a node remembers of one connected peer: what it holds, what is on its way to it, how much may be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::familiar::{Familiar, NotShort};
use super::message::{Announced, Dialect, Digest, Held, Short, Status, digest};
use crate::ids::{BatchHash, SessionId};
use crate::time::Day;

/// Bytes that may be on their way to a peer without its acknowledgement.
pub const WINDOW_BYTES: usize = 4 << 20;
/// Bytes of batches put into one message, if one batch is not larger.
pub const CHUNK_BYTES: usize = 32 << 10;

/// Sessions of days that a peer's word is remembered of: more than ten years of a large store.
pub const HELD_LIMIT: usize = 500_000;

/// A batch by where it stands: day, session, index.
pub type BatchKey = (Day, SessionId, u32);

/// One connected peer.
#[derive(Debug, Default)]
pub struct Peer {
    /// Batches the peer is known to hold, by day and session.
    held: BTreeMap<(Day, SessionId), u32>,
    /// Local ordinals of batches it lacks; ordinals are in causal order.
    missing: BTreeSet<u64>,
    /// Messages sent and not acknowledged.
    in_flight: VecDeque<Sent>,
    in_flight_bytes: usize,
    sent_number: u64,
    sent_digest: Digest,
    received_number: u64,
    received_digest: Digest,
    /// Whether the peer's vector is known, so that what it lacks is known.
    level: bool,
    /// First batch of a session that the peer refused.
    refused: BTreeMap<(Day, SessionId), u32>,
    /// By what it writes batches short, if the link's dialect has that.
    familiar: Option<Familiar>,
    /// What it last said of itself, and when.
    pub status: Option<(i64, Status)>,
}

/// A message on its way.
#[derive(Debug)]
struct Sent {
    number: u64,
    digest: Digest,
    bytes: usize,
    ordinals: Vec<u64>,
    keys: Vec<BatchKey>,
}

/// Batches cut for one message.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Number of the message.
    pub number: u64,
    /// Local ordinals, in causal order.
    pub ordinals: Vec<u64>,
}

impl Peer {
    /// A peer at the beginning of a link.
    #[must_use]
    pub fn speaking(dialect: Dialect) -> Self {
        let familiar = (dialect == Dialect::Short).then(Familiar::default);
        Self { familiar, ..Self::default() }
    }

    /// Reads back batches that the peer wrote short, in their order: sealed bytes, not checked, with what it announces of
    /// their changes.
    ///
    /// # Errors
    /// The link's dialect has no such batches, or one was not written by what is expected of the peer. Its conversation is
    /// of no use any more.
    pub fn read_short(&mut self, batches: &[Short]) -> Result<Vec<(Vec<u8>, Announced)>, NotShort> {
        let familiar = self.familiar.as_mut().ok_or(NotShort::Dialect)?;
        let mut read = |short: &Short| Ok((familiar.read(short)?, Announced::Head(short.change)));
        batches.iter().map(&mut read).collect()
    }

    /// Whether the peer's holdings are known, so that what it lacks is known and pushed.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.level
    }

    /// How many batches of a session the peer is known to hold.
    #[must_use]
    pub fn holds(&self, day: Day, session: SessionId) -> u32 {
        self.held.get(&(day, session)).copied().unwrap_or(0)
    }

    /// What the peer is known to hold: day and session, how many batches.
    pub fn holdings(&self) -> impl Iterator<Item = ((Day, SessionId), u32)> {
        self.held.iter().map(|(session, count)| (*session, *count))
    }

    /// The peer holds at least `count` batches of a session.
    pub fn learn(&mut self, day: Day, session: SessionId, count: u32) {
        let held = self.held.entry((day, session)).or_insert(0);
        *held = (*held).max(count);
    }

    /// The peer acknowledged batch `index` of a session, unless it refused it or one before it.
    pub fn learn_next(&mut self, day: Day, session: SessionId, index: u32) {
        if self.refused.get(&(day, session)).is_none_or(|first| index < *first) {
            self.learn(day, session, index + 1);
        }
    }

    /// The peer refused a batch: nothing of that session from there on counts as held.
    pub fn refuse(&mut self, day: Day, session: SessionId, index: u32) {
        let first = self.refused.entry((day, session)).or_insert(index);
        *first = (*first).min(index);
    }

    /// The peer told what it holds of some days: what it refused of them before is among what it lacks, and is sent
    /// again.
    pub fn forget_refused(&mut self, days: &BTreeSet<Day>) {
        self.refused.retain(|(day, _), _| !days.contains(day));
    }

    /// Where the peer refused a batch: day, session and index of the first.
    pub fn refused(&self) -> impl Iterator<Item = BatchKey> + '_ {
        self.refused.iter().map(|((day, session), index)| (*day, *session, *index))
    }

    /// Ordinals of batches that the peer is not known to hold: waiting or on their way.
    pub fn lacking(&self) -> impl Iterator<Item = u64> + '_ {
        self.missing.iter().copied().chain(self.in_flight())
    }

    /// Ordinals of batches that are on their way to the peer.
    pub fn in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        self.in_flight.iter().flat_map(|sent| sent.ordinals.iter().copied())
    }

    /// The peer told what it holds of some days.
    pub fn learn_vector(&mut self, held: &[Held]) {
        for day in held {
            for (session, count) in &day.sessions {
                // It could think sessions up for ever. What is not remembered is sent to it again, no more.
                if self.held.len() >= HELD_LIMIT {
                    return;
                }
                self.learn(day.day, *session, *count);
            }
        }
    }

    /// From now on everything it lacks is known: `missing` are the ordinals to send.
    pub fn set_level(&mut self, missing: impl IntoIterator<Item = u64>) {
        self.level = true;
        // Two vectors may cross; what is on its way already is not sent again.
        let on_the_way: BTreeSet<u64> = self.in_flight().collect();
        self.missing.extend(missing.into_iter().filter(|ordinal| !on_the_way.contains(ordinal)));
    }

    /// A batch was admitted here that the peer may lack.
    pub fn offer(&mut self, ordinal: u64) {
        self.missing.insert(ordinal);
    }

    /// What the peer owes an answer to: the number of the oldest message of batches, or 0 for its first word. `None`: it
    /// owes nothing.
    #[must_use]
    pub fn owes(&self) -> Option<u64> {
        let oldest = self.in_flight.front().map(|sent| sent.number);
        oldest.or_else(|| (!self.level).then_some(0))
    }

    /// Batches that wait to be sent or acknowledged.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.missing.len() + self.in_flight.iter().map(|sent| sent.keys.len()).sum::<usize>()
    }

    /// Cuts the next message if the window allows. `describe` gives a batch's place, size and hash.
    pub fn next_chunk(&mut self, describe: impl Fn(u64) -> (BatchKey, usize, BatchHash)) -> Option<Chunk> {
        if !self.level || self.in_flight_bytes >= WINDOW_BYTES {
            return None;
        }
        let (mut ordinals, mut keys, mut hashes, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while let Some(&ordinal) = self.missing.first() {
            let (key, size, hash) = describe(ordinal);
            let known = self.holds(key.0, key.1) > key.2;
            if !known && !ordinals.is_empty() && bytes + size > CHUNK_BYTES {
                break;
            }
            self.missing.pop_first();
            if !known {
                bytes += size;
                ordinals.push(ordinal);
                keys.push(key);
                hashes.push(hash);
            }
        }
        if ordinals.is_empty() {
            return None;
        }
        self.sent_number += 1;
        self.in_flight_bytes += bytes;
        self.sent_digest = digest(self.sent_digest, hashes);
        let (number, digest) = (self.sent_number, self.sent_digest);
        self.in_flight.push_back(Sent { number, digest, bytes, ordinals: ordinals.clone(), keys });
        Some(Chunk { number, ordinals })
    }

    /// The peer has made everything up to message `number` durable (or refused it). Returns those batches; `None` if what
    /// it took in is not what was sent to it.
    pub fn acknowledged(&mut self, number: u64, digest: Digest) -> Option<Vec<BatchKey>> {
        if self.in_flight.front().is_some_and(|oldest| number < oldest.number) {
            return Some(Vec::new());
        }
        let at = self.in_flight.iter().position(|sent| (sent.number, sent.digest) == (number, digest))?;
        let mut keys = Vec::new();
        for sent in self.in_flight.drain(..=at) {
            self.in_flight_bytes -= sent.bytes;
            keys.extend(sent.keys);
        }
        Some(keys)
    }

    /// The number that the peer's next message of batches has to have.
    #[must_use]
    pub fn expects(&self) -> u64 {
        self.received_number + 1
    }

    /// A message of batches came in; `false` if its number is not the next one.
    pub fn received(&mut self, number: u64) -> bool {
        let expected = self.expects();
        self.received_number = self.received_number.max(number);
        number == expected
    }

    /// What was in that message. Gives what its acknowledgement says of it.
    pub fn took(&mut self, batches: impl IntoIterator<Item = BatchHash>) -> Digest {
        self.received_digest = digest(self.received_digest, batches);
        self.received_digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two fit a message.
    const BATCH_BYTES: usize = CHUNK_BYTES * 2 / 5;

    fn describe(ordinal: u64) -> (BatchKey, usize, BatchHash) {
        let key = (Day(0), SessionId([0; 16]), u32::try_from(ordinal).unwrap());
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&ordinal.to_le_bytes());
        (key, BATCH_BYTES, BatchHash(hash))
    }

    #[test]
    fn chunks_are_causal_bounded_and_wait_for_the_window() {
        let mut peer = Peer::default();
        peer.offer(1);
        assert_eq!(peer.next_chunk(describe), None, "not level yet");
        peer.set_level(0..1_000);
        let mut sent = Vec::new();
        while let Some(chunk) = peer.next_chunk(describe) {
            assert!(chunk.ordinals.len() <= 2);
            sent.extend(chunk.ordinals);
        }
        assert!(sent.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            sent.len() < 1_000 && sent.len() * BATCH_BYTES < WINDOW_BYTES + 2 * CHUNK_BYTES,
            "the window holds"
        );
        let first = digest(Digest::default(), [0, 1].map(|ordinal| describe(ordinal).2));
        assert_eq!(peer.acknowledged(1, first).unwrap().len(), 2);
        assert!(peer.next_chunk(describe).is_some(), "an acknowledgement opens it again");
    }

    #[test]
    fn an_acknowledgement_of_something_else_counts_for_nothing() {
        let (mut sender, mut receiver) = (Peer::default(), Peer::default());
        sender.set_level(0..4);
        let chunks: Vec<Chunk> = std::iter::from_fn(|| sender.next_chunk(describe)).collect();
        let hashes = |chunk: &Chunk| chunk.ordinals.clone().into_iter().map(|ordinal| describe(ordinal).2);
        let forged = receiver.took([BatchHash([9; 32])]);
        assert_eq!(sender.acknowledged(1, forged), None, "another's batch came in its place");
        let mut receiver = Peer::default();
        let digests: Vec<Digest> = chunks.iter().map(|chunk| receiver.took(hashes(chunk))).collect();
        assert_eq!(sender.acknowledged(3, digests[1]), None, "nothing was sent under this number");
        assert_eq!(sender.acknowledged(2, digests[0]), None, "and this is of another message");
        assert_eq!(
            sender.acknowledged(2, digests[1]).unwrap().len(),
            4,
            "the first is covered by the second"
        );
        let mut dropped = Peer::default();
        assert_ne!(dropped.took(hashes(&chunks[1])), digests[1], "a message in between is missing");
    }

    #[test]
    fn a_second_vector_does_not_send_again_what_is_on_its_way() {
        let mut peer = Peer::default();
        peer.set_level(0..2);
        assert_eq!(peer.next_chunk(describe).map(|chunk| chunk.ordinals), Some(vec![0, 1]));
        peer.set_level(0..3);
        assert_eq!(peer.next_chunk(describe).map(|chunk| chunk.ordinals), Some(vec![2]));
    }

    #[test]
    fn what_the_peer_already_holds_is_not_sent() {
        let mut peer = Peer::default();
        peer.learn(Day(0), SessionId([0; 16]), 3);
        peer.set_level(0..5);
        assert_eq!(peer.next_chunk(describe).map(|chunk| chunk.ordinals), Some(vec![3, 4]));
    }
}
