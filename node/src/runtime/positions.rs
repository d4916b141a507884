//! Where in the log the entries stand that are looked up again: batches to send, journal entries to show.

use engine::host::Looked;

use crate::storage::Position;

/// Where the entries of a store that are looked up again stand in the log.
#[derive(Default)]
pub struct Positions {
    /// Batches, by ordinal.
    pub batches: Vec<Position>,
    /// Journal entries, by number from 1.
    pub journal: Vec<Position>,
}

impl Positions {
    /// Remembers an entry.
    pub fn note(&mut self, entry: Looked, at: Position) {
        match entry {
            Looked::Batch => self.batches.push(at),
            Looked::Journal => self.journal.push(at),
            Looked::Not => {}
        }
    }
}
