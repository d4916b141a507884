//! The high-water mark: how far the log was durable, kept outside the log, so that a damaged middle is told from a
//! torn tail even when nothing is left behind the damage.
//!
//! File `mark`, 8192 bytes, two slots (at 0 and 4096, so that one bad sector costs one slot), written in turn:
//!
//! ```text
//! 0   8  sequence: the valid slot with the higher one counts; its parity names the slot
//! 8   8  end: every position below it was durable before this slot was written
//! 16  8  base of the newest segment; u64::MAX = none was created yet
//! 24 16  log id
//! 40 24  BLAKE3 of bytes 0..40, truncated
//! ```
//!
//! A slot is written after each commit (2 µs, page cache) and synced at rotation, at close and at most once a second:
//! it may be old after a power loss, it is never ahead of the log. It is not in the acknowledgement path.

use super::StorageError;
use super::disk::{Disk, Role, read_at};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SLOT_BYTES: usize = 64;
/// Where the slots begin.
const SLOTS: [(u64, usize); 2] = [(0, 0), (4096, 4096)];
const FILE_BYTES: usize = 8192;
/// The mark is synced at most this often while commits go on.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// `base` of a mark that was written before the first segment.
pub(super) const NO_SEGMENT: u64 = u64::MAX;

/// One slot's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) sequence: u64,
    pub(super) end: u64,
    pub(super) base: u64,
    pub(super) log_id: [u8; 16],
}

impl Slot {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut raw = [0; SLOT_BYTES];
        raw[..8].copy_from_slice(&self.sequence.to_le_bytes());
        raw[8..16].copy_from_slice(&self.end.to_le_bytes());
        raw[16..24].copy_from_slice(&self.base.to_le_bytes());
        raw[24..40].copy_from_slice(&self.log_id);
        let hash = blake3::hash(&raw[..40]);
        raw[40..].copy_from_slice(&hash.as_bytes()[..24]);
        raw
    }

    fn decode(raw: &[u8]) -> Option<Slot> {
        let raw = raw.first_chunk::<SLOT_BYTES>()?;
        if raw[40..] != blake3::hash(&raw[..40]).as_bytes()[..24] {
            return None;
        }
        let number = |at: usize| raw[at..].first_chunk::<8>().copied().map(u64::from_le_bytes);
        let log_id = *raw[24..].first_chunk::<16>()?;
        Some(Slot { sequence: number(0)?, end: number(8)?, base: number(16)?, log_id })
    }
}

/// The newer valid slot; `None` when the file is missing or both are damaged.
pub(super) fn load(path: &Path) -> Result<Option<Slot>, StorageError> {
    let failed = |e: io::Error| StorageError::io("reading", path, &e);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let mut raw = [0; FILE_BYTES];
    let count = read_at(&file, &mut raw, 0).map_err(failed)?;
    let slots = SLOTS.map(|(_, at)| raw[..count].get(at..).and_then(Slot::decode));
    Ok(slots.into_iter().flatten().max_by_key(|slot| slot.sequence))
}

/// The mark, held open by the writer.
pub(super) struct Mark {
    disk: Disk,
    path: PathBuf,
    file: File,
    slot: Slot,
    dirty: bool,
    synced_at: Instant,
}

impl Mark {
    /// Replaces the file by one whose both slots say `slot`, durably, and holds it open.
    pub(super) fn create(disk: Disk, path: &Path, slot: Slot) -> Result<Mark, StorageError> {
        let slot = Slot { sequence: slot.sequence.next_multiple_of(2), ..slot };
        let mut raw = vec![0; FILE_BYTES];
        for ((_, at), sequence) in SLOTS.into_iter().zip(slot.sequence..) {
            raw[at..at + SLOT_BYTES].copy_from_slice(&Slot { sequence, ..slot }.encode());
        }
        disk.replace_file(Role::Mark, path, &raw)?;
        let file = File::options().read(true).write(true).open(path);
        let file = file.map_err(|e| StorageError::io("opening", path, &e))?;
        let slot = Slot { sequence: slot.sequence + 1, ..slot };
        Ok(Mark { disk, path: path.to_path_buf(), file, slot, dirty: false, synced_at: Instant::now() })
    }

    /// Notes that the log is durable up to `end`. Not synced.
    pub(super) fn advance(&mut self, end: u64, base: u64) -> Result<(), StorageError> {
        self.slot = Slot { sequence: self.slot.sequence + 1, end, base, ..self.slot };
        let (offset, _) = SLOTS[usize::from(!self.slot.sequence.is_multiple_of(2))];
        self.dirty = true;
        let written = self.disk.write_at(Role::Mark, &self.file, &self.slot.encode(), offset);
        written.map_err(|e| StorageError::io("writing", &self.path, &e))
    }

    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        if self.dirty {
            let synced = self.disk.sync(Role::Mark, &self.file);
            synced.map_err(|e| StorageError::io("syncing", &self.path, &e))?;
        }
        self.dirty = false;
        self.synced_at = Instant::now();
        Ok(())
    }

    /// How long until the mark wants a sync; `None` when nothing waits for one.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.dirty.then(|| SYNC_EVERY.saturating_sub(self.synced_at.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_damaged_slot_leaves_the_other() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("mark");
        assert_eq!(load(&path).expect("load"), None);
        let first = Slot { sequence: 7, end: 0, base: NO_SEGMENT, log_id: [3; 16] };
        let mut mark = Mark::create(Disk::default(), &path, first).expect("create");
        for end in [100, 200, 300] {
            mark.advance(end, 0).expect("advance");
            assert_eq!(load(&path).expect("load").map(|slot| slot.end), Some(end));
        }
        let good = std::fs::read(&path).expect("read");
        let ends = [0, 4096].map(|slot| {
            let mut bad = good.clone();
            bad[slot + 9] ^= 0x40;
            std::fs::write(&path, bad).expect("write");
            load(&path).expect("load").map(|slot| slot.end)
        });
        assert!(ends == [Some(200), Some(300)] || ends == [Some(300), Some(200)], "{ends:?}");
        std::fs::write(&path, &good[..10]).expect("write");
        assert_eq!(load(&path).expect("load"), None);
    }
}
