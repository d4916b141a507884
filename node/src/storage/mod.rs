//! The storage of a node: an append-only log that is the truth, and an index that is not.
//!
//! The door is this file: `open`, `append`, `read`, `replay`, `index`, `end`, `close`, and `audit` for a log at rest. It
//! knows bytes and positions only, nothing of receipts, documents or the engine; another store can stand behind the
//! same verbs. It never acknowledges what is not durable, never shows what is not verified, never shortens a log
//! silently, and never goes on after a failed write.
//!
//! ```text
//! dir/lock                          held for life: one process a folder
//! dir/log/00000000000000000000.seg  segments, named by base position      segment.rs, frame.rs
//! dir/mark                          high-water mark, two slots            mark.rs
//! dir/lost                          ranges accepted as lost, if any       lost.rs
//! dir/index/                        sled, rebuilt from the log on doubt   index.rs
//! dir/vault, dir/vault.copy         the wrapped key, if it is encrypted   vault/
//! dir/manifest                      format, hashes of the small files     manifest.rs
//! dir/scratch                       pieces of the books, no part of the log scratch.rs
//! ```
//!
//! beside.rs opens the index alone, over a log that another hub writes.
//!
//! A hub's log may lie in a database instead (postgres/): the same verbs, the same promises, positions that count entries.
//! The directory decides, by the file `database.json`; the rooms below are then those of postgres/.
//!
//! Rooms: options.rs says how a log is opened and what was found; shared.rs is what writers and the door share, reading.rs
//! reads from wherever the log lies; writer.rs commits (one thread, group by group) what queue.rs collects; reader.rs reads
//! what is durable; inspect.rs tells a torn tail from a damaged middle; recovery.rs opens; audit.rs verifies; logs.rs reads all logs
//! of a directory that no node runs on; disk.rs holds the system calls and the fault hook.
//!
//! An append is durable as a whole or not acknowledged. A crash may keep any of its first entries without
//! acknowledgement: what must stand or fall together belongs into one entry.

mod audit;
mod beside;
mod debt;
mod disk;
mod error;
mod frame;
mod index;
mod inspect;
mod logs;
mod lost;
pub mod manifest;
mod mark;
mod options;
mod postgres;
pub(crate) mod private;
mod queue;
mod reader;
mod reading;
mod recovery;
mod scratch;
mod segment;
mod shared;
mod snapshot;
mod space;
#[cfg(test)]
mod tests;
pub mod vault;
mod writer;

pub use audit::{Audit, Problem, audit, audit_with, is_in_use};
pub(crate) use beside::Beside;
pub use debt::Debt;
pub use disk::{Act, Faults, Role, Verdict};
pub use error::{Damage, StorageError};
pub use frame::MAX_ENTRY_BYTES;
pub use index::{Index, KEY_BYTES_MAX, Pair, Put};
pub use logs::{At, Logs};
pub(crate) use logs::{all_marked, folder_of};
pub use options::{IndexState, OnDamage, Options, Recovery, Scan};
pub(crate) use postgres::{
    Held, Kept, LogReader, Place, begins_like, gone, hold, log_id, name_of, note_mark, shards, spread,
    this_process, tie, where_it_went,
};
pub use postgres::{InDatabase, StoreOf};
pub use scratch::Scratch;
pub use snapshot::{Snapshot, snapshot};
pub use space::{Space, space, try_disk};
pub use vault::VaultError;

pub use queue::{QUEUE_APPENDS_MAX, QUEUE_BYTES_MAX};

use queue::{Done, Job};
use reading::Reading;
use shared::Shared;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};
use vault::Vault;
use writer::{Desk, Sizes, Writer};

/// The most that one commit group, hence one append, may hold, frames included.
pub const GROUP_BYTES_MAX: usize = 8 << 20;

/// The reserve of a full disk, unless told otherwise: what a till has taken in and not written yet, twice over.
pub const RESERVE_BYTES: u64 = 2 << 20;

/// How long a storage that is closed waits for a database that is away.
const CLOSING_WAIT: Duration = Duration::from_secs(10);

/// A place in the log, strictly rising. In segment files a byte offset, running on over segments; positions lost to damage
/// are skipped. In a database the number of entries before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the bytes are; the storage does not look.
    pub kind: u8,
    /// At most `MAX_ENTRY_BYTES`.
    pub bytes: Vec<u8>,
}

/// A node's storage. Clones share it; the last one to go flushes and closes it.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    // Before `shared`: the index lets go of its files before the lock of the folder is given back.
    index: Index,
    shared: Arc<Shared>,
    /// Where a caller may write himself; a database has none.
    desk: Option<Arc<Desk>>,
    dir: PathBuf,
    append_max: usize,
    reserve_bytes: usize,
    writer_id: ThreadId,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Storage {
    /// Opens the storage in `dir`, creating it if there is none. Blocking: reads the newest segment or asks the database,
    /// opens the index.
    pub fn open(dir: &Path, options: &Options) -> Result<(Storage, Recovery), StorageError> {
        let sizes = Sizes::new(options)?;
        let disk = disk::Disk::new(options.faults.clone());
        manifest::check_format(dir)?;
        // Before anything is created: an encrypted directory never gets a plain log.
        let vault = options.vault.clone().map_or_else(|| Vault::of(dir), |vault| Ok(Some(vault)))?;
        if vault.is_none() && matches!(vault::Source::of_process(), Ok(Some(_))) {
            tracing::warn!(dir = %dir.display(), "a key was given, but the directory is not encrypted");
        }
        let options = &Options { vault: vault.clone(), ..options.clone() };
        match postgres::Place::of(dir)? {
            Some(place) => {
                let kept = match options.database.clone() {
                    Some(kept) => kept,
                    None => InDatabase {
                        database: postgres::given(dir, &place)?,
                        store_of: |_, _| None,
                        hub: None,
                    },
                };
                Self::open_database(dir, Some(&place), kept, options, sizes, &disk)
            }
            None => match options.database.clone() {
                Some(_) if postgres::has_segments(dir) => {
                    Err(StorageError::KeptInFiles { dir: dir.to_path_buf() })
                }
                Some(kept) => Self::open_database(dir, None, kept, options, sizes, &disk),
                None => Self::open_files(dir, options, sizes, disk),
            },
        }
    }

    fn open_files(
        dir: &Path,
        options: &Options,
        sizes: Sizes,
        disk: disk::Disk,
    ) -> Result<(Storage, Recovery), StorageError> {
        let vault = options.vault.as_ref();
        let opened = recovery::open(dir, options, &sizes, &disk)?;
        vault.map_or(Ok(()), |vault| vault.heal(&disk, dir))?;
        let recovery::Opened { lock, log_id, bases, lost, segment, mark, end, report } = opened;
        let (log, seal) = (dir.join("log"), frame::Seal::new(&log_id, vault));
        let reader = Arc::new(reader::Reader::new(log.clone(), seal.clone(), lost, bases, end));
        let shared = Arc::new(Shared::new(Reading::Files(Arc::clone(&reader)), lock));
        // Entries in the index may point into what has just been lost.
        let distrust = (!report.damage.is_empty()).then_some("the log was damaged");
        let (index, report) = open_index(dir, options, &shared, distrust, report)?;

        let ahead_to = segment.limit();
        let (shared_too, buffer, key) = (Arc::clone(&shared), Vec::new(), vault.map(Vault::id));
        let desk = Arc::new(Desk::new(Writer {
            shared: shared_too,
            reader,
            disk,
            log,
            log_id,
            seal,
            key,
            sizes,
            mark,
            segment,
            end,
            ahead_to,
            buffer,
        }));
        let (at, with) = (Arc::clone(&desk), Arc::clone(&shared));
        let thread = thread::Builder::new().name("storage-writer".into());
        let thread = thread.spawn(move || writer::run(&at, &with));
        let thread = thread.map_err(|e| StorageError::io("starting the writer of", dir, &e))?;
        Ok((Self::of(dir, index, shared, (Some(desk), thread), sizes, options), report))
    }

    fn open_database(
        dir: &Path,
        place: Option<&postgres::Place>,
        kept: InDatabase,
        options: &Options,
        sizes: Sizes,
        disk: &disk::Disk,
    ) -> Result<(Storage, Recovery), StorageError> {
        let postgres::Opened { shared, thread, report } =
            postgres::open(dir, place, kept, options, sizes, disk)?;
        match open_index(dir, options, &shared, None, report) {
            Ok((index, report)) => Ok((Self::of(dir, index, shared, (None, thread), sizes, options), report)),
            Err(error) => {
                shared.queue.close();
                let _ = thread.join();
                Err(error)
            }
        }
    }

    fn of(
        dir: &Path,
        index: Index,
        shared: Arc<Shared>,
        writer: (Option<Arc<Desk>>, JoinHandle<()>),
        sizes: Sizes,
        options: &Options,
    ) -> Storage {
        let (desk, thread) = writer;
        let (writer_id, append_max) = (thread.thread().id(), sizes.append_max());
        let reserve_bytes = usize::try_from(options.reserve_bytes).unwrap_or(usize::MAX);
        let writer = Mutex::new(Some(thread));
        let dir = dir.to_path_buf();
        Storage {
            inner: Arc::new(Inner { index, shared, desk, dir, append_max, reserve_bytes, writer_id, writer }),
        }
    }

    /// Appends entries; `done` hears their positions from the writer's thread once all of them are durable.
    ///
    /// Never blocks: if the queue is full, or on any other refusal, `done` hears it at once on this thread. `done`
    /// must be short, since all appends wait for it, and must not call `append_blocking` or `close`.
    pub fn append(
        &self,
        entries: Vec<Entry>,
        done: impl FnOnce(Result<Vec<Position>, StorageError>) + Send + 'static,
    ) {
        self.submit(entries, false, false, Box::new(done));
    }

    /// As `append`, and may use the reserve that ordinary appends leave on a full disk, and is never answered `Busy`: for
    /// what has already happened in the world (a card payment was taken) or was decided, and must be kept. The caller
    /// bounds what it has on its way.
    pub fn append_urgent(
        &self,
        entries: Vec<Entry>,
        done: impl FnOnce(Result<Vec<Position>, StorageError>) + Send + 'static,
    ) {
        self.submit(entries, true, false, Box::new(done));
    }

    /// As `append_urgent`; if the log is in files and nobody else is writing, the entries are durable when this returns, and
    /// `done` was called on this thread. Blocks as long as the disk takes, so only for what somebody waits for.
    pub fn append_here(
        &self,
        entries: Vec<Entry>,
        done: impl FnOnce(Result<Vec<Position>, StorageError>) + Send + 'static,
    ) {
        let Some(job) = self.checked(entries, true, Box::new(done)) else { return };
        let left = match &self.inner.desk {
            Some(desk) => writer::commit_here(desk, &self.inner.shared, job),
            None => Some(job),
        };
        left.into_iter().for_each(|job| self.put_in_line(job, false));
    }

    /// Appends and waits until durable; waits for room in the queue too. Not from inside a `done`.
    pub fn append_blocking(&self, entries: Vec<Entry>) -> Result<Vec<Position>, StorageError> {
        assert!(
            thread::current().id() != self.inner.writer_id,
            "append_blocking inside a done would never end"
        );
        let (send, receive) = mpsc::sync_channel(1);
        // The receiver waits below; it cannot be gone.
        self.submit(entries, false, true, Box::new(move |result| drop(send.send(result))));
        match receive.recv() {
            Ok(result) => result,
            // The writer died of a bug while it held our job.
            Err(_) => {
                Err(self.inner.shared.usable().err().unwrap_or(StorageError::Closed { operation: "append" }))
            }
        }
    }

    fn submit(&self, entries: Vec<Entry>, urgent: bool, wait: bool, done: Done) {
        if let Some(job) = self.checked(entries, urgent, done) {
            self.put_in_line(job, wait);
        }
    }

    fn checked(&self, entries: Vec<Entry>, urgent: bool, done: Done) -> Option<Job> {
        let limit = self.inner.append_max;
        let reading = &self.inner.shared.reading;
        let bytes = entries.iter().map(|entry| reading.frame_bytes(entry.bytes.len())).sum();
        let big = entries.iter().map(|entry| entry.bytes.len()).find(|bytes| *bytes > MAX_ENTRY_BYTES);
        let too_large = match big {
            Some(bytes) => Some(StorageError::TooLarge { bytes, limit: MAX_ENTRY_BYTES }),
            None => (bytes > limit).then_some(StorageError::TooLarge { bytes, limit }),
        };
        let refused = too_large.or_else(|| self.inner.shared.usable().err());
        if let Some(error) = refused {
            done(Err(error));
            return None;
        }
        Some(Job { entries, bytes, urgent, done })
    }

    fn put_in_line(&self, job: Job, wait: bool) {
        if let Err(refused) = self.inner.shared.queue.push(job, wait) {
            let (job, error) = *refused;
            (job.done)(Err(error));
        }
    }

    /// The entry at a position that `append` or `replay` gave, verified.
    pub fn read(&self, at: Position) -> Result<Entry, StorageError> {
        self.inner.shared.reading.read(at)
    }

    /// Visits every durable entry from `from` on, in order, verified, stepping over what is known to be lost; returns
    /// the position behind the last one. Appends made meanwhile are not visited.
    ///
    /// Stops at the first damage (`StorageError::Damaged`, naming segment and extent) or error of `visit`.
    pub fn replay<E: From<StorageError>>(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
    ) -> Result<Position, E> {
        self.inner.shared.reading.replay(from, visit)
    }

    /// The index over the log. Its writes must be repeatable: see index.rs.
    pub fn index(&self) -> &Index {
        &self.inner.index
    }

    /// End of what is durable.
    pub fn end(&self) -> Position {
        self.inner.shared.reading.end()
    }

    /// Ranges that earlier damage has cost.
    pub fn lost(&self) -> Vec<Range<Position>> {
        self.inner.shared.reading.lost()
    }

    /// Whether the disk is full (ordinary appends are refused, urgent ones use up the reserve), or the database has been away
    /// for a while (`is_away`; all appends wait). Becomes false by itself when that has passed. Whoever takes something in
    /// that will have to be appended asks first.
    pub fn is_full(&self) -> bool {
        self.inner.shared.full.load(Ordering::Acquire)
    }

    /// Why the database that the log is in cannot be reached, while it cannot. Appends wait meanwhile, unanswered; when it
    /// lasts, `is_full` says so too.
    pub fn is_away(&self) -> Option<String> {
        self.inner.shared.away()
    }

    /// Whether the log lies in a database.
    pub fn in_database(&self) -> bool {
        matches!(self.inner.shared.reading, Reading::Database(_))
    }

    /// Where the log lies, if it lies in a database.
    pub(crate) fn kept_in(&self) -> Option<Kept> {
        match &self.inner.shared.reading {
            Reading::Files(_) => None,
            Reading::Database(reader) => Some(reader.kept()),
        }
    }

    /// Says that the node is to stop: a database that is away is waited for a little longer and then no more. What waits is
    /// refused then, unacknowledged.
    pub fn will_close(&self) {
        let mut until = self.inner.shared.wait_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get_or_insert_with(|| Instant::now() + CLOSING_WAIT);
    }

    /// Bytes of the log.
    pub fn log_bytes(&self) -> u64 {
        self.inner.shared.reading.bytes()
    }

    /// The space of the disk that the directory is on; `None` where the system does not say.
    pub fn space(&self) -> Option<Space> {
        space(&self.inner.dir)
    }

    /// Sets so many bytes aside for what is to be appended soon, beside the reserve; `done` hears whether they are there.
    /// At most what one append may hold, with what is owed.
    pub fn set_aside(&self, bytes: usize, done: impl FnOnce(Result<(), StorageError>) + Send + 'static) {
        let bytes = bytes.saturating_add(self.owed()).min(self.inner.append_max);
        let done: Done = Box::new(move |result| done(result.map(drop)));
        if let Err(error) = self.inner.shared.usable() {
            return done(Err(error));
        }
        let job = Job { entries: Vec::new(), bytes, urgent: false, done };
        if let Err(refused) = self.inner.shared.queue.push(job, false) {
            let (job, error) = *refused;
            (job.done)(Err(error));
        }
    }

    /// Bytes that can be appended without asking the disk for space, beside the reserve and what is owed.
    pub fn room(&self) -> usize {
        let room = usize::try_from(self.inner.shared.room.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        room.saturating_sub(self.inner.reserve_bytes).saturating_sub(self.owed())
    }

    fn owed(&self) -> usize {
        self.inner.shared.owed.load(Ordering::Acquire)
    }

    /// For a store that will owe the log what follows from what it takes in.
    pub fn debt(&self) -> Debt {
        Debt::none(Arc::clone(&self.inner.shared))
    }

    /// Bytes set aside for urgent appends on a full disk.
    pub fn reserve_bytes(&self) -> usize {
        self.inner.reserve_bytes
    }

    /// Why everything is refused, if it is. Only opening again helps.
    pub fn is_poisoned(&self) -> Option<String> {
        self.inner.shared.poison.get().cloned()
    }

    /// Writes out what was accepted, syncs mark and index, and closes, for all clones. Says if the store was poisoned.
    #[allow(clippy::needless_pass_by_value)] // closing is the end of a handle
    pub fn close(self) -> Result<(), StorageError> {
        assert!(thread::current().id() != self.inner.writer_id, "close inside a done would never end");
        self.inner.stop();
        self.inner.shared.usable()?;
        self.inner.index.close()
    }
}

impl Inner {
    fn stop(&self) {
        self.shared.queue.close();
        let mut until = self.shared.wait_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.get_or_insert_with(|| Instant::now() + CLOSING_WAIT);
        drop(until);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may go inside a callback, on the writer's own thread, which ends by itself then.
        if let Some(writer) = writer.filter(|writer| writer.thread().id() != thread::current().id()) {
            // A panic in there has poisoned the store and answered everybody.
            let _ = writer.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Accepts that the database of a directory has less than was acknowledged; see `StorageError::DatabaseBehind`. `agreed` hears what
/// the directory knew and what is there before anything is changed, and sees to it that the node takes back from others what they
/// hold.
///
/// # Errors
/// The log is not in a database, a node holds the directory, the database has everything, or cannot be asked; or `agreed` says no.
pub fn accept_loss<E: From<StorageError>>(
    dir: &Path,
    agreed: impl FnOnce(Position, Position) -> Result<(), E>,
) -> Result<(), E> {
    postgres::accept_loss(dir, agreed)
}

/// Opens the index over a log that is open.
fn open_index(
    dir: &Path,
    options: &Options,
    shared: &Shared,
    distrust: Option<&str>,
    mut report: Recovery,
) -> Result<(Index, Recovery), StorageError> {
    let accept = |through| shared.reading.is_boundary(through);
    let (vault, version) = (options.vault.as_ref(), options.index_version);
    let (index, state, through) = Index::open(dir, &report.log_id, version, vault, distrust, accept)?;
    (report.index, report.index_through) = (state, through);
    Ok((index, report))
}
