//! The scratch file: where the packed parts of the books rest. Encrypted under a key of its own, which lies in the index:
//! whoever finds its blocks without the index finds noise, and a block that the disk bent is noticed. It is an extension of
//! memory, never of the log, which has it all: a file without its key, or a key without its file, begins anew.
//!
//! After a restart the images of the stores claim the pieces that they name; what nobody has claimed is free.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::attic::{Attic, Place};

use super::disk::{Disk, Role, read_at};
use super::index::Index;
use super::vault::cipher::{Cipher, NONCE_BYTES, TAG_BYTES};
use super::{StorageError, private};

/// Pieces begin and end at such steps, so that the place of one can be used for another.
const STEP_BYTES: u64 = 256;
/// A place is its first step, and how many there are in so many low bits.
const STEPS_BITS: u32 = 20;
/// What sealing adds to a piece.
const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// Bytes of a piece's length before it.
const LENGTH_BYTES: usize = 4;
/// Where the index keeps the key.
const KEY: &[u8] = b"scratch";

/// A file of pieces.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    disk: Disk,
    cipher: Cipher,
    room: Mutex<Room>,
    /// The last piece did not fit on the disk.
    full: AtomicBool,
}

/// What of the file is free.
#[derive(Debug, Default)]
struct Room {
    /// Steps that were ever used.
    end: u64,
    /// First steps of freed places, by their number of steps.
    free: BTreeMap<u64, Vec<u64>>,
    /// Steps that were there when the file was opened, and the places in them that were claimed, until it is settled.
    found: u64,
    claimed: Vec<(u64, u64)>,
}

impl Room {
    /// The smallest free place that is large enough, or a new one.
    fn take(&mut self, steps: u64) -> u64 {
        let Some((&of, places)) = self.free.range_mut(steps..).next() else {
            let first = self.end;
            self.end += steps;
            return first;
        };
        let first = places.pop().expect("sizes without places are removed");
        if places.is_empty() {
            self.free.remove(&of);
        }
        if of > steps {
            self.give_back(first + steps, of - steps);
        }
        first
    }

    fn give_back(&mut self, first: u64, steps: u64) {
        self.free.entry(steps).or_default().push(first);
    }

    /// What was there and was not claimed is free.
    fn settle(&mut self) {
        let mut claimed = std::mem::take(&mut self.claimed);
        claimed.sort_unstable();
        let mut from = 0;
        for (first, steps) in claimed.into_iter().chain([(self.found, 0)]) {
            if first > from {
                self.give_back(from, first - from);
            }
            from = from.max(first + steps);
        }
        self.found = 0;
    }
}

fn split(at: u64) -> (u64, u64) {
    (at >> STEPS_BITS, at & ((1 << STEPS_BITS) - 1))
}

impl Scratch {
    /// Opens the file of a node's directory, or makes one where none is that fits the index.
    ///
    /// # Errors
    /// It cannot be made there: what would rest in it stays in memory.
    pub fn open(dir: &Path, index: &Index) -> Result<Self, StorageError> {
        let key = index.get(KEY)?.and_then(|key| <[u8; 32]>::try_from(key).ok());
        let found = key.and_then(|key| Self::found(dir, &key));
        if let Some(found) = found {
            return Ok(found);
        }
        let key: [u8; 32] = rand::random();
        let made = Self::create(Disk::default(), dir, &key)?;
        index.put_batch(vec![(KEY.to_vec(), Some(key.to_vec()))], None)?;
        Ok(made)
    }

    /// A file without a name and with a key that nobody keeps, for this life only.
    ///
    /// # Errors
    /// It cannot be made there: what would rest in it stays in memory.
    pub(crate) fn for_now(dir: &Path) -> Result<Self, StorageError> {
        private::make_folder(dir).map_err(|error| StorageError::io("creating the folder", dir, &error))?;
        let made = Self::create(Disk::default(), dir, &rand::random())?;
        let path = dir.join("scratch");
        fs::remove_file(&path).map_err(|error| StorageError::io("unlinking", &path, &error))?;
        Ok(made)
    }

    fn found(dir: &Path, key: &[u8; 32]) -> Option<Self> {
        let file = private::options().read(true).write(true).open(dir.join("scratch")).ok()?;
        let steps = file.metadata().ok()?.len().div_ceil(STEP_BYTES);
        let room = Room { end: steps, found: steps, ..Room::default() };
        Some(Self::over(Disk::default(), file, key, room))
    }

    pub(super) fn create(disk: Disk, dir: &Path, key: &[u8; 32]) -> Result<Self, StorageError> {
        let path = dir.join("scratch");
        let make = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            private::options().read(true).write(true).create_new(true).open(&path)
        };
        let file = make().map_err(|error| StorageError::io("creating", &path, &error))?;
        disk.sync_folder(dir)?;
        Ok(Self::over(disk, file, key, Room::default()))
    }

    fn over(disk: Disk, file: File, key: &[u8; 32], room: Room) -> Self {
        let cipher = Cipher::new(key);
        Self { file, disk, cipher, room: Mutex::new(room), full: AtomicBool::new(false) }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every store has claimed what its image names: the rest is free.
    pub fn settle(&self) {
        self.room().settle();
    }

    /// Makes every piece durable. Before an image that names them is.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&self) -> Result<(), StorageError> {
        let synced = self.disk.sync(Role::Scratch, &self.file);
        synced.map_err(|error| StorageError::io("syncing", Path::new("scratch"), &error))
    }
}

impl Attic for Scratch {
    fn put(&self, piece: &[u8]) -> Option<Place> {
        let sealed_len = piece.len() + SEAL_BYTES + LENGTH_BYTES;
        let steps = (sealed_len as u64).div_ceil(STEP_BYTES);
        if steps >= 1 << STEPS_BITS {
            return None;
        }
        let first = self.room().take(steps);
        let at = first << STEPS_BITS | steps;
        let mut bytes = u32::try_from(piece.len()).ok()?.to_le_bytes().to_vec();
        bytes.extend(self.cipher.seal(&at.to_le_bytes(), piece));
        let mark = mark(&bytes)?;
        match self.disk.write_at(Role::Scratch, &self.file, &bytes, first * STEP_BYTES) {
            Ok(()) => {
                self.full.store(false, Ordering::Relaxed);
                Some(Place { at, mark })
            }
            Err(error) => {
                self.room().give_back(first, steps);
                if !self.full.swap(true, Ordering::Relaxed) {
                    tracing::warn!("the scratch file takes no more, what is packed stays in memory: {error}");
                }
                None
            }
        }
    }

    fn get(&self, place: Place) -> Result<Vec<u8>, String> {
        let (first, steps) = split(place.at);
        let mut bytes = vec![0; usize::try_from(steps * STEP_BYTES).map_err(|error| error.to_string())?];
        let read = read_at(&self.file, &mut bytes, first * STEP_BYTES);
        let read = read.map_err(|error| format!("reading the scratch file: {error}"))?;
        let sealed = || {
            let bytes = bytes.get(..read).filter(|bytes| mark(bytes) == Some(place.mark))?;
            let (len, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            self.cipher.open(&place.at.to_le_bytes(), rest.get(..len.checked_add(SEAL_BYTES)?)?)
        };
        sealed().ok_or_else(|| {
            "the scratch file holds something else than was put there: is its disk sound?".into()
        })
    }

    fn free(&self, place: Place) {
        let (first, steps) = split(place.at);
        self.room().give_back(first, steps);
    }

    fn claim(&self, place: Place) -> Result<(), String> {
        let (first, steps) = split(place.at);
        let mut room = self.room();
        if first.checked_add(steps).is_none_or(|end| end > room.found) {
            return Err("the scratch file ends before a piece of it".to_owned());
        }
        room.claimed.push((first, steps));
        Ok(())
    }
}

/// The beginning of a sealed piece's nonce: chosen anew for every piece.
fn mark(bytes: &[u8]) -> Option<u64> {
    bytes.get(LENGTH_BYTES..LENGTH_BYTES + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::super::disk::{Act, Faults, Verdict};
    use super::super::{Options, Storage};
    use super::*;

    fn storage(dir: &Path) -> Storage {
        Storage::open(dir, &Options::default()).unwrap().0
    }

    #[test]
    fn pieces_come_back_and_freed_places_are_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(Disk::default(), dir.path(), &[7; 32]).unwrap();
        let pieces: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; usize::from(n) * 97]).collect();
        let places: Vec<Place> = pieces.iter().map(|piece| scratch.put(piece).unwrap()).collect();
        let end = scratch.room().end;
        for round in 0..3 {
            for (piece, place) in pieces.iter().zip(&places) {
                assert_eq!(scratch.get(*place).as_ref(), Ok(piece), "round {round}");
            }
        }
        places[10..20].iter().for_each(|place| scratch.free(*place));
        let again: Vec<Place> = pieces[10..20].iter().map(|piece| scratch.put(piece).unwrap()).collect();
        assert_eq!(scratch.room().end, end, "what was freed is used again");
        for (piece, place) in pieces[10..20].iter().zip(&again) {
            assert_eq!(scratch.get(*place).as_ref(), Ok(piece));
        }
        assert_eq!(scratch.get(places[30]).as_ref(), Ok(&pieces[30]));
        assert!(scratch.get(places[10]).is_err(), "another piece is there now");
    }

    #[test]
    fn after_a_restart_claimed_pieces_are_there_and_the_room_of_the_others_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(dir.path(), storage(dir.path()).index()).unwrap();
        let pieces: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; usize::from(n) * 97]).collect();
        let places: Vec<Place> = pieces.iter().map(|piece| scratch.put(piece).unwrap()).collect();
        let end = scratch.room().end;
        drop(scratch);
        let again = Scratch::open(dir.path(), storage(dir.path()).index()).unwrap();
        let odd = |at: &usize| at % 2 == 1;
        (0..40).filter(odd).for_each(|at| again.claim(places[at]).unwrap());
        assert!(again.claim(Place { at: end << STEPS_BITS | 1, mark: 0 }).is_err());
        again.settle();
        let others = (0..40).filter(|at| !odd(at));
        assert!(others.map(|at| again.put(&pieces[at])).all(|place| place.is_some()));
        assert_eq!(again.room().end, end, "there was room for them");
        (0..40).filter(odd).for_each(|at| assert_eq!(again.get(places[at]).as_ref(), Ok(&pieces[at])));
    }

    #[test]
    fn without_its_key_it_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let place = Scratch::open(dir.path(), storage(dir.path()).index()).unwrap().put(b"one").unwrap();
        let other = storage(dir.path());
        other.index().clear().unwrap();
        assert!(Scratch::open(dir.path(), other.index()).unwrap().claim(place).is_err());
    }

    #[test]
    fn its_blocks_show_nothing_and_a_bent_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(Disk::default(), dir.path(), &[7; 32]).unwrap();
        let place = scratch.put(b"one planted receipt").unwrap();
        let mut block = vec![0; 512];
        let read = read_at(&scratch.file, &mut block, 0).unwrap();
        assert!(!block.windows(7).any(|window| window == b"planted"));
        block[read - 1] ^= 1;
        scratch.disk.write_at(Role::Scratch, &scratch.file, &block[..read], 0).unwrap();
        assert!(scratch.get(place).unwrap_err().contains("something else"));
    }

    struct Full;

    impl Faults for Full {
        fn judge(&self, act: Act) -> Verdict {
            match act {
                Act::Write(..) => Verdict::Fail(io::ErrorKind::StorageFull),
                Act::Sync(_) => Verdict::Pass,
            }
        }
    }

    #[test]
    fn a_full_disk_takes_nothing_and_costs_no_place() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(Disk::new(Some(Arc::new(Full))), dir.path(), &[7; 32]).unwrap();
        assert_eq!((scratch.put(b"one"), scratch.put(b"two")), (None, None));
        assert_eq!(scratch.room().end, 1);
    }
}
