//! A log that another hub writes, for reading along. Nothing is claimed and nothing can be appended.

use std::sync::Arc;

use super::reader::Reader;
use super::{Database, Log, Position, Seal, StorageError, Vault};
use crate::storage::Entry;

/// A log to be read along. Clones share it.
#[derive(Clone)]
pub(crate) struct LogReader {
    reader: Arc<Reader>,
}

impl LogReader {
    /// A log as it is now; `None`: it has not begun yet. Blocking.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub(crate) fn open(
        database: Database,
        log_id: [u8; 16],
        vault: Option<&Vault>,
    ) -> Result<Option<Self>, StorageError> {
        let seal = Seal::new(&log_id, vault);
        let (store_of, hidden) = (|_: u8, _: &[u8]| None, vault.is_some());
        let log = Log { database, log_id, writer: rand::random(), seal, store_of, hidden };
        match Reader::at_rest(log) {
            Ok(reader) => Ok(Some(Self { reader: Arc::new(reader) })),
            Err(StorageError::LogNotInDatabase { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks how far the log reaches now. Blocking.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub(crate) fn look(&self) -> Result<Position, StorageError> {
        self.reader.look()?;
        Ok(Position(self.reader.end()))
    }

    /// The entry at a position, verified. Blocking.
    ///
    /// # Errors
    /// It is not there, is damaged, or the database cannot be asked.
    pub(crate) fn read(&self, at: Position) -> Result<Entry, StorageError> {
        self.reader.read(at)
    }

    /// Visits every entry from `from` to the end that was seen last. Blocking.
    ///
    /// # Errors
    /// As `read`, or what `visit` says.
    pub(crate) fn replay<E: From<StorageError>>(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
    ) -> Result<Position, E> {
        self.reader.replay(from, visit)
    }
}
