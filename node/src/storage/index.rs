//! The index: sled, kept where its weaknesses cannot hurt.
//!
//! Everything in it can be rebuilt from the log; nothing waits for it; on any doubt it is thrown away. It is the only
//! file that names sled, and it follows the recipe that survived the power-loss checker (RELIABILITY.md 1.3): no
//! flusher (so no garbage collection either: overwrites leak until `clear`), small cache, values of at most 4 KiB,
//! created aside and renamed, `*.generating` deleted before opening, side files and folders synced after, checkpoints
//! through a descriptor held since opening.
//!
//! **What callers must keep to:** write only what comes from log entries that are durable, and write so that repeating
//! it changes nothing. After a crash the index stands at its last checkpoint or anywhere later; the node replays from
//! `through` and writes the same things again.
//!
//! Over an encrypted log the names and values of callers are encrypted before they get here (index/cover.rs), so sled
//! and everything it leaves behind hold nothing else.
//!
//! Keys inside: `d` + key → 0 + value, or 1 + length (8) + BLAKE3 (16) of a value in chunks; `c` + key length (2, big
//! endian) + key + number (4, big endian) → chunk; `m…` → identity and checkpoint.

mod cover;

use super::disk::{Disk, parent};
use super::vault::Vault;
use super::{IndexState, Position, StorageError};
use cover::Cover;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

/// The longest key.
pub const KEY_BYTES_MAX: usize = 1024;
/// Longer values are cut: sled moves big leaves to files that it never syncs.
const CHUNK_BYTES: usize = 4000;
const CACHE_BYTES: u64 = 16 << 20;
/// An index of fewer bytes is never tidied up, and a larger one when so many times more lies there than is in it.
const TIDY_BYTES: u64 = 64 << 20;
const TIDY_TIMES: u64 = 4;
/// How long sled's worker threads may hold its files after the last handle went.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(10);
/// The layout above.
const FORMAT: u8 = 1;
const IDENTITY: &[u8] = b"midentity";
const THROUGH: &[u8] = b"mthrough";

/// One step of a batch: a key and its new value, or `None` to remove it.
pub type Put = (Vec<u8>, Option<Vec<u8>>);

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A key-value index over the log.
pub struct Index {
    paths: IndexPaths,
    identity: Vec<u8>,
    cover: Option<Cover>,
    store: RwLock<Option<Store>>,
    /// One batch at a time: a batch looks at old values to remove their chunks.
    writing: Mutex<()>,
}

struct Store {
    db: sled::Db,
    /// Held since opening: a fresh descriptor can miss an error of the writeback.
    held: File,
}

struct IndexPaths {
    home: PathBuf,
    aside: PathBuf,
    discard: PathBuf,
    doubt: PathBuf,
}

type Reason = String;

impl Index {
    /// Opens the index of a data folder, or throws it away and makes a new one. `accept` says whether the log can be
    /// replayed from a position.
    pub(super) fn open(
        dir: &Path,
        log_id: &[u8; 16],
        version: u32,
        vault: Option<&Vault>,
        distrust: Option<&str>,
        accept: impl Fn(Position) -> bool,
    ) -> Result<(Index, IndexState, Position), StorageError> {
        let [home, aside, discard, doubt] =
            ["index", "index.tmp", "index.discard", "index.doubt"].map(|name| dir.join(name));
        let paths = IndexPaths { home, aside, discard, doubt };
        let mut identity = vec![FORMAT];
        identity.extend_from_slice(&version.to_le_bytes());
        identity.extend_from_slice(log_id);
        // A plain index is no index of an encrypted log, nor one under another key.
        identity.extend(vault.into_iter().flat_map(Vault::id));
        let cover = vault.map(|vault| Cover::new(vault, log_id));
        let existed = paths.home.is_dir();
        let kept = match (existed, distrust) {
            (false, _) => Err("there was none".to_string()),
            (true, Some(reason)) => Err(reason.to_string()),
            (true, None) if paths.doubt.exists() => Err("an operation on it failed earlier".to_string()),
            (true, None) => open_store(&paths.home).and_then(|store| {
                let through = judge(&store, &identity, &accept)?;
                Ok((store, through))
            }),
        };
        let (store, state, through) = match kept {
            Ok((store, through)) => (store, IndexState::Kept, through),
            Err(reason) => {
                let store = recreate(&paths, &identity).map_err(|e| StorageError::index("creation", e))?;
                let state = if existed { IndexState::Discarded(reason) } else { IndexState::Created };
                (store, state, Position(0))
            }
        };
        // What an interrupted opening left aside.
        remove_folder(&paths.discard).map_err(|e| StorageError::index("clean-up", e))?;
        let (store, writing) = (RwLock::new(Some(store)), Mutex::new(()));
        Ok((Index { paths, identity, cover, store, writing }, state, through))
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(cover) = &self.cover else { return self.get_raw(key) };
        let Some(raw) = self.get_raw(&cover.name(key))? else { return Ok(None) };
        match cover.open(&cover.name(key), &raw) {
            Some((_, value)) => Ok(Some(value)),
            None => self.run("get", |_| Err("a value is not what was encrypted".to_string())),
        }
    }

    /// A value as it lies in sled.
    fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.run("get", |store| {
            let Some(raw) = store.db.get(data_key(key)).map_err(text)? else { return Ok(None) };
            if let Ok(value) = assemble(store, key, &raw) {
                return Ok(Some(value));
            }
            // Perhaps it was overwritten between head and chunks; under the lock it cannot be.
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let raw = store.db.get(data_key(key)).map_err(text)?;
            raw.map(|raw| assemble(store, key, &raw)).transpose()
        })
    }

    /// Writes all of a batch or nothing of it; with `through`, also how far the index now knows the log. Not synced.
    ///
    /// Of several values for one key the last counts. Keys are limited to `KEY_BYTES_MAX`.
    pub fn put_batch(&self, batch: Vec<Put>, through: Option<Position>) -> Result<(), StorageError> {
        if let Some((key, _)) = batch.iter().find(|(key, _)| key.len() > KEY_BYTES_MAX) {
            return Err(StorageError::TooLarge { bytes: key.len(), limit: KEY_BYTES_MAX });
        }
        let mut batch: BTreeMap<_, _> = batch.into_iter().collect();
        if let Some(cover) = &self.cover {
            let covered = batch.into_iter().map(|(key, value)| cover.pair(&key, value.as_deref()));
            batch = covered.collect();
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.run("put_batch", |store| {
            let mut writes = sled::Batch::default();
            for (key, value) in &batch {
                let old = store.db.get(data_key(key)).map_err(text)?;
                let old_chunks = old.as_deref().and_then(chunked).map_or(0, |(length, _)| chunks_of(length));
                let new_chunks = lay_out(&mut writes, key, value.as_deref());
                for number in new_chunks..old_chunks {
                    writes.remove(chunk_key(key, number));
                }
            }
            if let Some(through) = through {
                writes.insert(THROUGH, &through.0.to_le_bytes());
            }
            store.db.apply_batch(writes).map_err(text)
        })
    }

    /// Keys with a prefix and their values, in order, at most `limit`, those after `after` if given.
    ///
    /// Over an encrypted log this decrypts the whole index: names are hashed, so sled knows no order of them.
    pub fn scan_prefix(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, StorageError> {
        let Some(cover) = &self.cover else { return self.scan_raw(prefix, after, limit) };
        let mut found = Vec::new();
        for (name, raw) in self.scan_raw(b"", None, usize::MAX)? {
            let Some((key, value)) = cover.open(&name, &raw) else {
                return self.run("scan_prefix", |_| Err("a value is not what was encrypted".to_string()));
            };
            if key.starts_with(prefix) && after.is_none_or(|after| key.as_slice() > after) {
                found.push((key, value));
            }
        }
        found.sort();
        found.truncate(limit);
        Ok(found)
    }

    /// As `scan_prefix`, of what lies in sled.
    fn scan_raw(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, StorageError> {
        let keys = self.run("scan_prefix", |store| {
            // All keys of the index begin with `d`, so a prefix never runs into chunks or meta.
            let until = data_key(prefix);
            let from = match after.filter(|after| *after >= prefix) {
                Some(after) => [&data_key(after), &[0][..]].concat(),
                None => until.clone(),
            };
            let keys = store.db.range(from..).keys().take(limit);
            let keys = keys.collect::<Result<Vec<_>, _>>().map_err(text)?;
            let within = keys.into_iter().take_while(|key| key.starts_with(&until));
            Ok(within.map(|key| key[1..].to_vec()).collect::<Vec<_>>())
        })?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            // A key removed since is simply gone.
            if let Some(value) = self.get_raw(&key)? {
                found.push((key, value));
            }
        }
        Ok(found)
    }

    /// The position up to which the index knows the log (by the last batch or checkpoint that said so).
    pub fn through(&self) -> Result<Position, StorageError> {
        self.run("through", read_through)
    }

    /// Notes `through` and makes everything written so far durable.
    pub fn checkpoint(&self, through: Position) -> Result<(), StorageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.run("checkpoint", |store| {
            store.db.insert(THROUGH, &through.0.to_le_bytes()).map_err(text)?;
            store.commit(&self.paths.home)
        })
    }

    /// Throws everything away; `through` is 0 afterwards. Also the way to give leaked space back.
    pub fn clear(&self) -> Result<(), StorageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        drop_store(store.take());
        let fresh = recreate(&self.paths, &self.identity).and_then(|fresh| {
            remove_folder(&self.paths.discard)?;
            Ok(fresh)
        });
        *store = Some(fresh.map_err(|e| StorageError::index("clear", e))?);
        Ok(())
    }

    /// Gives leaked space back once it is most of what lies there; reads all of it then.
    pub(super) fn tidy(&self) -> Result<(), StorageError> {
        self.tidy_beyond(TIDY_BYTES)
    }

    fn tidy_beyond(&self, bytes: u64) -> Result<(), StorageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let leaks = self.run("tidying up", |store| {
            let there = store.db.size_on_disk().map_err(text)?;
            let mut live = 0;
            for pair in store.db.iter().take_while(|_| there > bytes) {
                let (key, value) = pair.map_err(text)?;
                live += (key.len() + value.len()) as u64;
            }
            Ok(there > bytes && there > TIDY_TIMES * live)
        })?;
        if !leaks {
            return Ok(());
        }
        let mut store = self.store.write().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = store.take() else { return Err(StorageError::Closed { operation: "tidying up" }) };
        let fresh = move_over(&self.paths, old).and_then(|fresh| {
            remove_folder(&self.paths.discard)?;
            Ok(fresh)
        });
        *store = Some(fresh.map_err(|e| StorageError::index("tidying up", e))?);
        Ok(())
    }

    /// Makes what was written durable and lets go of the files.
    pub(super) fn close(&self) -> Result<(), StorageError> {
        let closed = self.run("close", |store| store.commit(&self.paths.home));
        drop_store(self.store.write().unwrap_or_else(PoisonError::into_inner).take());
        closed
    }

    /// Runs an operation; an error or a panic of sled leaves a note that makes the next opening throw it away.
    fn run<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Store) -> Result<T, Reason>,
    ) -> Result<T, StorageError> {
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = store.as_ref() else { return Err(StorageError::Closed { operation }) };
        caught(|| work(store)).map_err(|reason| {
            // Best effort: if even this fails, the error itself still reaches the caller.
            let _ = File::create(&self.paths.doubt).and_then(|file| file.sync_all());
            StorageError::index(operation, reason)
        })
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        drop_store(self.store.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Store {
    fn commit(&self, home: &Path) -> Result<(), Reason> {
        self.db.flush().map_err(text)?;
        // Chunks keep values out of blobs/; if one gets there all the same it is synced before the log that names it.
        let blobs = home.join("blobs");
        let mut any = false;
        for entry in fs::read_dir(&blobs).map_err(text)? {
            sync_path(&entry.map_err(text)?.path())?;
            any = true;
        }
        if any {
            sync_path(&blobs)?;
        }
        self.held.sync_data().map_err(text)
    }
}

/// Puts a new, empty index in place. The old one gets another name first, so that it is never half there.
fn recreate(paths: &IndexPaths, identity: &[u8]) -> Result<Store, Reason> {
    let folder = parent(&paths.home);
    let disk = Disk::default();
    if paths.home.exists() {
        remove_folder(&paths.discard)?;
        fs::rename(&paths.home, &paths.discard).map_err(text)?;
        disk.sync_folder(folder).map_err(text)?;
    }
    remove_folder(&paths.aside)?;
    let store = open_store(&paths.aside)?;
    caught(|| {
        store.db.insert(IDENTITY, identity).map_err(text)?;
        store.db.insert(THROUGH, &0u64.to_le_bytes()).map_err(text)?;
        store.commit(&paths.aside)
    })?;
    drop_store(Some(store));
    wait_released(&paths.aside)?;
    fs::rename(&paths.aside, &paths.home).map_err(text)?;
    match fs::remove_file(&paths.doubt) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(text(e)),
        _ => {}
    }
    disk.sync_folder(folder).map_err(text)?;
    open_store(&paths.home)
}

/// Puts a new index in place that holds what the old one does.
fn move_over(paths: &IndexPaths, old: Store) -> Result<Store, Reason> {
    let (folder, disk) = (parent(&paths.home), Disk::default());
    remove_folder(&paths.aside)?;
    remove_folder(&paths.discard)?;
    let store = open_store(&paths.aside)?;
    caught(|| {
        for pair in old.db.iter() {
            let (key, value) = pair.map_err(text)?;
            store.db.insert(key, value).map_err(text)?;
        }
        store.commit(&paths.aside)
    })?;
    drop_store(Some(store));
    drop_store(Some(old));
    wait_released(&paths.aside)?;
    wait_released(&paths.home)?;
    // Cut off between the two, there is none, and it is made anew.
    fs::rename(&paths.home, &paths.discard).map_err(text)?;
    fs::rename(&paths.aside, &paths.home).map_err(text)?;
    disk.sync_folder(folder).map_err(text)?;
    open_store(&paths.home)
}

fn open_store(home: &Path) -> Result<Store, Reason> {
    if home.is_dir() {
        wait_released(home)?;
        // sled takes an unfinished snapshot for the newest one and never opens again.
        for path in files_in(home)? {
            if path.to_string_lossy().ends_with(".generating") {
                fs::remove_file(path).map_err(text)?;
            }
        }
    }
    let config = sled::Config::new().path(home).flush_every_ms(None).cache_capacity(CACHE_BYTES);
    let db = caught(|| config.open().map_err(text))?;
    let held = File::options().read(true).write(true).open(home.join("db")).map_err(text)?;
    for path in files_in(home)? {
        sync_path(&path)?;
    }
    sync_path(&home.join("blobs"))?;
    sync_path(home)?;
    Ok(Store { db, held })
}

/// Waits until an earlier handle of ours has let go of a folder.
///
/// sled's worker threads hold its file for a moment after the last handle was dropped; opening again at once then fails
/// with "could not acquire lock" (one in 500 first starts under the power-loss checker). The storage's own lock is held
/// here, so nobody else can be meant.
fn wait_released(home: &Path) -> Result<(), Reason> {
    let file = match File::options().read(true).write(true).open(home.join("db")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(text)?,
    };
    let started = Instant::now();
    while let Err(TryLockError::WouldBlock) = file.try_lock() {
        if started.elapsed() > RELEASE_WAIT_MAX {
            return Err("sled does not let go of its files".to_string());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The checkpoint of an index that may be kept.
fn judge(store: &Store, identity: &[u8], accept: &impl Fn(Position) -> bool) -> Result<Position, Reason> {
    let found = caught(|| store.db.get(IDENTITY).map_err(text))?;
    match found {
        None => return Err("it has no identity".to_string()),
        Some(found) if found != identity => return Err("it belongs to another log or version".to_string()),
        Some(_) => {}
    }
    let through = caught(|| read_through(store))?;
    if accept(through) { Ok(through) } else { Err(format!("its checkpoint {} is not in the log", through.0)) }
}

fn read_through(store: &Store) -> Result<Position, Reason> {
    let raw = store.db.get(THROUGH).map_err(text)?.ok_or("it has no checkpoint")?;
    let raw: [u8; 8] = raw.as_ref().try_into().map_err(|_| "its checkpoint is malformed")?;
    Ok(Position(u64::from_le_bytes(raw)))
}

fn data_key(key: &[u8]) -> Vec<u8> {
    [b"d", key].concat()
}

fn chunk_key(key: &[u8], number: usize) -> Vec<u8> {
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
    let number = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    [b"c", &length[..], key, &number[..]].concat()
}

fn chunks_of(length: usize) -> usize {
    length.div_ceil(CHUNK_BYTES)
}

/// Length and hash of a value that lies in chunks.
fn chunked(raw: &[u8]) -> Option<(usize, &[u8])> {
    let (&1, rest) = raw.split_first()? else { return None };
    let (length, hash) = rest.split_first_chunk::<8>()?;
    Some((usize::try_from(u64::from_le_bytes(*length)).ok()?, hash))
}

/// Adds a value's writes to a batch; returns its number of chunks.
fn lay_out(writes: &mut sled::Batch, key: &[u8], value: Option<&[u8]>) -> usize {
    let Some(value) = value else {
        writes.remove(data_key(key));
        return 0;
    };
    if value.len() <= CHUNK_BYTES {
        writes.insert(data_key(key), [&[0], value].concat());
        return 0;
    }
    for (number, chunk) in value.chunks(CHUNK_BYTES).enumerate() {
        writes.insert(chunk_key(key, number), chunk);
    }
    let hash = blake3::hash(value);
    let length = (value.len() as u64).to_le_bytes();
    writes.insert(data_key(key), [&[1], &length[..], &hash.as_bytes()[..16]].concat());
    chunks_of(value.len())
}

fn assemble(store: &Store, key: &[u8], raw: &[u8]) -> Result<Vec<u8>, Reason> {
    if let Some((0, value)) = raw.split_first() {
        return Ok(value.to_vec());
    }
    let (length, hash) = chunked(raw).ok_or("a value is malformed")?;
    let mut value = Vec::new();
    for number in 0..chunks_of(length) {
        let chunk = store.db.get(chunk_key(key, number)).map_err(text)?.ok_or("a chunk is missing")?;
        value.extend_from_slice(&chunk);
    }
    if value.len() != length || blake3::hash(&value).as_bytes()[..16] != *hash {
        return Err("a value does not match its hash".to_string());
    }
    Ok(value)
}

/// sled panics where it should fail; to us both are the same.
fn caught<T>(work: impl FnOnce() -> Result<T, Reason>) -> Result<T, Reason> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("sled panicked".to_string()))
}

fn drop_store(store: Option<Store>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(store)));
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, Reason> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(text)? {
        let path = entry.map_err(text)?.path();
        files.extend(path.is_file().then_some(path));
    }
    Ok(files)
}

fn sync_path(path: &Path) -> Result<(), Reason> {
    if path.is_dir() {
        return Disk::default().sync_folder(path).map_err(text);
    }
    // For writing: Windows refuses to sync a read-only handle.
    File::options().read(true).write(true).open(path).and_then(|file| file.sync_all()).map_err(text)
}

fn remove_folder(path: &Path) -> Result<(), Reason> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(text(e)),
        _ => Ok(()),
    }
}

#[allow(clippy::needless_pass_by_value)] // made for map_err
fn text(error: impl Display) -> Reason {
    error.to_string()
}
