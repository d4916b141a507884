//! From a key to the slots that may have it: 8 bytes a row, because only a piece of the key's hash is kept. Who asks
//! compares what he finds with the key itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::families::Slot;
use crate::attic::Workroom;
use crate::runs::{Row, Runs};

/// Rows of (piece of a hash, slot).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SlotIndex {
    rows: Runs<TagRow>,
    #[serde(skip)]
    lately: Lately,
}

/// What a page was read for lately. A refund's sale is asked for again and again while the refund is filed and judged, and each
/// time would read a page.
#[derive(Debug, Default)]
struct Lately(Mutex<BTreeMap<Tag, Vec<Slot>>>);

impl Lately {
    /// With more, all are forgotten: as many as refer to something old among what is judged together, mostly.
    const LIMIT: usize = 128;

    fn find(&self, tag: Tag, read: impl FnOnce() -> Vec<Slot>) -> Vec<Slot> {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = found.get(&tag) {
            return slots.clone();
        }
        if found.len() == Self::LIMIT {
            found.clear();
        }
        found.entry(tag).or_insert_with(read).clone()
    }

    fn add(&mut self, tag: Tag, slot: Slot) {
        let found = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = found.get_mut(&tag)
            && let Err(at) = slots.binary_search(&slot)
        {
            slots.insert(at, slot);
        }
    }
}

impl Clone for Lately {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// A key as the index knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Tag(u32);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct TagRow(u32, Slot);

impl Row for TagRow {
    const BYTES: usize = 8;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.0.to_le_bytes());
        to.extend(self.1.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self(number(0), number(4))
    }

    fn mark(&self) -> u64 {
        u64::from(self.0)
    }
}

impl Tag {
    /// Of something that is a hash already.
    pub(crate) fn of_hash(hash: &[u8; 32]) -> Self {
        Self(u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]))
    }

    /// Of a key in parts. Not a hash that withstands anybody: a piece of any hash is met by whoever wants to meet it, and every
    /// find is compared with the key.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let hash = parts.iter().fold(0, |hash, part| xxh3_64_with_seed(part, hash)).to_le_bytes();
        Self(u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]))
    }
}

impl SlotIndex {
    /// No rows yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        Self { rows: Runs::new(room), lately: Lately::default() }
    }

    /// Adds a row.
    pub(crate) fn insert(&mut self, tag: Tag, slot: Slot) {
        self.rows.insert(TagRow(tag.0, slot));
        self.lately.add(tag, slot);
    }

    /// Slots that may have the key, the lowest first.
    pub(crate) fn find(&self, tag: Tag) -> Vec<Slot> {
        let (from, to) = (TagRow(tag.0, 0), TagRow(tag.0, Slot::MAX));
        let slots = |rows: Vec<TagRow>| rows.into_iter().map(|row| row.1).collect();
        if !self.rows.may_have_old(&[from.mark()]) {
            return slots(self.rows.up_fresh(from, to, usize::MAX));
        }
        self.lately.find(tag, || slots(self.rows.up(from, to, usize::MAX, &[from.mark()])))
    }

    /// Whether no key has a slot.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_of_a_key_is_found_in_order() {
        let mut index = SlotIndex::new(&Workroom::default());
        let tag = |n: u32| Tag::of(&[b"key", &n.to_le_bytes()]);
        for slot in (0..30_000).rev() {
            index.insert(tag(slot % 10_000), slot);
            // Whoever asked before finds what came since, too.
            let known = index.find(tag(slot % 100));
            assert!(known.is_sorted() && known.iter().all(|known| known % 10_000 == slot % 100));
        }
        for key in 0..10_000 {
            assert_eq!(index.find(tag(key)), [key, key + 10_000, key + 20_000]);
        }
        assert!(index.find(tag(50_000)).is_empty());
    }
}
