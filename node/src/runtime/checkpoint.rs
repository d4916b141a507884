//! Images of stores in the index: a start goes on from there and reads of the log what came after. Worth nothing without the
//! log and the scratch file, and thrown away on any doubt.
//!
//! An image names the last entry of its store that it holds, by position and by hash. A log that does not have that entry there is
//! another one than that of which the image was made (a database that went back to an older state and then on), and the image
//! is refused.

use engine::ids::StoreId;
use engine::image;
use engine::replica::{Image, Replica, Stale};

use super::positions::Positions;
use super::restore::RestoredStore;
use super::workroom::Home;
use crate::storage::{Entry, Index, Position, Scratch, StorageError};

fn key(store: &StoreId) -> Vec<u8> {
    format!("books/{store}").into_bytes()
}

/// Tells an entry of a log from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Print([u8; 32]);

/// Bytes of one.
const PRINT_BYTES: usize = 32;

impl Print {
    /// That of an entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[entry.kind]).update(&entry.bytes);
        Self(*hasher.finalize().as_bytes())
    }
}

/// The image of a store as the index has it.
#[derive(Debug)]
pub struct Saved {
    /// The last entry of the store that it holds, and what that is.
    pub last: (Position, Print),
    bytes: Vec<u8>,
}

impl Saved {
    /// The last image of a store, if the index has one.
    #[must_use]
    pub fn read(index: &Index, store: &StoreId) -> Option<Self> {
        let mut bytes = index.get(&key(store)).ok().flatten()?;
        let (through, rest) = bytes.split_first_chunk::<8>()?;
        let (print, _) = rest.split_first_chunk::<PRINT_BYTES>()?;
        let last = (Position(u64::from_le_bytes(*through)), Print(*print));
        Some(Self { last, bytes: bytes.split_off(8 + PRINT_BYTES) })
    }

    /// Forgets the image of a store.
    pub fn forget(index: &Index, store: &StoreId) {
        // Best effort: one that does not fit is refused again.
        let _ = index.put_batch(vec![(key(store), None)], None);
    }

    /// The store as it was then, made of an empty one.
    ///
    /// # Errors
    /// The image is of another store or build, or its pieces are gone.
    pub fn apply(&self, fresh: RestoredStore) -> Result<RestoredStore, Stale> {
        let (length, rest) = self.bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (positions, replica) = rest.split_at_checked(length).unwrap_or_default();
        let positions = image::read(positions, fresh.replica.room())?;
        let replica = fresh.replica.resume(replica)?;
        let judged = replica.books().len() as u64;
        Ok(RestoredStore { replica, positions, through: self.last.0, judged, told: fresh.told })
    }
}

/// An image that is not kept yet. It says what is so at one moment; what happens meanwhile does not concern it.
pub struct Taken {
    store: StoreId,
    through: Position,
    end: Position,
    positions: Vec<u8>,
    image: Image,
}

impl Taken {
    /// The image of a store as it is now; `through`: its last entry in the log, which ends at `end`. `None` while something waits
    /// to be judged or to be durable, and for a store of which there is nothing.
    pub fn of(
        end: Position,
        replica: &mut Replica,
        positions: &mut Positions,
        through: Position,
    ) -> Option<Self> {
        if through == Position::default() && replica.books().is_empty() {
            return None;
        }
        positions.pack();
        let image = replica.image()?;
        let (store, positions) = (replica.identity().store.clone(), image::write(positions));
        Some(Self { store, through, end, positions, image })
    }

    /// Keeps it. Blocking.
    ///
    /// # Errors
    /// The log's last entry cannot be read, or index or scratch file failed; the log is not touched by that.
    pub fn keep(self, home: &Home) -> Result<(), StorageError> {
        let print = Print::of(&home.storage.read(self.through)?);
        keep_all(vec![(self, print)], home.storage.index(), home.scratch.as_deref())
    }
}

/// Keeps images of stores, each with the print of its last entry. Blocking.
///
/// # Errors
/// Index or scratch file failed.
pub fn keep_all(
    taken: Vec<(Taken, Print)>,
    index: &Index,
    scratch: Option<&Scratch>,
) -> Result<(), StorageError> {
    scratch.map_or(Ok(()), Scratch::sync)?;
    let (mut images, mut end) = (Vec::new(), Position::default());
    for (Taken { store, through, end: at, positions, image }, print) in taken {
        let length = (positions.len() as u64).to_le_bytes();
        let head = [&through.0.to_le_bytes()[..], &print.0, &length].concat();
        let bytes = [head.as_slice(), &positions, &image.bytes].concat();
        index.put_batch(vec![(key(&store), Some(bytes))], None)?;
        images.push(image);
        end = end.max(at);
    }
    index.checkpoint(end)?;
    images.into_iter().for_each(Image::is_durable);
    Ok(())
}
