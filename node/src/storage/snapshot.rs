//! A consistent copy of a log, of a running node or of a stopped one.
//!
//! What lies below the high-water mark was durable before the mark said so and is never written again, so the copy is the
//! log exactly up to the mark as it was at one moment: every entry acknowledged before the copy began is in it, whatever
//! the writer does meanwhile. Of a stopped node the whole log is copied, for after a power cut the mark may be old.

use super::disk::{Disk, Role, parent, read_at};
use super::inspect::{Paths, inspect};
use super::mark::{self, Mark, NO_SEGMENT, Slot};
use super::postgres::{self, Place};
use super::recovery::take_lock;
use super::segment::{HEADER_BYTES, Segment, bases_in, name_of};
use super::vault::Vault;
use super::{Position, Scan, StorageError, private};
use std::io;
use std::path::Path;

/// Bytes copied at a time.
const STEP_BYTES: usize = 1 << 20;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// End of the log in the copy.
    pub end: Position,
    /// Segment files.
    pub segments: usize,
    /// Bytes written.
    pub bytes: u64,
    /// The node was running.
    pub live: bool,
}

/// Copies the log of `dir` into the empty directory `to`, durably. Nothing is changed in `dir`.
///
/// # Errors
/// There is no readable mark beside the log of a running node, the log of a stopped one is damaged, or a disk refuses.
pub fn snapshot(dir: &Path, to: &Path) -> Result<Snapshot, StorageError> {
    if let Some(place) = Place::of(dir)? {
        return postgres::snapshot(dir, &place, to);
    }
    let (paths, copy, disk) = (Paths::new(dir), Paths::new(to), Disk::default());
    let held = if paths.lock.is_file() { take_lock(&paths, false) } else { take_lock(&paths, true) };
    let (slot, live) = match held {
        Ok(_lock) => (at_rest(dir, &paths)?, false),
        Err(StorageError::InUse { .. }) => (mark::load(&paths.mark)?, true),
        Err(error) => return Err(error),
    };
    let Some(slot) = slot.filter(|slot| slot.base != NO_SEGMENT) else {
        let nothing = if paths.log.is_dir() { bases_in(&paths.log)?.is_empty() } else { true };
        if nothing {
            return Ok(Snapshot { live, ..Snapshot::default() });
        }
        let unreadable =
            io::Error::new(io::ErrorKind::InvalidData, "it is damaged; the next start writes it anew");
        return Err(StorageError::io("reading", &paths.mark, &unreadable));
    };
    disk.create_folder(&copy.log)?;
    let mut done = Snapshot { end: Position(slot.end), live, ..Snapshot::default() };
    let bases: Vec<u64> = bases_in(&paths.log)?.into_iter().filter(|base| *base <= slot.base).collect();
    for (nth, base) in bases.iter().enumerate() {
        let segment = Segment::open(&paths.log, *base, false)?;
        let to = bases.get(nth + 1).copied().unwrap_or(slot.end).min(slot.end);
        done.bytes += copy_file(&disk, &segment, HEADER_BYTES + to.saturating_sub(*base), &copy.log)?;
        done.segments += 1;
    }
    disk.sync_folder(&copy.log)?;
    if paths.lost.is_file() {
        let bytes = std::fs::read(&paths.lost).map_err(|e| StorageError::io("reading", &paths.lost, &e))?;
        disk.replace_file(Role::Lost, &copy.lost, &bytes)?;
    }
    drop(Mark::create(disk.clone(), &copy.mark, Slot { sequence: 0, ..slot })?);
    disk.sync_folder(parent(&copy.mark))?;
    Ok(done)
}

/// The end of a stopped node's log, as if it had been marked.
fn at_rest(dir: &Path, paths: &Paths) -> Result<Option<Slot>, StorageError> {
    let vault = Vault::of(dir)?;
    let Some(mut found) = inspect(paths, Scan::All, [0; 16], vault.as_ref())? else { return Ok(None) };
    if let Some(error) = found.unreadable.pop() {
        return Err(error);
    }
    if !found.damage.is_empty() {
        return Err(StorageError::DamagedMiddle { damage: found.damage });
    }
    let base = found.bases.last().copied().unwrap_or(NO_SEGMENT);
    Ok(Some(Slot { sequence: 0, end: found.end().0, base, log_id: found.log_id }))
}

/// Copies the first `length` bytes of a segment; fewer if the file has fewer.
fn copy_file(disk: &Disk, segment: &Segment, length: u64, log: &Path) -> Result<u64, StorageError> {
    let path = log.join(name_of(segment.base));
    let failed = |e: io::Error| StorageError::io("copying to", &path, &e);
    let file = private::options().write(true).create_new(true).open(&path).map_err(failed)?;
    let (mut at, mut buffer) = (0, vec![0; STEP_BYTES]);
    while at < length {
        let want = usize::try_from(length - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = read_at(&segment.file, &mut buffer[..want], at).map_err(|e| segment.failed(&e))?;
        if count == 0 {
            break;
        }
        disk.write_at(Role::Segment, &file, &buffer[..count], at).map_err(failed)?;
        at += count as u64;
    }
    disk.sync(Role::Segment, &file).map_err(failed)?;
    Ok(at)
}
