//! Where in the log the entries stand that are looked up again: batches to send, journal entries to show. Packed like
//! the books.

use engine::attic::Workroom;
use engine::host::Looked;
use engine::shelf::{Due, Packing, Shelf, Slot};
use serde::{Deserialize, Serialize};

use crate::storage::Position;

/// Where the entries of a store that are looked up again stand in the log.
#[derive(Serialize, Deserialize)]
pub struct Positions {
    /// Batches, by ordinal.
    batches: Shelf<Position>,
    /// Journal entries, by number from 1.
    journal: Shelf<Position>,
}

struct Form;

impl Packing<Position> for Form {
    fn pack(&self, _: Slot, rows: &[Position]) -> Vec<u8> {
        rows.iter().flat_map(|at| at.0.to_le_bytes()).collect()
    }

    fn unpack(&self, _: Slot, bytes: &[u8]) -> Option<Vec<Position>> {
        let (rows, []) = bytes.as_chunks::<8>() else { return None };
        Some(rows.iter().map(|at| Position(u64::from_le_bytes(*at))).collect())
    }
}

fn get(shelf: &Shelf<Position>, number: u64) -> Option<Position> {
    let slot = Slot::try_from(number).ok().filter(|slot| (*slot as usize) < shelf.len())?;
    Some(*shelf.get(slot, &Form))
}

impl Positions {
    /// No entries yet.
    #[must_use]
    pub fn new(room: &Workroom) -> Self {
        Self { batches: Shelf::of_small(room), journal: Shelf::of_small(room) }
    }

    /// Remembers an entry.
    pub fn note(&mut self, entry: Looked, at: Position) {
        let (shelf, times) = match entry {
            Looked::Batch => (&mut self.batches, 1),
            Looked::Journal(entries) => (&mut self.journal, entries),
            Looked::Not => return,
        };
        (0..times).for_each(|_| shelf.push(at));
        shelf.rest_a_chunk(Due::Overdue, &Form);
    }

    /// Packs what an image names.
    pub fn pack(&mut self) {
        self.batches.pack(&Form);
        self.journal.pack(&Form);
    }

    /// Where the batch with an ordinal stands.
    #[must_use]
    pub fn batch(&self, ordinal: u64) -> Option<Position> {
        get(&self.batches, ordinal)
    }

    /// Where at most `limit` journal entries stand, from a number on; entries that stand together are told once.
    #[must_use]
    pub fn journal(&self, from: u64, limit: usize) -> Vec<Position> {
        let all = (from.max(1) - 1..).take(limit);
        let mut places: Vec<Position> = all.map_while(|number| get(&self.journal, number)).collect();
        places.dedup();
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_found_by_ordinal_and_by_number() {
        let mut positions = Positions::new(&Workroom::tightest());
        for n in 0..100 {
            positions.note(Looked::Batch, Position(n * 10));
            positions.note(Looked::Journal(1 + u32::from(n == 40)), Position(n * 10 + 1));
            positions.note(Looked::Not, Position(n * 10 + 2));
        }
        assert_eq!((positions.batch(99), positions.batch(100)), (Some(Position(990)), None));
        let page = |from: u64, limit: usize| -> Vec<u64> {
            positions.journal(from, limit).into_iter().map(|at| at.0).collect()
        };
        assert_eq!(page(99, 10), [971, 981, 991]);
        assert_eq!(
            (page(0, 1), page(41, 2), page(42, 1), page(43, 1)),
            (vec![1], vec![401], vec![401], vec![411])
        );
        assert!(page(500, 1).is_empty());
    }
}
