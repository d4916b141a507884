//! How far the images of all stores in a log reach together: whoever opens the log begins to read there, and what it takes does not
//! grow with what the log has held for years. Kept by who reads along (`cluster`), in the same index, and bound to the log
//! like the images: the entries before the place that it knows are there, or it is not believed.
//!
//! For logs in a database only, whose positions count entries without a gap, and not for those that hold more than stores.

use std::collections::VecDeque;

use engine::attic::Workroom;
use engine::ids::StoreId;
use engine::image;
use serde::{Deserialize, Serialize};

use super::checkpoint::Print;
use crate::storage::{Entry, Index, Position, StorageError};

const KEY: &[u8] = b"reached";
/// Entries by which a log is known again.
const PRINTS: usize = 8;
/// Entries before the place that are looked through for what the audit log told last.
pub const EVENTS_BACK: u64 = 10_000;

/// How far the images of a log's stores reach together.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reached {
    /// What stands before it is in the images of `stores`.
    pub from: Position,
    /// All stores that the log names before `seen`.
    pub stores: Vec<StoreId>,
    /// So far the log was read, and the last entries before it.
    pub seen: Seen,
    /// Bytes of the log when it was last read to its end.
    pub bytes: u64,
}

/// A place in a log, and what the entries before it are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The place.
    pub at: Position,
    prints: VecDeque<Print>,
}

impl Seen {
    /// Takes the next entry in.
    pub fn take(&mut self, at: Position, entry: &Entry) {
        self.at = Position(at.0 + 1);
        self.prints.push_back(Print::of(entry));
        if self.prints.len() > PRINTS {
            self.prints.pop_front();
        }
    }

    /// Whether a log that ends at `end` has these entries there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_in(
        &self,
        end: Position,
        read: impl Fn(Position) -> Result<Entry, StorageError>,
    ) -> Result<bool, StorageError> {
        let first = self.at.0.checked_sub(self.prints.len() as u64);
        let Some(first) = first.filter(|_| self.at <= end) else { return Ok(false) };
        for (at, print) in (first..).zip(&self.prints) {
            if Print::of(&read(Position(at))?) != *print {
                return Ok(false);
            }
        }
        Ok(self.at == Position(0) || !self.prints.is_empty())
    }
}

impl Reached {
    /// What an index says, if it says something.
    #[must_use]
    pub fn read(index: &Index) -> Option<Self> {
        let bytes = index.get(KEY).ok().flatten()?;
        image::read(&bytes, &Workroom::default()).ok()
    }

    /// Notes it, durably.
    ///
    /// # Errors
    /// The index failed.
    pub fn note(&self, index: &Index) -> Result<(), StorageError> {
        index.put_batch(vec![(KEY.to_vec(), Some(image::write(self)))], None)?;
        index.checkpoint(self.seen.at)
    }

    /// Where reading begins, for the events of the audit log; entries of stores before `from` are not looked into.
    #[must_use]
    pub fn begins(&self) -> Position {
        Position(self.from.0.saturating_sub(EVENTS_BACK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(byte: u64) -> Entry {
        Entry { kind: 3, bytes: byte.to_le_bytes().to_vec() }
    }

    #[test]
    fn a_log_is_known_again_by_its_last_entries() {
        let mut seen = Seen::default();
        let log: Vec<Entry> = (0..40).map(entry).collect();
        let is_in = |seen: &Seen, log: &[Entry]| {
            let read = |at: Position| Ok(log[usize::try_from(at.0).unwrap()].clone());
            seen.is_in(Position(log.len() as u64), read).unwrap()
        };
        assert!(is_in(&seen, &[]) && is_in(&seen, &log), "of nothing everything is known");
        for (at, entry) in (0..30).zip(&log) {
            seen.take(Position(at), entry);
        }
        assert!(is_in(&seen, &log) && is_in(&seen, &log[..30]));
        assert!(!is_in(&seen, &log[..29]), "it was longer");
        for other in 22..30 {
            let mut log = log.clone();
            log[other] = entry(99);
            assert!(!is_in(&seen, &log), "it went back and then on otherwise");
        }
    }
}
