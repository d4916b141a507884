//! The records of a log by number. Nearly all logs are an unbroken line with one record a number: that line rests packed;
//! branches of a fork, and what stands behind a gap, are kept beside it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::families::Slot;
use crate::attic::Workroom;
use crate::shelf::{Cut, Due, Packing, Shelf};

/// Numbers that are packed together.
const LINE_ROWS: usize = 256;

/// Slots by number; numbers count from 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// The first record of each number, without a gap from 1.
    line: Shelf<Slot>,
    /// Everything else. Never the number after the line, or it would be part of it.
    others: BTreeSet<(u64, Slot)>,
    distinct: u64,
}

struct Form;

impl Packing<Slot> for Form {
    fn pack(&self, _: Slot, rows: &[Slot]) -> Vec<u8> {
        rows.iter().flat_map(|slot| slot.to_le_bytes()).collect()
    }

    fn unpack(&self, _: Slot, bytes: &[u8]) -> Option<Vec<Slot>> {
        let (slots, []) = bytes.as_chunks::<4>() else { return None };
        Some(slots.iter().map(|slot| Slot::from_le_bytes(*slot)).collect())
    }
}

impl Numbers {
    /// No numbers yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        let rows = LINE_ROWS.min(room.limits.chunk_rows * 8);
        let line = Shelf::cut(room, Cut { rows, awake: 1.min(room.limits.awake_chunks) });
        Self { line, others: BTreeSet::new(), distinct: 0 }
    }

    /// Files a record; its slot is above those of all before.
    pub(crate) fn insert(&mut self, number: u64, slot: Slot) {
        let is_new = self.at(number).next().is_none();
        self.distinct += u64::from(is_new);
        if number == self.next_in_line() {
            self.line.push(slot);
        } else {
            self.others.insert((number, slot));
        }
        while let Some((number, slot)) = self.others.range((self.next_in_line(), 0)..).next().copied() {
            if number != self.next_in_line() {
                break;
            }
            self.others.remove(&(number, slot));
            self.line.push(slot);
        }
        self.line.rest_a_chunk(Due::Now, &Form);
    }

    /// Packs what an image names.
    pub(crate) fn pack(&mut self) {
        self.line.pack(&Form);
    }

    fn next_in_line(&self) -> u64 {
        self.line.len() as u64 + 1
    }

    fn in_line(&self, number: u64) -> Option<Slot> {
        let row = number.checked_sub(1).filter(|row| *row < self.line.len() as u64)?;
        Some(*self.line.get(Slot::try_from(row).ok()?, &Form))
    }

    /// The records with a number, by slot.
    pub(crate) fn at(&self, number: u64) -> impl Iterator<Item = Slot> + use<'_> {
        let others = self.others.range((number, 0)..=(number, Slot::MAX)).map(|row| row.1);
        self.in_line(number).into_iter().chain(others)
    }

    /// The records with numbers from the first to the last, with their numbers, in order.
    pub(crate) fn between(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, Slot)> + use<'_> {
        let end = last.min(self.line.len() as u64);
        let in_line = (first..=end).flat_map(|number| self.at(number).map(move |slot| (number, slot)));
        let behind = first.max(self.next_in_line());
        let others = (behind <= last).then(|| self.others.range((behind, 0)..=(last, Slot::MAX)).copied());
        in_line.chain(others.into_iter().flatten())
    }

    /// The highest number that is here; 0 if none is.
    pub(crate) fn head(&self) -> u64 {
        self.others.last().map_or(0, |row| row.0).max(self.line.len() as u64)
    }

    /// The highest number below one that is here.
    pub(crate) fn below(&self, number: u64) -> Option<u64> {
        let other = self.others.range(..(number, 0)).next_back().map_or(0, |row| row.0);
        let in_line = number.saturating_sub(1).min(self.line.len() as u64);
        Some(other.max(in_line)).filter(|found| *found > 0)
    }

    /// The highest number, if every one up to it has one record.
    pub(crate) fn unbroken_to(&self) -> Option<u64> {
        self.others.is_empty().then_some(self.line.len() as u64)
    }

    /// How many records have a number below one.
    pub(crate) fn count_below(&self, number: u64) -> u64 {
        let in_line = number.saturating_sub(1).min(self.line.len() as u64);
        in_line + self.others.range(..(number, 0)).count() as u64
    }

    /// How many numbers have a record.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelf::WorkLimits;

    #[test]
    fn whatever_the_order_numbers_are_found_as_in_a_plain_set() {
        // Gaps, forks, and a line that grows over what waited behind it.
        let arrivals: Vec<u64> =
            (1..40).chain([45, 44, 60, 45, 41, 41]).chain(40..44).chain([3, 3, 61]).chain(46..60).collect();
        let room = Workroom { limits: WorkLimits::TIGHTEST, attic: None };
        let (mut numbers, mut plain) = (Numbers::new(&room), BTreeSet::new());
        for (slot, number) in arrivals.into_iter().enumerate() {
            let slot = Slot::try_from(slot).unwrap();
            numbers.insert(number, slot);
            plain.insert((number, slot));
            let distinct: BTreeSet<u64> = plain.iter().map(|row| row.0).collect();
            assert_eq!(numbers.distinct(), distinct.len() as u64);
            assert_eq!(numbers.head(), plain.last().unwrap().0);
            for first in [0, 1, 17, 41, 44, 59, 63] {
                let at: Vec<Slot> = plain.range((first, 0)..=(first, Slot::MAX)).map(|row| row.1).collect();
                assert_eq!(numbers.at(first).collect::<Vec<_>>(), at);
                assert_eq!(numbers.below(first), plain.range(..(first, 0)).next_back().map(|row| row.0));
                for last in [first, first + 5, u64::MAX] {
                    let rows: Vec<_> = plain.range((first, 0)..=(last, Slot::MAX)).copied().collect();
                    assert_eq!(numbers.between(first, last).collect::<Vec<_>>(), rows);
                }
            }
        }
        assert!(numbers.others.len() < 8, "the line holds nearly all");
    }
}
