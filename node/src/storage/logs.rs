//! Every log of a directory, for reading: the one in its segment files or in a database, or all those of a company whose stores
//! are spread over shards. Whoever looks at a directory while no hub runs on it comes through here, so that nobody takes the
//! company's own log, which has no stores then, for everything.
//!
//! Nothing is claimed and nothing is written. A log that has one writer is held meanwhile, as its hub would; the logs of several hubs
//! are read as they are at one moment, whether those run or not. Where they end is asked in one statement: what the company's own log
//! says of stores (an export batch) was durable in theirs before, so it is there.

use super::frame::Seal;
use super::inspect::{Paths, inspect};
use super::postgres::{self, Place};
use super::reader::Reader;
use super::reading::Reading;
use super::recovery::take_lock;
use super::vault::Vault;
use super::{Audit, Entry, Position, Problem, Scan, StorageError};
use crate::database::Database;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A place in one of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Number of the log: 0 is the company's own, or the only one; the shards follow.
    pub log: u16,
    /// Where in it.
    pub position: Position,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log {
            0 => self.position.fmt(f),
            shard => write!(f, "{} of shard {shard}", self.position),
        }
    }
}

/// Readers of logs in a database that are kept open: each is a thread and a connection.
const OPEN_MAX: usize = 4;

/// The logs of a directory.
pub struct Logs {
    /// By number; one that has not begun is not here.
    logs: Vec<(u16, Log)>,
    shards: u16,
    /// Those read last.
    open: Mutex<VecDeque<(u16, Arc<Reading>)>>,
    _lock: Option<File>,
}

/// One of them.
enum Log {
    Files(Arc<Reading>),
    Database(Box<postgres::AtRest>),
}

impl Log {
    fn end(&self) -> Position {
        match self {
            Log::Files(reading) => reading.end(),
            Log::Database(log) => Position(log.end()),
        }
    }
}

impl Logs {
    /// Opens all there are. Blocking.
    ///
    /// # Errors
    /// A node holds the directory (unless its logs are several hubs'), a log is damaged, or the database cannot be asked.
    pub fn open(dir: &Path) -> Result<Self, StorageError> {
        let vault = Vault::of(dir)?;
        match Place::of(dir)? {
            Some(place) => {
                let database = postgres::given(dir, &place)?;
                let shards = postgres::spread(&database, place.log_id)?;
                let lock = if shards == 0 { lock_of(dir)? } else { None };
                Ok(Self { _lock: lock, ..Self::of_company(&database, place.log_id, shards, vault.as_ref())? })
            }
            None => {
                let lock = lock_of(dir)?;
                Ok(Self { _lock: lock, ..Self::in_files(dir, vault.as_ref())? })
            }
        }
    }

    /// The log in the segment files of a directory, whatever else the directory says. Whoever calls holds it.
    ///
    /// # Errors
    /// The log is damaged.
    pub(crate) fn in_files(dir: &Path, vault: Option<&Vault>) -> Result<Self, StorageError> {
        let paths = Paths::new(dir);
        let mut logs = Vec::new();
        if let Some(found) = inspect(&paths, Scan::Tail, [0; 16], vault)? {
            let end = found.end();
            if let Some(error) = found.unreadable.into_iter().next() {
                return Err(error);
            }
            if let Some(damage) = found.damage.into_iter().next() {
                return Err(StorageError::Damaged(damage));
            }
            let seal = Seal::new(&found.log_id, vault);
            let reader = Reader::new(paths.log, seal, found.lost, found.bases, end.0);
            logs.push((0, Log::Files(Arc::new(Reading::Files(Arc::new(reader))))));
        }
        Ok(Self { logs, shards: 0, open: Mutex::default(), _lock: None })
    }

    /// The logs of a company in a database, whatever a directory says.
    ///
    /// # Errors
    /// As `open`.
    pub(crate) fn in_database(
        database: &Database,
        company: [u8; 16],
        vault: Option<&Vault>,
    ) -> Result<Self, StorageError> {
        let shards = postgres::spread(database, company)?;
        Self::of_company(database, company, shards, vault)
    }

    fn of_company(
        database: &Database,
        company: [u8; 16],
        shards: u16,
        vault: Option<&Vault>,
    ) -> Result<Self, StorageError> {
        let ids: Vec<_> = (0..=shards).map(|number| postgres::log_id(company, number)).collect();
        let logs = postgres::at_rest(database, &ids, vault)?;
        // Of several, some may not have begun.
        if shards == 0 && logs[0].is_none() {
            let (log_id, place) = (postgres::hex(&company), database.shown().to_owned());
            return Err(StorageError::LogNotInDatabase { log_id, place });
        }
        let logs = (0..)
            .zip(logs)
            .filter_map(|(number, log)| Some((number, Log::Database(Box::new(log?)))))
            .collect();
        Ok(Self { logs, shards, open: Mutex::default(), _lock: None })
    }

    /// Over how many shards the stores are spread; 0: they are in the one log.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Where each log ends, by its number.
    #[must_use]
    pub fn ends(&self) -> Vec<(u16, Position)> {
        self.logs.iter().map(|(number, log)| (*number, log.end())).collect()
    }

    /// Whether ranges are missing whose loss was accepted.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.logs.iter().any(|(_, log)| matches!(log, Log::Files(reading) if !reading.lost().is_empty()))
    }

    /// The entry at a place, verified.
    ///
    /// # Errors
    /// It is not there or damaged, or the database cannot be asked.
    pub fn read(&self, at: At) -> Result<Entry, StorageError> {
        let log = self.logs.iter().find(|(number, _)| *number == at.log);
        let nothing = StorageError::NotInLog { at: at.position, end: Position(0) };
        let (number, log) = log.ok_or(nothing)?;
        self.reading(*number, log)?.read(at.position)
    }

    /// A reader of a log: the one that is open, or a new one.
    fn reading(&self, number: u16, log: &Log) -> Result<Arc<Reading>, StorageError> {
        let log = match log {
            Log::Files(reading) => return Ok(Arc::clone(reading)),
            Log::Database(log) => log,
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reading)) = open.iter().find(|(there, _)| *there == number) {
            return Ok(Arc::clone(reading));
        }
        let reading = Arc::new(Reading::Database(Arc::new(log.reader()?)));
        open.push_back((number, Arc::clone(&reading)));
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(reading)
    }

    /// Visits every entry, verified: log after log, the company's own first, each in its order.
    ///
    /// # Errors
    /// A log is damaged, or what `visit` says.
    pub fn replay<E: From<StorageError>>(
        &self,
        visit: &mut dyn FnMut(At, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        for (number, log) in &self.logs {
            let (number, reading) = (*number, self.reading(*number, log)?);
            reading.replay(Position(0), &mut |position, entry| visit(At { log: number, position }, entry))?;
        }
        Ok(())
    }
}

/// Holds a directory that a node has run in.
pub(super) fn lock_of(dir: &Path) -> Result<Option<File>, StorageError> {
    let paths = Paths::new(dir);
    if paths.lock.is_file() { take_lock(&paths, false).map(Some) } else { Ok(None) }
}

/// Where the hub of a directory keeps what belongs to one of several logs and can be made again.
#[must_use]
pub(crate) fn folder_of(dir: &Path, number: u16) -> PathBuf {
    dir.join("logs").join(format!("{number:03}"))
}

/// Refuses logs in a database that have less than the hub of a directory knows to have been there.
///
/// # Errors
/// They have, or the disk refuses.
pub(crate) fn all_marked(
    dir: &Path,
    place: &Place,
    database: &Database,
    logs: &Logs,
) -> Result<(), StorageError> {
    let ends = logs.ends();
    for (number, marked) in marks(dir, place, logs.shards())? {
        let end = ends.iter().find(|(there, _)| *there == number).map_or(0, |(_, end)| end.0);
        if let Some(marked) = marked.filter(|marked| *marked > end) {
            return Err(StorageError::DatabaseBehind { place: database.shown().to_owned(), end, marked });
        }
    }
    Ok(())
}

/// How far each log was durable when the hub of a directory last looked, if it has had it.
fn marks(dir: &Path, place: &Place, shards: u16) -> Result<Vec<(u16, Option<u64>)>, StorageError> {
    let folder = |number| if shards == 0 { dir.to_path_buf() } else { folder_of(dir, number) };
    let marked = |number| postgres::marked(&folder(number), postgres::log_id(place.log_id, number));
    (0..=shards).map(|number| Ok((number, marked(number)?))).collect()
}

/// Goes through every row of every log of a company with shards, and holds each against what this directory's hub knew of it.
pub(super) fn audit_spread(
    dir: &Path,
    place: &Place,
    shards: u16,
    database: &Database,
    vault: Option<&Vault>,
) -> Result<Audit, StorageError> {
    // Before it is looked how far the logs reach: a hub may be at work.
    let marked = marks(dir, place, shards)?;
    let logs = Logs::of_company(database, place.log_id, shards, vault)?;
    let mut found = Audit::default();
    for (number, log) in &logs.logs {
        let reading = logs.reading(*number, log)?;
        found.bytes += reading.bytes();
        found.end.0 += reading.end().0;
        postgres::audit_rows(&reading, &mut found, &|problem| problem.of_shard(*number));
    }
    for (number, marked) in marked {
        let end = logs.logs.iter().find(|(there, _)| *there == number).map_or(0, |(_, log)| log.end().0);
        if let Some(marked) = marked.filter(|marked| *marked > end) {
            let place = database.shown().to_owned();
            let behind = Problem::Unreadable(StorageError::DatabaseBehind { place, end, marked });
            found.problems.push(behind.of_shard(number));
        }
    }
    Ok(found)
}
