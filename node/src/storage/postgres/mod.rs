//! The log in a database: the second room behind the storage door, for hubs only.
//!
//! Every entry is a row; entries stand at positions 0, 1, 2, … The directory keeps the node's small files, the index, and
//! two files that tie it to its log: `database.json` (which log, where it was begun) and `database.mark` (how far the log was
//! durable when this node last looked). A database that has less than the mark says was replaced by an older copy, or its
//! standby lacked what the hub had acknowledged: that is refused, not gone on with.
//!
//! The laws of the segment files hold here too. Nobody is answered before COMMIT has returned. A lost connection at COMMIT
//! leaves the outcome unknown; it is looked up before anything is answered or written again (session.rs). One writer at a
//! time: each append is checked against a fencing token in its own transaction, and a lease keeps a second hub from taking
//! the log while the first one lives.
//!
//! A database that is away is waited for: appends stay in the queue, unanswered, and the door says that nothing new should
//! be taken in. A database that contradicts what was written poisons, as a failed fsync does.
//!
//! ```text
//! place.rs    database.json: this directory's log is in a database; database.writer: which process of it wrote last
//! row.rs      an entry as a row, with the check that binds it to its place
//! session.rs  claim a log, append to it in one transaction, look whether an append is there
//! writer.rs   one thread: group after group, until it is committed
//! reader.rs   by position, or all in pages
//! audit.rs    verify, and a copy as segment files
//! along.rs    reading a log that another hub writes
//! company.rs  which logs a company with shards has
//! held.rs     all of them held by who moves them, and marked as moved
//! ```

mod along;
mod audit;
mod company;
mod held;
mod place;
mod reader;
mod row;
mod session;
mod writer;

pub(crate) use along::LogReader;
pub(super) use along::{AtRest, at_rest};
pub(super) use audit::{audit, audit_rows, marked, snapshot};
pub(crate) use company::{log_id, shards, spread};
pub(crate) use held::{Held, begins_like, gone, where_it_went};
pub(crate) use place::{Place, name_of, this_process};
pub(super) use reader::Reader;

use super::disk::{Disk, Role};
use super::frame::Seal;
use super::inspect::Paths;
use super::mark::{self, Mark, NO_SEGMENT, Slot};
use super::recovery::take_lock;
use super::shared::Shared;
use super::vault::Vault;
use super::writer::Sizes;
use super::{Options, Position, Recovery, StorageError, reading::Reading};
use crate::database::{Database, DatabaseError};
use engine::lease::HubName;
use session::{Claim, Claimed, Outcome, Session, Taker};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use writer::Writer;

const MARK: &str = "database.mark";

/// Says which store an entry is about, from its kind and bytes, if it is about one.
pub type StoreOf = fn(u8, &[u8]) -> Option<String>;

/// Where a hub keeps its log, if not in its directory.
#[derive(Debug, Clone)]
pub struct InDatabase {
    /// The database.
    pub database: Database,
    /// What the rows are told apart by, for whoever looks at them.
    pub store_of: StoreOf,
    /// The hub, if it is one of several: its lease is told to the others under this name, and it does not wait for theirs.
    pub hub: Option<HubName>,
}

/// A log in a database, for who writes beside it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) database: Database,
    pub(crate) log_id: [u8; 16],
    /// Who writes it here: as long as its row names this one, it is this process's.
    pub(crate) writer: [u8; 16],
    /// Nothing of it may be written down in plain.
    pub(crate) encrypted: bool,
}

/// An opened log and the thread that writes it.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: JoinHandle<()>,
    pub(super) report: Recovery,
}

/// What both threads need to know of a log.
#[derive(Clone)]
struct Log {
    database: Database,
    log_id: [u8; 16],
    /// Under which it is claimed, if it is.
    writer: [u8; 16],
    seal: Seal,
    store_of: StoreOf,
    /// Bytes say nothing about themselves in an encrypted log.
    hidden: bool,
}

/// Opens the log of a directory, or begins one.
pub(super) fn open(
    dir: &Path,
    place: Option<&Place>,
    kept: InDatabase,
    options: &Options,
    sizes: Sizes,
    disk: &Disk,
) -> Result<Opened, StorageError> {
    disk.create_folder(dir)?;
    let lock = take_lock(&Paths::new(dir), true)?;
    let (mark_path, vault) = (dir.join(MARK), options.vault.as_ref());
    let mark = mark::load(&mark_path)?;
    let fresh = place.is_none();
    let log_id = match place {
        Some(place) => place.log_id,
        None => options.log_id.unwrap_or_else(rand::random),
    };
    if let Some(wanted) = options.log_id.filter(|wanted| *wanted != log_id) {
        let (found, wanted) = (hex(&log_id), hex(&wanted));
        return Err(StorageError::ForeignLog { dir: dir.to_path_buf(), found, wanted });
    }
    let log = Log {
        database: kept.database,
        log_id,
        writer: rand::random(),
        seal: Seal::new(&log_id, vault),
        store_of: kept.store_of,
        hidden: vault.is_some(),
    };
    let hub = kept.hub;
    let opening = Opening { dir: dir.to_path_buf(), fresh, mark, mark_path, disk: disk.clone(), hub };
    // The connection lives on the writer's thread, and so does its opening: the door may be opened from inside a runtime.
    let (send, receive) = mpsc::sync_channel(1);
    let builder = thread::Builder::new().name("storage-writer".into());
    let thread = builder.spawn(move || {
        let opened = opening.run(&log).and_then(|(runtime, session, claimed, mark)| {
            let reader = Arc::new(Reader::start(log.clone(), claimed.end, claimed.bytes)?);
            let shared = Arc::new(Shared::new(Reading::Database(Arc::clone(&reader)), lock));
            shared.room.store(u64::MAX, Ordering::Release);
            Ok(Writer::new(log, runtime, session, &claimed, shared, reader, mark, sizes))
        });
        match opened {
            Ok(writer) => {
                let told = (Arc::clone(&writer.shared), writer.end());
                drop(send.send(Ok(told)));
                writer.run();
            }
            Err(error) => drop(send.send(Err(error))),
        }
    });
    let thread = thread.map_err(|e| StorageError::io("starting the writer of", dir, &e))?;
    let died = || StorageError::Closed { operation: "open" };
    let (shared, end) = receive.recv().map_err(|_| died())??;
    let end = Position(end);
    let last = end.0.checked_sub(1).map(Position);
    let report = Recovery { fresh, log_id, end, last, mark_found: mark.is_some(), ..Recovery::default() };
    Ok(Opened { shared, thread, report })
}

/// What opening has in hand.
struct Opening {
    dir: PathBuf,
    fresh: bool,
    mark: Option<Slot>,
    mark_path: PathBuf,
    disk: Disk,
    hub: Option<HubName>,
}

impl Opening {
    /// Claims the log. A directory is tied to its log before the log exists, and knows afterwards that it existed: a crash
    /// between leaves what the next opening finds again, and a log that has vanished is never begun anew.
    fn run(&self, log: &Log) -> Result<(tokio::runtime::Runtime, Session, Claimed, Mark), StorageError> {
        let runtime = runtime(&self.dir)?;
        let link = runtime.block_on(session::connect(&log.database))?;
        // Who opens one log alone would take the company's own for everything.
        if self.hub.is_none()
            && let Some(shards) = runtime.block_on(shards(&link, log.log_id))?
        {
            let place = log.database.shown().to_owned();
            return Err(match runtime.block_on(gone(&link, log.log_id))? {
                Some(gone) => StorageError::Moved { place, holder: gone.holder },
                None => StorageError::Spread { dir: self.dir.clone(), shards },
            });
        }
        if self.fresh {
            let place = Place { log_id: log.log_id, begun_at: log.database.shown().to_owned() };
            drop(self.new_mark(log, NO_SEGMENT, 0)?);
            place.write(&self.disk, &self.dir)?;
        }
        let existed = !self.fresh && self.mark.is_none_or(|mark| mark.base != NO_SEGMENT);
        let (writer, holder) = (log.writer, place::this_process(&self.dir));
        let before = place::last_writer(&self.dir);
        let taker = Taker { writer, holder, hub: self.hub };
        let claim = match existed {
            true => Claim::Take { taker, before },
            false => Claim::Begin { taker },
        };
        place::note_writer(&self.dir, writer)?;
        let place = log.database.shown().to_owned();
        let (session, claimed) = match runtime.block_on(Session::claim(link, log.log_id, claim))? {
            Outcome::Mine(session, claimed) => (*session, claimed),
            Outcome::NotThere => {
                return Err(StorageError::LogNotInDatabase { log_id: hex(&log.log_id), place });
            }
            Outcome::Held { holder, until } => {
                // Still the one before, should it be this one's after all.
                before.map_or(Ok(()), |before| place::note_writer(&self.dir, before))?;
                return Err(match until.starts_with(session::FOR_GOOD) {
                    true => StorageError::Moved { place, holder },
                    false => StorageError::LeaseHeld { place, holder, until },
                });
            }
        };
        let marked = self.mark.filter(|mark| mark.log_id == log.log_id).map_or(0, |mark| mark.end);
        if claimed.end < marked {
            let place = log.database.shown().to_owned();
            return Err(StorageError::DatabaseBehind { place, end: claimed.end, marked });
        }
        let mark = self.new_mark(log, 0, claimed.end)?;
        Ok((runtime, session, claimed, mark))
    }

    fn new_mark(&self, log: &Log, base: u64, end: u64) -> Result<Mark, StorageError> {
        let sequence = self.mark.map_or(0, |mark| mark.sequence + 2);
        let slot = Slot { sequence, end, base, log_id: log.log_id };
        Mark::create(self.disk.clone(), &self.mark_path, slot)
    }
}

/// Takes a database that has less than this directory knows for its log, or its logs, from now on. `agreed` hears what the
/// directory knew and what is there, of all that have less, before anything is changed.
///
/// # Errors
/// The log is not in a database, a node holds the directory, the database has everything, or cannot be asked; or `agreed` says no.
pub(super) fn accept_loss<E: From<StorageError>>(
    dir: &Path,
    agreed: impl FnOnce(Position, Position) -> Result<(), E>,
) -> Result<(), E> {
    let nothing = |reason: &str| {
        let next = "there is nothing to accept";
        StorageError::Database(DatabaseError::never("accepting a loss", reason, next))
    };
    let Some(place) = Place::of(dir)? else {
        return Err(nothing("the log lies in the directory itself").into());
    };
    let _lock = take_lock(&Paths::new(dir), true)?;
    let short = short_logs(dir, &place)?;
    if short.is_empty() {
        return Err(nothing("the database has everything that this hub knows of").into());
    }
    let sum = |of: fn(&(PathBuf, Slot, u64)) -> u64| Position(short.iter().map(of).sum());
    agreed(sum(|(_, marked, _)| marked.end), sum(|(.., end)| *end))?;
    for (folder, marked, end) in short {
        // What the index knows may come from what is lost: the next opening throws it away.
        Disk::default().replace_file(Role::Manifest, &folder.join("index.doubt"), b"")?;
        let slot = Slot { sequence: marked.sequence + 2, end, ..marked };
        drop(Mark::create(Disk::default(), &folder.join(MARK), slot)?);
    }
    Ok(())
}

/// Logs of a directory that end before its mark: their folders, the marks, and where they end.
fn short_logs(dir: &Path, place: &Place) -> Result<Vec<(PathBuf, Slot, u64)>, StorageError> {
    let database = given(dir, place)?;
    let shards = spread(&database, place.log_id)?;
    let ids: Vec<_> = (0..=shards).map(|number| log_id(place.log_id, number)).collect();
    let logs = at_rest(&database, &ids, Vault::of(dir)?.as_ref())?;
    let mut short = Vec::new();
    for ((number, id), log) in (0..).zip(ids).zip(logs) {
        let end = match log {
            Some(log) => log.end(),
            None if shards > 0 => 0,
            None => {
                let (log_id, place) = (hex(&id), database.shown().to_owned());
                return Err(StorageError::LogNotInDatabase { log_id, place });
            }
        };
        let folder = if shards == 0 { dir.to_path_buf() } else { super::logs::folder_of(dir, number) };
        let marked = mark::load(&folder.join(MARK))?.filter(|slot| slot.log_id == id && slot.end > end);
        short.extend(marked.map(|marked| (folder, marked, end)));
    }
    Ok(short)
}

/// Ties a directory to a log in a database, before anything of that log exists.
///
/// # Errors
/// The disk refuses.
pub(crate) fn tie(dir: &Path, database: &Database, log_id: [u8; 16]) -> Result<(), StorageError> {
    Place { log_id, begun_at: database.shown().to_owned() }.write(&Disk::default(), dir)
}

/// Notes in a directory how far a log in a database is durable, as its hub would.
///
/// # Errors
/// The disk refuses.
pub(crate) fn note_mark(dir: &Path, log_id: [u8; 16], end: Position) -> Result<(), StorageError> {
    let path = dir.join(MARK);
    let sequence = mark::load(&path)?.map_or(0, |slot| slot.sequence + 2);
    let slot = Slot { sequence, end: end.0, base: 0, log_id };
    Mark::create(Disk::default(), &path, slot).map(drop)
}

/// Holds a directory for this process, as long as what is returned lives.
///
/// # Errors
/// Another process holds it, or the disk refuses.
pub(crate) fn hold(dir: &Path) -> Result<std::fs::File, StorageError> {
    take_lock(&Paths::new(dir), true)
}

/// A runtime for one thread and its connection.
fn runtime(dir: &Path) -> Result<tokio::runtime::Runtime, StorageError> {
    let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
    made.map_err(|e| StorageError::io("starting the database connection of", dir, &e))
}

/// Whether a directory has a log of segment files.
pub(super) fn has_segments(dir: &Path) -> bool {
    let paths = Paths::new(dir);
    paths.mark.exists() || paths.log.exists()
}

/// A log for reading only.
fn reader_of(database: &Database, log_id: [u8; 16], vault: Option<&Vault>) -> Result<Reader, StorageError> {
    let (database, seal, hidden) = (database.clone(), Seal::new(&log_id, vault), vault.is_some());
    let writer = rand::random();
    Reader::at_rest(Log { database, log_id, writer, seal, store_of: |_, _| None, hidden })
}

/// The database that this process was given for a directory that needs one.
pub(super) fn given(dir: &Path, place: &Place) -> Result<Database, StorageError> {
    Database::of_process()?
        .ok_or_else(|| StorageError::KeptInDatabase { dir: dir.to_path_buf(), place: place.begun_at.clone() })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// A position or count as the database keeps it. No log gets near the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What the database keeps as a position or count; its tables admit no negative ones.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
