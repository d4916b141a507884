//! Checkpoints of the books in the index: what was judged need not be judged again at the next start. Worth nothing
//! without the log, and thrown away on any doubt.

use engine::codec;
use engine::ids::StoreId;
use engine::replica::{Checkpoint, Replica};

use crate::storage::{Storage, StorageError};

/// Memory that decoding a checkpoint may claim.
const DECODE_LIMIT: usize = 1 << 30;

fn key(store: &StoreId) -> Vec<u8> {
    format!("books/{store}").into_bytes()
}

/// The checkpoint of a store, if the index holds one that reads.
#[must_use]
pub fn read(storage: &Storage, store: &StoreId) -> Option<Checkpoint> {
    let bytes = storage.index().get(&key(store)).ok()??;
    codec::decode::<_, DECODE_LIMIT>(&bytes).ok()
}

/// Keeps the books of a store as they are judged now. Call when everything judged is durable in the log.
///
/// # Errors
/// The index failed; the log is not touched by that.
pub fn write(storage: &Storage, replica: &Replica) -> Result<(), StorageError> {
    let bytes = codec::encode(&replica.checkpoint());
    storage.index().put_batch(vec![(key(&replica.identity().store), Some(bytes))], None)?;
    storage.index().checkpoint(storage.end())
}
