//! The image of a replica, or of its books: everything that is in memory, as bytes, and of what rests in the attic the names
//! of the pieces. A start reads it instead of filing every record again. It is worth nothing without the log and the
//! attic, and whatever does not fit is refused, never mended.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::attic::{Workroom, in_room};
use crate::codec;

/// Begins an image. Another form of anything that is in one, or another way to judge, gets another number.
const FORM: &[u8; 4] = b"TSi4";
/// Bytes of the hash of what follows.
const HASH_BYTES: usize = 32;
/// Memory that reading an image may claim.
const LIMIT: usize = 1 << 30;

/// Why an image cannot be used: read the log instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint does not fit ({0}); everything is read from the log")]
pub struct Stale(pub(crate) String);

impl Stale {
    /// The log does not have the last entry that the image holds.
    #[must_use]
    pub fn of_another_log() -> Self {
        Self("the log does not have the entry that it ends with".to_owned())
    }
}

/// The bytes of an image.
#[must_use]
pub fn write<T: Serialize>(held: &T) -> Vec<u8> {
    frame(&codec::encode(held))
}

/// Form and hash before what is encoded.
#[must_use]
pub fn frame(body: &[u8]) -> Vec<u8> {
    [FORM, &blake3::hash(body).as_bytes()[..], body].concat()
}

/// What bytes are the image of; its pieces are taken over from the attic of a room.
///
/// # Errors
/// They are of another form, or damaged, or the attic does not have the pieces.
pub fn read<T: DeserializeOwned>(bytes: &[u8], room: &Workroom) -> Result<T, Stale> {
    let body = bytes.strip_prefix(FORM).ok_or_else(|| Stale("it has another form".to_owned()))?;
    let (hash, body) =
        body.split_first_chunk::<HASH_BYTES>().ok_or_else(|| Stale("it is cut off".to_owned()))?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(Stale("it is not what was written".to_owned()));
    }
    in_room(room, || codec::decode::<T, LIMIT>(body)).map_err(|error| Stale(error.to_string()))
}
