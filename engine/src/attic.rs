//! Where packed pieces of the books rest outside of memory. What is in an attic is worth nothing to anybody else and
//! nothing after a restart: the log has it all. The node gives each store one (a scratch file); without one, pieces
//! stay in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::shelf::WorkLimits;

/// A place for packed pieces. Pieces are never changed, only put, read and freed.
pub trait Attic: Send + Sync + fmt::Debug {
    /// Takes a piece in and says where it is; `None` if there is no room, and then it stays in memory.
    fn put(&self, piece: &[u8]) -> Option<u64>;

    /// Reads a piece.
    ///
    /// # Errors
    /// It cannot be read, or is not what was put.
    fn get(&self, place: u64) -> Result<Vec<u8>, String>;

    /// Forgets a piece; its place may be used again.
    fn free(&self, place: u64);
}

/// How much of the books stays unpacked in memory, and where the rest goes.
#[derive(Clone, Debug, Default)]
pub struct Workroom {
    /// How much stays unpacked.
    pub limits: WorkLimits,
    /// Where packed pieces go; `None`: they stay in memory.
    pub attic: Option<Arc<dyn Attic>>,
}

/// A packed piece.
#[derive(Clone, Debug)]
pub(crate) enum Packed {
    Here(Box<[u8]>),
    Away(Arc<Piece>),
}

/// A piece in an attic, freed when nobody has it any more.
#[derive(Debug)]
pub(crate) struct Piece {
    attic: Arc<dyn Attic>,
    place: u64,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.attic.free(self.place);
    }
}

impl Packed {
    /// Puts a piece away, as far as there is an attic with room.
    pub(crate) fn put(room: &Workroom, bytes: Vec<u8>) -> Self {
        let away = room.attic.as_ref().and_then(|attic| Some((attic, attic.put(&bytes)?)));
        match away {
            Some((attic, place)) => Self::Away(Arc::new(Piece { attic: Arc::clone(attic), place })),
            None => Self::Here(bytes.into()),
        }
    }

    /// The piece as it was put.
    ///
    /// # Panics
    /// The attic has lost it. The books cannot go on without it; who runs the store reads it again from its log.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Here(bytes) => Cow::Borrowed(bytes),
            Self::Away(piece) => match piece.attic.get(piece.place) {
                Ok(bytes) => Cow::Owned(bytes),
                Err(reason) => panic!("a packed piece of the books cannot be read back: {reason}"),
            },
        }
    }
}

/// An attic in memory, for finding out whether what is put away is ever missed: it refuses a part of what it is given,
/// and never gives what was freed.
#[derive(Debug, Default)]
pub struct MemoryAttic(Mutex<Shelved>);

#[derive(Debug, Default)]
struct Shelved {
    offered: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
}

/// One piece in so many is refused by [`MemoryAttic`].
const REFUSED_OF: u64 = 8;

impl MemoryAttic {
    /// How many pieces are in it.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.inside().pieces.len()
    }

    fn inside(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attic for MemoryAttic {
    fn put(&self, piece: &[u8]) -> Option<u64> {
        let mut inside = self.inside();
        inside.offered += 1;
        let place = inside.offered;
        if place.is_multiple_of(REFUSED_OF) {
            return None;
        }
        inside.pieces.insert(place, piece.to_vec());
        Some(place)
    }

    fn get(&self, place: u64) -> Result<Vec<u8>, String> {
        self.inside().pieces.get(&place).cloned().ok_or_else(|| format!("nothing is at {place}"))
    }

    fn free(&self, place: u64) {
        let freed = self.inside().pieces.remove(&place);
        debug_assert!(freed.is_some(), "piece {place} was freed twice");
    }
}

impl Workroom {
    /// Everything that can be is packed and put away, and little is judged at once: what the simulator and the tests
    /// run with.
    #[must_use]
    pub fn tightest() -> Self {
        Self { limits: WorkLimits::TIGHTEST, attic: Some(Arc::new(MemoryAttic::default())) }
    }
}
