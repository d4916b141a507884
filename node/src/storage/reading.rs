//! Reading from whichever room the log lies in: segment files beside this process, or tables in a database.

use super::lost::Lost;
use super::{Entry, Position, StorageError, postgres, reader};
use std::ops::Range;
use std::sync::Arc;

/// What is durable, for any thread.
pub(super) enum Reading {
    Files(Arc<reader::Reader>),
    Database(Arc<postgres::Reader>),
}

impl Reading {
    /// Bytes of the frame of an entry with so many bytes.
    pub(super) fn frame_bytes(&self, entry: usize) -> usize {
        match self {
            Reading::Files(reader) => reader.frame_bytes(entry),
            Reading::Database(reader) => reader.frame_bytes(entry),
        }
    }

    pub(super) fn end(&self) -> Position {
        match self {
            Reading::Files(reader) => Position(reader.end()),
            Reading::Database(reader) => Position(reader.end()),
        }
    }

    /// Bytes of the log.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Reading::Files(reader) => reader.end(),
            Reading::Database(reader) => reader.bytes(),
        }
    }

    pub(super) fn lost(&self) -> Vec<Range<Position>> {
        match self {
            Reading::Files(reader) => Lost::ranges(reader.lost()),
            Reading::Database(_) => Vec::new(),
        }
    }

    pub(super) fn read(&self, at: Position) -> Result<Entry, StorageError> {
        match self {
            Reading::Files(reader) => reader.read(at),
            Reading::Database(reader) => reader.read(at),
        }
    }

    pub(super) fn replay<E: From<StorageError>>(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
    ) -> Result<Position, E> {
        match self {
            Reading::Files(reader) => reader.replay(from, visit),
            Reading::Database(reader) => reader.replay(from, visit),
        }
    }

    /// Whether a replay can start at `at`.
    pub(super) fn is_boundary(&self, at: Position) -> bool {
        match self {
            Reading::Files(reader) => reader.is_boundary(at),
            Reading::Database(reader) => at.0 <= reader.end(),
        }
    }
}
