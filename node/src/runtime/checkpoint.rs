//! Images of stores in the index: a start goes on from there and reads of the log what came after. Worth nothing without the
//! log and the scratch file, and thrown away on any doubt.

use engine::ids::StoreId;
use engine::image;
use engine::replica::{Image, Replica, Stale};

use super::positions::Positions;
use super::restore::RestoredStore;
use super::workroom::Home;
use crate::storage::{Position, Storage, StorageError};

fn key(store: &StoreId) -> Vec<u8> {
    format!("books/{store}").into_bytes()
}

/// The image of a store as the index has it.
#[derive(Debug)]
pub struct Saved {
    /// The last entry of the store that it holds.
    pub through: Position,
    bytes: Vec<u8>,
}

impl Saved {
    /// The last image of a store, if the index has one.
    #[must_use]
    pub fn read(storage: &Storage, store: &StoreId) -> Option<Self> {
        let mut bytes = storage.index().get(&key(store)).ok().flatten()?;
        let (through, _) = bytes.split_first_chunk::<8>()?;
        let through = Position(u64::from_le_bytes(*through));
        Some(Self { through, bytes: bytes.split_off(8) })
    }

    /// Forgets the image of a store.
    pub fn forget(storage: &Storage, store: &StoreId) {
        // Best effort: one that does not fit is refused again.
        let _ = storage.index().put_batch(vec![(key(store), None)], None);
    }

    /// The store as it was then, made of an empty one.
    pub(super) fn apply(&self, fresh: RestoredStore) -> Result<RestoredStore, Stale> {
        let (length, rest) = self.bytes.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (positions, replica) = rest.split_at_checked(length).unwrap_or_default();
        let positions = image::read(positions, fresh.replica.room())?;
        let replica = fresh.replica.resume(replica)?;
        let judged = replica.books().len() as u64;
        Ok(RestoredStore { replica, positions, through: self.through, judged, told: fresh.told })
    }
}

/// An image that is not kept yet. It says what is so at one moment; what happens meanwhile does not concern it.
pub struct Taken {
    store: StoreId,
    end: Position,
    bytes: Vec<u8>,
    image: Image,
}

impl Taken {
    /// The image of a store as it is now; `through`: its last entry in the log. `None` while something waits to be judged
    /// or to be durable.
    pub fn of(
        storage: &Storage,
        replica: &mut Replica,
        positions: &mut Positions,
        through: Position,
    ) -> Option<Self> {
        positions.pack();
        let image = replica.image()?;
        let (store, positions) = (replica.identity().store.clone(), image::write(positions));
        let length = (positions.len() as u64).to_le_bytes();
        let bytes = [&through.0.to_le_bytes(), &length, positions.as_slice(), &image.bytes].concat();
        Some(Self { store, end: storage.end(), bytes, image })
    }

    /// Keeps it. Blocking.
    ///
    /// # Errors
    /// Index or scratch file failed; the log is not touched by that.
    pub fn keep(self, home: &Home) -> Result<(), StorageError> {
        home.scratch.as_ref().map_or(Ok(()), |scratch| scratch.sync())?;
        let index = home.storage.index();
        index.put_batch(vec![(key(&self.store), Some(self.bytes))], None)?;
        index.checkpoint(self.end)?;
        self.image.is_durable();
        Ok(())
    }
}
