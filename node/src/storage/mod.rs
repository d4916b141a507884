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
//! Rooms: writer.rs commits (one thread, group by group) what queue.rs collects; reader.rs reads what is durable;
//! inspect.rs tells a torn tail from a damaged middle; recovery.rs opens; audit.rs verifies; disk.rs holds the system
//! calls and the fault hook.
//!
//! An append is durable as a whole or not acknowledged. A crash may keep any of its first entries without
//! acknowledgement: what must stand or fall together belongs into one entry.

mod audit;
mod disk;
mod error;
mod frame;
mod index;
mod inspect;
mod lost;
pub mod manifest;
mod mark;
pub(crate) mod private;
mod queue;
mod reader;
mod recovery;
mod scratch;
mod segment;
mod snapshot;
mod space;
#[cfg(test)]
mod tests;
pub mod vault;
mod writer;

pub use audit::{Audit, Problem, audit, is_in_use, look};
pub use disk::{Act, Faults, Role, Verdict};
pub use error::{Damage, StorageError};
pub use frame::MAX_ENTRY_BYTES;
pub use index::{Index, KEY_BYTES_MAX, Pair, Put};
pub use scratch::Scratch;
pub use snapshot::{Snapshot, snapshot};
pub use space::{Space, space, try_disk};
pub use vault::VaultError;

pub use queue::{QUEUE_APPENDS_MAX, QUEUE_BYTES_MAX};

use queue::{Done, Job};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use vault::Vault;
use writer::{Desk, Shared, Sizes, Writer};

/// The most that one commit group, hence one append, may hold, frames included.
pub const GROUP_BYTES_MAX: usize = 8 << 20;

/// The reserve of a full disk, unless told otherwise: what a till has taken in and not written yet, twice over.
pub const RESERVE_BYTES: u64 = 2 << 20;

/// Version of what a node keeps in the index (`runtime::checkpoint`, `scratch`).
const INDEX_VERSION: u32 = 1;

/// A logical byte offset in the log: strictly rising, running on over segments. Positions lost to damage are skipped.
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

/// What to do when the log is found damaged in its middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDamage {
    /// Refuse to open, listing every place; change nothing.
    #[default]
    Refuse,
    /// Open without the lost ranges, remember them, never use their positions again.
    Quarantine,
}

/// How much of the log is read when opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scan {
    /// The newest segment's every frame; of the others that they are there, theirs, and long enough. Their frames are
    /// verified whenever they are read.
    #[default]
    Tail,
    /// Every frame of every segment.
    All,
}

/// How to open.
#[derive(Clone)]
pub struct Options {
    /// Length of a segment file: 4 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// Zeros are written ahead in steps of this many bytes.
    pub ahead_bytes: u64,
    /// Room that ordinary appends leave free in the newest segment, for `append_urgent` on a full disk. Written ahead as
    /// zeros, so that it is there when it is needed.
    pub reserve_bytes: u64,
    /// The most that one fdatasync covers, at most `GROUP_BYTES_MAX`.
    pub group_bytes_max: usize,
    /// What to do about damage.
    pub on_damage: OnDamage,
    /// How much to read when opening.
    pub scan: Scan,
    /// The log that must be here, and the id of a new one. `None`: whatever is here, a random id for a new one.
    pub log_id: Option<[u8; 16]>,
    /// Version of what the caller keeps in the index; another one throws the index away.
    pub index_version: u32,
    /// The key in hand. `None`: what the directory says and this process was given (`Vault::of`).
    pub vault: Option<Vault>,
    /// A disk's bad day, for tests and the simulator.
    pub faults: Option<Arc<dyn Faults>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            ahead_bytes: 1 << 20,
            reserve_bytes: RESERVE_BYTES,
            group_bytes_max: GROUP_BYTES_MAX,
            on_damage: OnDamage::Refuse,
            scan: Scan::Tail,
            log_id: None,
            index_version: INDEX_VERSION,
            vault: None,
            faults: None,
        }
    }
}

/// What became of the index at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexState {
    /// It was kept; replay from `Recovery::index_through`.
    Kept,
    /// There was none; replay everything.
    Created,
    /// It was thrown away for this reason; replay everything.
    Discarded(String),
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// There was no log here.
    pub fresh: bool,
    /// The log's id.
    pub log_id: [u8; 16],
    /// Segment files.
    pub segments: usize,
    /// Where the next entry will be.
    pub end: Position,
    /// The last entry.
    pub last: Option<Position>,
    /// Where an unacknowledged group was cut, if one was torn.
    pub torn_at: Option<Position>,
    /// How many bytes of it were cut.
    pub torn_bytes: u64,
    /// Damage found now and quarantined (with `OnDamage::Quarantine` only).
    pub damage: Vec<Damage>,
    /// Every range that is lost, from now and from earlier openings: refetch these from hub or peers.
    pub lost: Vec<Range<Position>>,
    /// Whether the high-water mark was readable. If not, and the tail was damaged too, its last moments cannot be told
    /// from a torn tail.
    pub mark_found: bool,
    /// What became of the index.
    pub index: IndexState,
    /// Replay from here to bring the index up to date.
    pub index_through: Position,
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
    desk: Arc<Desk>,
    append_max: usize,
    reserve_bytes: usize,
    writer_id: ThreadId,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Storage {
    /// Opens the storage in `dir`, creating it if there is none. Blocking: reads the newest segment, opens the index.
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
        let opened = recovery::open(dir, options, &sizes, &disk)?;
        vault.as_ref().map_or(Ok(()), |vault| vault.heal(&disk, dir))?;
        let recovery::Opened { lock, log_id, bases, lost, segment, mark, end, mut report } = opened;
        let (log, seal) = (dir.join("log"), frame::Seal::new(&log_id, vault.as_ref()));
        let reader = reader::Reader::new(log.clone(), seal.clone(), lost, bases, end);
        let (queue, poison) = (queue::Queue::default(), writer::Poison::new());
        let shared = Arc::new(Shared {
            queue,
            poison,
            full: AtomicBool::new(false),
            room: AtomicU64::new(0),
            reader,
            _lock: lock,
        });
        // Entries in the index may point into what has just been lost.
        let distrust = (!report.damage.is_empty()).then_some("the log was damaged");
        let accept = |through| shared.reader.is_boundary(through);
        let (index, state, through) =
            Index::open(dir, &log_id, options.index_version, vault.as_ref(), distrust, accept)?;
        (report.index, report.index_through) = (state, through);

        let ahead_to = segment.limit();
        let (shared_too, buffer) = (Arc::clone(&shared), Vec::new());
        let desk = Arc::new(Desk::new(Writer {
            shared: shared_too,
            disk,
            log,
            log_id,
            seal,
            key: vault.as_ref().map(Vault::id),
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
        let (writer_id, append_max) = (thread.thread().id(), sizes.append_max());
        let reserve_bytes = usize::try_from(options.reserve_bytes).unwrap_or(usize::MAX);
        let inner = Inner {
            index,
            shared,
            desk,
            append_max,
            reserve_bytes,
            writer_id,
            writer: Mutex::new(Some(thread)),
        };
        Ok((Storage { inner: Arc::new(inner) }, report))
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

    /// As `append_urgent`; if nobody else is writing, the entries are durable when this returns, and `done` was called on this
    /// thread. Blocks as long as the disk takes, so only for what somebody waits for.
    pub fn append_here(
        &self,
        entries: Vec<Entry>,
        done: impl FnOnce(Result<Vec<Position>, StorageError>) + Send + 'static,
    ) {
        let Some(job) = self.checked(entries, true, Box::new(done)) else { return };
        if let Some(job) = writer::commit_here(&self.inner.desk, &self.inner.shared, job) {
            self.put_in_line(job, false);
        }
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
        let reader = &self.inner.shared.reader;
        let bytes = entries.iter().map(|entry| reader.frame_bytes(entry.bytes.len())).sum();
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
        self.inner.shared.reader.read(at)
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
        self.inner.shared.reader.replay(from, visit)
    }

    /// The index over the log. Its writes must be repeatable: see index.rs.
    pub fn index(&self) -> &Index {
        &self.inner.index
    }

    /// End of what is durable.
    pub fn end(&self) -> Position {
        Position(self.inner.shared.reader.end())
    }

    /// Ranges that earlier damage has cost.
    pub fn lost(&self) -> Vec<Range<Position>> {
        self.inner.shared.reader.lost().ranges()
    }

    /// Whether the disk is full: ordinary appends are refused, urgent ones use up the reserve. Becomes false by itself
    /// when space returns. Whoever takes something in that will have to be appended asks first.
    pub fn is_full(&self) -> bool {
        self.inner.shared.full.load(Ordering::Acquire)
    }

    /// The space of the disk that the log is on; `None` where the system does not say.
    pub fn space(&self) -> Option<Space> {
        space(self.inner.shared.reader.folder())
    }

    /// Sets so many bytes aside for what is to be appended soon, beside the reserve; `done` hears whether they are there.
    /// At most what one append may hold.
    pub fn set_aside(&self, bytes: usize, done: impl FnOnce(Result<(), StorageError>) + Send + 'static) {
        let bytes = bytes.min(self.inner.append_max);
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

    /// Bytes that can be appended without asking the disk for space, beside the reserve.
    pub fn room(&self) -> usize {
        let room = usize::try_from(self.inner.shared.room.load(Ordering::Acquire)).unwrap_or(usize::MAX);
        room.saturating_sub(self.inner.reserve_bytes)
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
