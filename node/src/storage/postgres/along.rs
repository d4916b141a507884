//! A log that another hub writes, for reading along; and logs as they are at one moment. Nothing is claimed and nothing can be
//! appended.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::company::ask;
use super::reader::Reader;
use super::{Database, Log, Position, Seal, StorageError, Vault, unsigned};
use crate::database::{Row, schema};
use crate::storage::Entry;

const HEADS: &str = "SELECT log_id, next_position, total_bytes FROM tillsync.log WHERE log_id = ANY($1)";

/// A log as it was at one moment. Connects when a reader of it is first asked.
pub(in crate::storage) struct AtRest {
    log: Log,
    end: u64,
    bytes: u64,
}

impl AtRest {
    pub(in crate::storage) fn end(&self) -> u64 {
        self.end
    }

    pub(in crate::storage) fn reader(&self) -> Result<Reader, StorageError> {
        Reader::start(self.log.clone(), self.end, self.bytes)
    }
}

/// Logs, all at the same moment; `None`: one is not there. Blocking.
///
/// # Errors
/// The database cannot be asked.
pub(in crate::storage) fn at_rest(
    database: &Database,
    ids: &[[u8; 16]],
    vault: Option<&Vault>,
) -> Result<Vec<Option<AtRest>>, StorageError> {
    let wanted: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
    let rows = ask(database, |link| async move {
        schema::check(schema::version(&link).await?)?;
        link.query("reading the rows of the logs", HEADS, &[&wanted]).await
    })?;
    let head = |row: &Row| (row.get::<_, Vec<u8>>(0), (unsigned(row.get(1)), unsigned(row.get(2))));
    let heads: BTreeMap<Vec<u8>, (u64, u64)> = rows.iter().map(head).collect();
    let log = |id: &[u8; 16]| {
        let (end, bytes) = *heads.get(&id[..])?;
        let (seal, database) = (Seal::new(id, vault), database.clone());
        let (store_of, hidden) = (|_: u8, _: &[u8]| None, vault.is_some());
        let log = Log { database, log_id: *id, writer: rand::random(), seal, store_of, hidden };
        Some(AtRest { log, end, bytes })
    };
    Ok(ids.iter().map(log).collect())
}

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

    /// Bytes of the log when it was looked at last.
    pub(crate) fn bytes(&self) -> u64 {
        self.reader.bytes()
    }

    /// The entry at a position, verified. Blocking.
    ///
    /// # Errors
    /// It is not there, is damaged, or the database cannot be asked.
    pub(crate) fn read(&self, at: Position) -> Result<Entry, StorageError> {
        self.reader.read(at)
    }

    /// Visits every entry from `from` on that stands before `to` and before the end that was seen last. Blocking.
    ///
    /// # Errors
    /// As `read`, or what `visit` says.
    pub(crate) fn replay<E: From<StorageError>>(
        &self,
        (from, to): (Position, Position),
        visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
    ) -> Result<Position, E> {
        self.reader.replay_to(from, to, visit)
    }
}
