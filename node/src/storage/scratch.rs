//! The scratch file: where the packed parts of the books rest while a node runs. It has no name in the directory, is
//! gone when the process ends, and is encrypted under a key that never leaves the process: whoever finds its blocks
//! finds noise, and a block that the disk bent is noticed. Nothing in it is worth keeping: the log has it all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, Role, read_at};
use super::vault::cipher::{Cipher, NONCE_BYTES, TAG_BYTES};
use super::{StorageError, private};

/// Pieces begin and end at such steps, so that the place of one can be used for another.
const STEP_BYTES: u64 = 256;
/// A place is its first step, and how many there are in so many low bits.
const STEPS_BITS: u32 = 20;
/// What sealing adds to a piece.
const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// An unnamed file of pieces.
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
}

impl Room {
    fn take(&mut self, steps: u64) -> u64 {
        if let Some(first) = self.free.get_mut(&steps).and_then(Vec::pop) {
            return first;
        }
        let first = self.end;
        self.end += steps;
        first
    }

    fn give_back(&mut self, first: u64, steps: u64) {
        self.free.entry(steps).or_default().push(first);
    }
}

fn split(place: u64) -> (u64, u64) {
    (place >> STEPS_BITS, place & ((1 << STEPS_BITS) - 1))
}

impl Scratch {
    /// Makes the file in a node's directory.
    ///
    /// # Errors
    /// It cannot be made there: what would rest in it stays in memory.
    pub fn create(dir: &Path) -> Result<Self, StorageError> {
        Self::on(Disk::default(), dir)
    }

    pub(super) fn on(disk: Disk, dir: &Path) -> Result<Self, StorageError> {
        let path = dir.join("scratch");
        let make = || {
            // A process that was killed between the next two calls left it.
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = private::options().read(true).write(true).create_new(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        };
        let file = make().map_err(|error| StorageError::io("creating", &path, &error))?;
        let cipher = Cipher::new(&rand::random());
        Ok(Self { file, disk, cipher, room: Mutex::default(), full: AtomicBool::new(false) })
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece in and says where it is; `None` if the disk takes no more.
    pub fn put(&self, piece: &[u8]) -> Option<u64> {
        let sealed_len = piece.len() + SEAL_BYTES + 4;
        let steps = (sealed_len as u64).div_ceil(STEP_BYTES);
        if steps >= 1 << STEPS_BITS {
            return None;
        }
        let first = self.room().take(steps);
        let place = first << STEPS_BITS | steps;
        let mut bytes = u32::try_from(piece.len()).ok()?.to_le_bytes().to_vec();
        bytes.extend(self.cipher.seal(&place.to_le_bytes(), piece));
        match self.disk.write_at(Role::Scratch, &self.file, &bytes, first * STEP_BYTES) {
            Ok(()) => {
                self.full.store(false, Ordering::Relaxed);
                Some(place)
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

    /// Reads a piece.
    ///
    /// # Errors
    /// It cannot be read, or is not what was put there.
    pub fn get(&self, place: u64) -> Result<Vec<u8>, String> {
        let (first, steps) = split(place);
        let mut bytes = vec![0; usize::try_from(steps * STEP_BYTES).map_err(|error| error.to_string())?];
        let read = read_at(&self.file, &mut bytes, first * STEP_BYTES);
        let read = read.map_err(|error| format!("reading the scratch file: {error}"))?;
        let sealed = || {
            let (len, rest) = bytes.get(..read)?.split_first_chunk::<4>()?;
            let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
            self.cipher.open(&place.to_le_bytes(), rest.get(..len + SEAL_BYTES)?)
        };
        sealed().ok_or_else(|| {
            "the scratch file holds something else than was put there: is its disk sound?".into()
        })
    }

    /// Forgets a piece; its place may be used again.
    pub fn free(&self, place: u64) {
        let (first, steps) = split(place);
        self.room().give_back(first, steps);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::super::disk::{Act, Faults, Verdict};
    use super::*;

    #[test]
    fn pieces_come_back_freed_places_are_used_again_and_the_file_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let pieces: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; usize::from(n) * 97]).collect();
        let places: Vec<u64> = pieces.iter().map(|piece| scratch.put(piece).unwrap()).collect();
        let end = scratch.room().end;
        for round in 0..3 {
            for (piece, place) in pieces.iter().zip(&places) {
                assert_eq!(scratch.get(*place).as_ref(), Ok(piece), "round {round}");
            }
        }
        places[10..20].iter().for_each(|place| scratch.free(*place));
        let again: Vec<u64> = pieces[10..20].iter().map(|piece| scratch.put(piece).unwrap()).collect();
        assert_eq!(scratch.room().end, end, "what was freed is used again");
        for (piece, place) in pieces[10..20].iter().zip(&again) {
            assert_eq!(scratch.get(*place).as_ref(), Ok(piece));
        }
        assert_eq!(scratch.get(places[30]).as_ref(), Ok(&pieces[30]));
    }

    #[test]
    fn its_blocks_show_nothing_and_a_bent_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(dir.path()).unwrap();
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
        fn judge(&self, _: Act) -> Verdict {
            Verdict::Fail(io::ErrorKind::StorageFull)
        }
    }

    #[test]
    fn a_full_disk_takes_nothing_and_costs_no_place() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::on(Disk::new(Some(Arc::new(Full))), dir.path()).unwrap();
        assert_eq!((scratch.put(b"one"), scratch.put(b"two")), (None, None));
        assert_eq!(scratch.room().end, 1);
    }
}
