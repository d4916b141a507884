//! Opening: from whatever a crash left behind to a log that can be appended to, or to a refusal that says why.
//!
//! In order: lock; look (inspect.rs); refuse or quarantine damage; make the tail durable; cut what is torn; write the
//! mark. Nothing is changed on the disk before the decision. Cutting is only ever done to a torn tail; a damaged middle
//! is never shortened silently, and positions that were lost are never used again.
//!
//! Every step can be interrupted and repeated: a crash while opening leaves what the next opening finds again.

use super::disk::{Disk, Role, is_full, read_at};
use super::inspect::{Inspection, Paths, inspect};
use super::lost::Lost;
use super::mark::{Mark, NO_SEGMENT, Slot};
use super::segment::{Header, Segment, write_zeros};
use super::vault::Vault;
use super::writer::Sizes;
use super::{Damage, IndexState, OnDamage, Options, Position, Recovery, StorageError, private};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

/// How far positions leap when durable frames are lost at the very end: farther than any segment can reach, so that
/// no position that was ever acknowledged is used twice.
const LEAP: u64 = 2 << 30;

/// An opened log, ready for the writer.
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) log_id: [u8; 16],
    pub(super) bases: Vec<u64>,
    pub(super) lost: Lost,
    pub(super) segment: Segment,
    pub(super) mark: Mark,
    pub(super) end: u64,
    pub(super) report: Recovery,
}

/// Takes the lock of a data folder; `create` also makes the file.
pub(super) fn take_lock(paths: &Paths, create: bool) -> Result<File, StorageError> {
    let failed = |e: &io::Error| StorageError::io("locking", &paths.lock, e);
    let file = private::options().read(true).write(true).create(create).truncate(false).open(&paths.lock);
    let file = file.map_err(|e| failed(&e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse { dir: paths.dir.clone() }),
        // A platform without file locks (an Android app is one process) is no reason not to sell.
        Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(e)) => Err(failed(&e)),
    }
}

pub(super) fn open(
    dir: &Path,
    options: &Options,
    sizes: &Sizes,
    disk: &Disk,
) -> Result<Opened, StorageError> {
    let paths = Paths::new(dir);
    disk.create_folder(dir)?;
    let lock = take_lock(&paths, true)?;
    disk.create_folder(&paths.log)?;
    remove_leftovers(&paths.log)?;
    let new_id = options.log_id.unwrap_or_else(rand::random);
    match inspect(&paths, options.scan, new_id, options.vault.as_ref())? {
        None => start_fresh(&paths, options, sizes, disk, lock, new_id),
        Some(found) => recover(&paths, options, sizes, disk, lock, found),
    }
}

/// Segments that were being created when the process died; they never got their name.
fn remove_leftovers(log: &Path) -> Result<(), StorageError> {
    let failed = |e: io::Error| StorageError::io("removing leftovers in", log, &e);
    for entry in fs::read_dir(log).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().ends_with(".seg.tmp") {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// The mark comes first, saying "no segment yet": if it says anything else, a missing segment is a loss.
fn start_fresh(
    paths: &Paths,
    options: &Options,
    sizes: &Sizes,
    disk: &Disk,
    lock: File,
    new_id: [u8; 16],
) -> Result<Opened, StorageError> {
    // An interrupted first start may have left a mark; its id counts unless another one is asked for.
    let left = super::mark::load(&paths.mark)?;
    let log_id = left.filter(|_| options.log_id.is_none()).map_or(new_id, |mark| mark.log_id);
    let slot = Slot { sequence: 0, end: 0, base: NO_SEGMENT, log_id };
    drop(Mark::create(disk.clone(), &paths.mark, slot)?);
    let segment = new_segment(paths, sizes, disk, options, log_id, 0)?;
    let mark = Mark::create(disk.clone(), &paths.mark, Slot { sequence: 2, base: 0, ..slot })?;
    let report = Recovery { fresh: true, log_id, segments: 1, mark_found: true, ..Recovery::default() };
    Ok(Opened { lock, log_id, bases: vec![0], lost: Lost::default(), segment, mark, end: 0, report })
}

fn new_segment(
    paths: &Paths,
    sizes: &Sizes,
    disk: &Disk,
    options: &Options,
    log_id: [u8; 16],
    base: u64,
) -> Result<Segment, StorageError> {
    let ahead = sizes.first_ahead(0);
    let header = Header { log_id, base, key: options.vault.as_ref().map(Vault::id) };
    let segment = Segment::create(disk, &paths.log, header, ahead).map_err(|e| {
        let full = StorageError::DiskFull { needed: ahead, path: paths.log.clone() };
        if is_full(&e) { full } else { StorageError::io("creating a segment in", &paths.log, &e) }
    })?;
    disk.sync_folder(&paths.log)?;
    Ok(segment)
}

fn recover(
    paths: &Paths,
    options: &Options,
    sizes: &Sizes,
    disk: &Disk,
    lock: File,
    mut found: Inspection,
) -> Result<Opened, StorageError> {
    if let Some(wanted) = options.log_id.filter(|wanted| *wanted != found.log_id) {
        let (dir, found, wanted) = (paths.dir.clone(), hex(&found.log_id), hex(&wanted));
        return Err(StorageError::ForeignLog { dir, found, wanted });
    }
    if let Some(error) = found.unreadable.pop() {
        return Err(error);
    }
    let mut end = found.tail.end;
    if !found.damage.is_empty() {
        if options.on_damage == OnDamage::Refuse {
            return Err(StorageError::DamagedMiddle { damage: found.damage });
        }
        end = quarantine(paths, disk, &mut found, options.vault.as_ref().map(Vault::id))?;
    }
    let Inspection { mark, log_id, mut bases, lost, damage, tail, last, .. } = found;
    let newest = bases.last().copied().unwrap_or(0);
    let mark_end = mark.map_or(0, |mark| mark.end);
    let usable = paths.log.join(super::segment::name_of(newest)).is_file();
    let reach = if usable { Segment::open(&paths.log, newest, false)?.limit() } else { newest };
    // A damaged newest segment is left as it is behind its last intact frame; so is one that positions leapt over.
    let leave = tail.open_ended || end > reach || !usable;
    if !leave {
        settle_tail(paths, disk, newest, mark_end, tail.end)?;
    }
    let segment = if leave || (tail.damaged && end > newest) {
        bases.push(end);
        new_segment(paths, sizes, disk, options, log_id, end)?
    } else {
        Segment::open(&paths.log, newest, true)?
    };
    disk.sync_folder(&paths.log)?;
    bases.retain(|base| paths.log.join(super::segment::name_of(*base)).is_file());
    let sequence = mark.map_or(0, |mark| mark.sequence + 2);
    let slot = Slot { sequence, end, base: segment.base, log_id };
    let new_mark = Mark::create(disk.clone(), &paths.mark, slot)?;
    let report = Recovery {
        fresh: false,
        log_id,
        segments: bases.len(),
        end: Position(end),
        last: last.map(Position),
        torn_at: (tail.torn_to > tail.end).then_some(Position(tail.end)),
        torn_bytes: tail.torn_to - tail.end,
        damage,
        lost: lost.ranges(),
        mark_found: mark.is_some(),
        ..Recovery::default()
    };
    Ok(Opened { lock, log_id, bases, lost, segment, mark: new_mark, end, report })
}

/// Accepts the damage for good: lists it in `lost`, restores headers whose contents are known. Returns the new end.
fn quarantine(
    paths: &Paths,
    disk: &Disk,
    found: &mut Inspection,
    key: Option<[u8; 16]>,
) -> Result<u64, StorageError> {
    let Inspection { mark, log_id, lost, damage, bad_headers, tail, .. } = found;
    for Damage { from, to, .. } in damage.iter() {
        lost.add(from.0..to.0);
    }
    let mut end = tail.end;
    if tail.open_ended {
        end = mark.map_or(0, |mark| mark.end).max(lost.end()).max(tail.end) + LEAP;
        lost.add(tail.end..end);
    }
    lost.save(disk, &paths.lost, log_id)?;
    for base in bad_headers.iter().copied() {
        let segment = Segment::open(&paths.log, base, true)?;
        let header = Header { log_id: *log_id, base, key }.encode();
        disk.write_at(Role::Repair, &segment.file, &header, 0)
            .and_then(|()| disk.sync(Role::Repair, &segment.file))
            .map_err(|e| StorageError::io("restoring the header of", &segment.path, &e))?;
    }
    Ok(end)
}

/// Makes the newest segment durable as it was found, and zero behind `end`.
///
/// What lies behind the mark is written again before it is synced: after a failed fsync the kernel may hold pages that
/// look clean but never reached the disk, and a plain fsync would bless them. So are the zeros, torn or not: one path,
/// always the same.
fn settle_tail(paths: &Paths, disk: &Disk, base: u64, mark_end: u64, end: u64) -> Result<(), StorageError> {
    let segment = Segment::open(&paths.log, base, true)?;
    let settle = || -> io::Result<()> {
        let mut at = mark_end.max(base);
        let mut buffer = vec![0; 1 << 20];
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            let count = read_at(&segment.file, &mut buffer[..count], segment.offset_of(at))?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            disk.write_at(Role::Repair, &segment.file, &buffer[..count], segment.offset_of(at))?;
            at += count as u64;
        }
        write_zeros(disk, Role::Repair, &segment.file, segment.offset_of(end), segment.length)?;
        disk.sync(Role::Repair, &segment.file)
    };
    settle().map_err(|e| StorageError::io("making the tail durable in", &segment.path, &e))
}

/// Lower-case hex, for messages.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Default for Recovery {
    fn default() -> Self {
        Recovery {
            fresh: false,
            log_id: [0; 16],
            segments: 0,
            end: Position(0),
            last: None,
            torn_at: None,
            torn_bytes: 0,
            damage: Vec::new(),
            lost: Vec::new(),
            mark_found: false,
            index: IndexState::Created,
            index_through: Position(0),
        }
    }
}
