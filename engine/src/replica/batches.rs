//! Every batch that the replica holds, by ordinal: the order of admission, which is a causal order. Where it stands and
//! what it holds, never its bytes; old ones rest packed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attic::Workroom;
use crate::ids::{BatchHash, SessionId, WriterId};
use crate::shelf::{Due, Pressed, Shelf};
use crate::time::Day;

/// Where a batch stands and what it holds, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchMeta {
    /// Business day.
    pub day: Day,
    /// Session that sealed it.
    pub session: SessionId,
    /// Position in the session's list of the day.
    pub index: u32,
    /// Who wrote it.
    pub writer: WriterId,
    /// Number of the first record.
    pub first_seq: u64,
    /// Number of the last record.
    pub last_seq: u64,
    /// Bytes.
    pub size: u32,
    /// Identity.
    pub hash: BatchHash,
    /// When it was admitted here, ms since 1970.
    pub admitted_ms: i64,
}

/// The batches of a store.
#[derive(Serialize, Deserialize)]
pub(super) struct Batches {
    shelf: Shelf<BatchMeta>,
    of_writer: BTreeMap<WriterId, OfWriter>,
}

/// The batches of one writer.
#[derive(Serialize, Deserialize)]
struct OfWriter {
    ordinals: Shelf<u32>,
    last_seq: u64,
    /// Numbers came twice, so that they do not rise with the ordinals.
    forked: bool,
}

impl Batches {
    pub(super) fn new(room: &Workroom) -> Self {
        Self { shelf: Shelf::new(room), of_writer: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.shelf.len()
    }

    /// Adds a batch and gives its ordinal.
    pub(super) fn push(&mut self, meta: BatchMeta) -> u32 {
        let ordinal = u32::try_from(self.len()).expect("fewer than 2^32 batches in one store");
        let room = self.shelf.room();
        let none = || OfWriter { ordinals: Shelf::of_small(room), last_seq: 0, forked: false };
        let own = self.of_writer.entry(meta.writer).or_insert_with(none);
        own.forked |= meta.first_seq <= own.last_seq;
        own.last_seq = own.last_seq.max(meta.last_seq);
        own.ordinals.push(ordinal);
        own.ordinals.rest_a_chunk(Due::Now, &Pressed);
        self.shelf.push(meta);
        self.shelf.rest_a_chunk(Due::Overdue, &Pressed);
        ordinal
    }

    /// Packs a chunk of what is not in use; whether there was any.
    pub(super) fn rest_a_chunk(&mut self, due: Due) -> bool {
        self.shelf.rest_a_chunk(due, &Pressed)
    }

    /// Packs what an image names.
    pub(super) fn pack(&mut self) {
        self.shelf.pack(&Pressed);
        self.of_writer.values_mut().for_each(|own| own.ordinals.pack(&Pressed));
    }

    pub(super) fn get(&self, ordinal: u32) -> Option<&BatchMeta> {
        ((ordinal as usize) < self.len()).then(|| self.shelf.get(ordinal, &Pressed))
    }

    /// As `get`, for an ordinal as it is told outside.
    pub(super) fn at(&self, ordinal: u64) -> Option<&BatchMeta> {
        self.get(u32::try_from(ordinal).ok()?)
    }

    /// Every batch from an ordinal on.
    pub(super) fn from(&self, ordinal: usize) -> impl Iterator<Item = &BatchMeta> {
        let end = u32::try_from(self.len()).expect("fewer than 2^32 batches in one store");
        (u32::try_from(ordinal).unwrap_or(end)..end).map(|ordinal| self.shelf.get(ordinal, &Pressed))
    }

    /// Calls `each` for every batch, and keeps none unpacked for it.
    pub(super) fn for_each(&self, each: impl FnMut(u32, &BatchMeta)) {
        self.shelf.for_each(&Pressed, each);
    }

    /// The newest batch of a writer.
    pub(super) fn newest_of(&self, writer: &WriterId) -> Option<&BatchMeta> {
        let own = self.of_writer.get(writer)?;
        self.of_own(own, own.ordinals.len().checked_sub(1)?)
    }

    fn of_own(&self, own: &OfWriter, at: usize) -> Option<&BatchMeta> {
        self.get(*own.ordinals.get(u32::try_from(at).ok()?, &Pressed))
    }

    /// The batch that holds a number of a writer; of several, in a forked log, the newest.
    pub(super) fn holding(&self, writer: &WriterId, seq: u64) -> Option<&BatchMeta> {
        let own = self.of_writer.get(writer)?;
        let holds = |meta: &&BatchMeta| (meta.first_seq..=meta.last_seq).contains(&seq);
        let count = own.ordinals.len();
        if own.forked {
            return (0..count).rev().filter_map(|at| self.of_own(own, at)).find(holds);
        }
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.of_own(own, middle)?.first_seq <= seq {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.of_own(own, low.checked_sub(1)?).filter(holds)
    }
}
