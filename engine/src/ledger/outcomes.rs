//! What is kept of judged records, by slot. Old ones are packed like the records they belong to.

use std::collections::BTreeSet;

use super::families::Slot;
use super::judgement::{Outcome, Standing};
use crate::attic::Workroom;
use crate::shelf::{Pressed, Shelf};

/// The outcomes of a set.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes {
    shelf: Shelf<Option<Outcome>>,
    in_review: u64,
    /// Hash of each full chunk as it is packed, as far as it was asked for and still holds.
    hashes: Vec<Option<[u8; 32]>>,
    /// Chunks with other outcomes than when `take_changed` was called last.
    changed: BTreeSet<usize>,
}

impl Outcomes {
    /// No records yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        let shelf = Shelf::new(room);
        Self { shelf, in_review: 0, hashes: Vec::new(), changed: BTreeSet::new() }
    }

    /// How many records there are, judged or not.
    pub(crate) fn len(&self) -> usize {
        self.shelf.len()
    }

    /// How many wait for a reviewer.
    pub(crate) fn in_review(&self) -> u64 {
        self.in_review
    }

    /// Adds the next record, not judged yet.
    pub(crate) fn push(&mut self) {
        self.shelf.push(None);
    }

    /// The outcome of a record, if it is judged.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Outcome> {
        self.shelf.get(slot, &Pressed).as_ref()
    }

    /// Puts a new outcome in the place of the old.
    pub(crate) fn set(&mut self, slot: Slot, outcome: Outcome) {
        let waits = |outcome: &Outcome| u64::from(outcome.standing == Standing::InReview);
        if self.get(slot) == Some(&outcome) {
            return;
        }
        let after = waits(&outcome);
        let before = self.shelf.replace(slot, Some(outcome), &Pressed);
        self.in_review = self.in_review + after - before.as_ref().map_or(0, waits);
        let chunk = self.shelf.chunk_of(slot);
        self.changed.insert(chunk);
        if let Some(hash) = self.hashes.get_mut(chunk) {
            *hash = None;
        }
    }

    /// Full chunks whose outcomes changed since the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<usize> {
        let open = self.changed.split_off(&self.shelf.full_chunks());
        std::mem::replace(&mut self.changed, open)
    }

    /// A full chunk, packed.
    pub(crate) fn packed(&self, chunk: usize) -> Box<[u8]> {
        self.shelf.packed(chunk, &Pressed)
    }

    /// The hash of every full chunk as it is packed.
    pub(crate) fn chunk_hashes(&mut self) -> Vec<[u8; 32]> {
        self.hashes.resize(self.shelf.full_chunks(), None);
        let shelf = &self.shelf;
        let hash = |(chunk, known): (usize, &mut Option<[u8; 32]>)| {
            *known.get_or_insert_with(|| *blake3::hash(&shelf.packed(chunk, &Pressed)).as_bytes())
        };
        self.hashes.iter_mut().enumerate().map(hash).collect()
    }

    /// Outcomes of the records that are in no full chunk.
    pub(crate) fn newest(&self) -> &[Option<Outcome>] {
        self.shelf.newest()
    }

    /// Outcomes as they were saved.
    pub(crate) fn of_image(
        room: &Workroom,
        chunks: &[Vec<u8>],
        hashes: Vec<[u8; 32]>,
        newest: Vec<Option<Outcome>>,
        in_review: u64,
    ) -> Self {
        let mut shelf = Shelf::new(room);
        chunks.iter().for_each(|chunk| shelf.push_packed(chunk));
        newest.into_iter().for_each(|outcome| shelf.push(outcome));
        Self { shelf, in_review, hashes: hashes.into_iter().map(Some).collect(), changed: BTreeSet::new() }
    }

    /// Calls `each` for the outcomes of slots in ascending order, and keeps none unpacked for it.
    pub(crate) fn for_slots(&self, slots: &[Slot], each: impl FnMut(Slot, &Option<Outcome>)) {
        self.shelf.for_slots(slots, &Pressed, each);
    }

    /// Packs what is not in use.
    pub(crate) fn rest(&mut self) {
        self.shelf.rest(&Pressed);
    }
}
