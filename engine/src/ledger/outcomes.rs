//! What is kept of judged records, by slot. Old ones are packed like the records they belong to.

use serde::{Deserialize, Serialize};

use super::families::Slot;
use super::judgement::{Outcome, Standing};
use crate::attic::Workroom;
use crate::shelf::{Due, Pressed, Shelf};

/// The outcomes of a set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcomes {
    shelf: Shelf<Option<Outcome>>,
    in_review: u64,
}

impl Outcomes {
    /// No records yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        Self { shelf: Shelf::new(room), in_review: 0 }
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
    }

    /// Packs what an image names.
    pub(crate) fn pack(&mut self) {
        self.shelf.pack(&Pressed);
    }

    /// Calls `each` for the outcomes of slots in ascending order, and keeps none unpacked for it.
    pub(crate) fn for_slots(&self, slots: &[Slot], each: impl FnMut(Slot, &Option<Outcome>)) {
        self.shelf.for_slots(slots, &Pressed, each);
    }

    /// Packs a chunk of what is not in use; whether there was any.
    pub(crate) fn rest_a_chunk(&mut self, due: Due) -> bool {
        self.shelf.rest_a_chunk(due, &Pressed)
    }
}
