//! Where in the log the entries stand that are looked up again: batches to send, journal entries to show.

use engine::entry::Entry as LogEntry;

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

/// Whether an entry is looked up again, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// By the ordinal of a batch.
    Batch,
    /// By the number of a journal entry.
    Journal,
    /// It is not.
    Not,
}

impl Looked {
    /// How an entry is looked up.
    #[must_use]
    pub fn of(entry: &LogEntry) -> Self {
        match entry {
            LogEntry::Batch(_) => Self::Batch,
            LogEntry::Journal(_) => Self::Journal,
            LogEntry::Captured(_) | LogEntry::Custody(_) | LogEntry::Posted(_) | LogEntry::Link(_) => {
                Self::Not
            }
        }
    }
}
