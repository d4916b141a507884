//! Where packed pieces of the books rest outside of memory. What is in an attic is worth nothing without the log, which has
//! it all. The node gives each store one (a scratch file); without one, pieces stay in memory.
//!
//! An image of the books (`image`) names pieces by their places instead of repeating them, so what an image may name is
//! kept until a newer one is durable (`Kept`).

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shelf::WorkLimits;

/// Where a piece is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Where, as the attic knows it.
    pub at: u64,
    /// Chosen anew for every piece: another piece that was put there since is not taken for this one.
    pub mark: u64,
}

/// A place for packed pieces. Pieces are never changed, only put, read and freed.
pub trait Attic: Send + Sync + fmt::Debug {
    /// Takes a piece in and says where it is; `None` if there is no room, and then it stays in memory.
    fn put(&self, piece: &[u8]) -> Option<Place>;

    /// Reads a piece.
    ///
    /// # Errors
    /// It cannot be read, or is not what was put.
    fn get(&self, place: Place) -> Result<Vec<u8>, String>;

    /// Forgets a piece; its place may be used again.
    fn free(&self, place: Place);

    /// Takes over a piece that an image names: whoever claims it frees it.
    ///
    /// # Errors
    /// There is no such place.
    fn claim(&self, place: Place) -> Result<(), String>;

    /// Whether images name its pieces.
    fn makes_images(&self) -> bool {
        false
    }

    /// What was freed and is kept because the last image may name it.
    fn take_freed(&self) -> Vec<Place> {
        Vec::new()
    }

    /// Such pieces again: to be forgotten now, or with the next image.
    fn give_back(&self, freed: Vec<Place>, forget: bool) {
        let _ = (freed, forget);
    }
}

/// How much of the books stays unpacked in memory, and where the rest goes.
#[derive(Clone, Debug, Default)]
pub struct Workroom {
    /// How much stays unpacked.
    pub limits: WorkLimits,
    /// Where packed pieces go; `None`: they stay in memory.
    pub attic: Option<Arc<dyn Attic>>,
}

impl Workroom {
    /// Whether images name the pieces of its attic.
    pub(crate) fn makes_images(&self) -> bool {
        self.attic.as_ref().is_some_and(|attic| attic.makes_images())
    }

    /// The same for a node that has no other store.
    #[must_use]
    pub fn of_one_store(self) -> Self {
        Self { limits: WorkLimits::ONE_STORE, ..self }
    }

    /// The room of one store, whose images name pieces of the attic: what is freed stays until the next image.
    #[must_use]
    pub fn with_images(&self) -> Self {
        let kept = |attic: &Arc<dyn Attic>| {
            Arc::new(Kept { attic: Arc::clone(attic), freed: Mutex::default() }) as Arc<dyn Attic>
        };
        Self { limits: self.limits, attic: self.attic.as_ref().map(kept) }
    }
}

/// An attic of which freed pieces are kept until an image that does not name them is durable.
#[derive(Debug)]
struct Kept {
    attic: Arc<dyn Attic>,
    freed: Mutex<Vec<Place>>,
}

impl Kept {
    fn freed(&self) -> MutexGuard<'_, Vec<Place>> {
        self.freed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attic for Kept {
    fn put(&self, piece: &[u8]) -> Option<Place> {
        self.attic.put(piece)
    }

    fn get(&self, place: Place) -> Result<Vec<u8>, String> {
        self.attic.get(place)
    }

    fn free(&self, place: Place) {
        self.freed().push(place);
    }

    fn claim(&self, place: Place) -> Result<(), String> {
        self.attic.claim(place)
    }

    fn makes_images(&self) -> bool {
        true
    }

    fn take_freed(&self) -> Vec<Place> {
        std::mem::take(&mut *self.freed())
    }

    fn give_back(&self, freed: Vec<Place>, forget: bool) {
        if forget {
            freed.into_iter().for_each(|place| self.attic.free(place));
        } else {
            self.freed().extend(freed);
        }
    }
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
    place: Place,
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
        match self.read() {
            Ok(bytes) => bytes,
            Err(reason) => panic!("a packed piece of the books cannot be read back: {reason}"),
        }
    }

    /// The piece as it was put, or why it cannot be read.
    pub(crate) fn read(&self) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Self::Here(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::Away(piece) => piece.attic.get(piece.place).map(Cow::Owned),
        }
    }
}

/// A piece as an image has it.
#[derive(Serialize, Deserialize)]
enum Named<B> {
    Here(B),
    Away(Place),
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Here(bytes) => Named::Here(&**bytes).serialize(to),
            Self::Away(piece) => Named::<&[u8]>::Away(piece.place).serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let place = match Named::<Box<[u8]>>::deserialize(from)? {
            Named::Here(bytes) => return Ok(Self::Here(bytes)),
            Named::Away(place) => place,
        };
        let attic = room_of_image::<D>()?.attic.ok_or_else(|| D::Error::custom("its attic is not here"))?;
        attic.claim(place).map_err(D::Error::custom)?;
        Ok(Self::Away(Arc::new(Piece { attic, place })))
    }
}

thread_local! {
    /// The room into which this thread reads an image: serde hands nothing down to what is inside.
    static ROOM: RefCell<Option<Workroom>> = const { RefCell::new(None) };
}

/// Reads an image whose pieces are in the attic of a room.
pub(crate) fn in_room<T>(room: &Workroom, read: impl FnOnce() -> T) -> T {
    ROOM.replace(Some(room.clone()));
    let done = read();
    ROOM.take();
    done
}

/// The room into which an image is read.
pub(crate) fn room_of_image<'de, D: Deserializer<'de>>() -> Result<Workroom, D::Error> {
    ROOM.with_borrow(Clone::clone).ok_or_else(|| D::Error::custom("it is read outside of a room"))
}

/// An attic in memory, for finding out whether what is put away is ever missed: it refuses a part of what it is given,
/// and never gives what was freed.
#[derive(Debug, Default)]
pub struct MemoryAttic(Mutex<Shelved>);

#[derive(Debug, Default)]
struct Shelved {
    offered: u64,
    /// Bytes, and by how many they were claimed.
    pieces: BTreeMap<u64, (Vec<u8>, u32)>,
}

/// One piece in so many is refused by [`MemoryAttic`].
const REFUSED_OF: u64 = 8;

impl MemoryAttic {
    /// How many pieces are in it.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.inside().pieces.len()
    }

    /// As after a restart of the process: of what is in it, what [`MemoryAttic::settle`] finds claimed stays.
    pub fn restart(&self) {
        self.inside().pieces.values_mut().for_each(|piece| piece.1 = 0);
    }

    /// Forgets what nobody has claimed since the restart.
    pub fn settle(&self) {
        self.inside().pieces.retain(|_, piece| piece.1 > 0);
    }

    fn inside(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attic for MemoryAttic {
    fn put(&self, piece: &[u8]) -> Option<Place> {
        let mut inside = self.inside();
        inside.offered += 1;
        let at = inside.offered;
        if at.is_multiple_of(REFUSED_OF) {
            return None;
        }
        inside.pieces.insert(at, (piece.to_vec(), 1));
        Some(Place { at, mark: at })
    }

    fn get(&self, place: Place) -> Result<Vec<u8>, String> {
        let inside = self.inside();
        let piece = inside.pieces.get(&place.at).map(|piece| piece.0.clone());
        piece.ok_or_else(|| format!("nothing is at {}", place.at))
    }

    fn free(&self, place: Place) {
        let mut inside = self.inside();
        let piece = inside.pieces.get_mut(&place.at);
        debug_assert!(piece.is_some(), "piece {} was freed twice", place.at);
        if let Some(piece) = piece {
            piece.1 -= 1;
            if piece.1 == 0 {
                inside.pieces.remove(&place.at);
            }
        }
    }

    fn claim(&self, place: Place) -> Result<(), String> {
        let mut inside = self.inside();
        let piece = inside.pieces.get_mut(&place.at).filter(|_| place.at == place.mark);
        piece.ok_or_else(|| format!("nothing is at {}", place.at))?.1 += 1;
        Ok(())
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
