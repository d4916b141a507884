//! Checkpoints of the books in the index: what was judged need not be judged again at the next start. Worth nothing
//! without the log, and thrown away on any doubt.

use engine::ids::StoreId;
use engine::replica::{Image, Replica};

use crate::storage::{Storage, StorageError};

fn key(store: &StoreId) -> Vec<u8> {
    format!("books/{store}").into_bytes()
}

fn chunk_key(store: &StoreId, chunk: usize) -> Vec<u8> {
    format!("books/{store}/{chunk:08x}").into_bytes()
}

/// What the checkpoints of a store have saved, if the index holds all of it.
#[must_use]
pub fn read(storage: &Storage, store: &StoreId) -> Option<Image> {
    let get = |key: Vec<u8>| storage.index().get(&key).ok().flatten();
    let image = Image::read(&get(key(store))?, |chunk| get(chunk_key(store, chunk)));
    image.inspect_err(|stale| tracing::warn!(%store, "{stale}")).ok()
}

/// Keeps the books of a store as they are judged now. Call when everything judged is durable in the log; while
/// something waits to be judged, nothing is written.
///
/// # Errors
/// The index failed; the log is not touched by that.
pub fn write(storage: &Storage, replica: &mut Replica) -> Result<(), StorageError> {
    let Some(checkpoint) = replica.checkpoint() else { return Ok(()) };
    let store = &replica.identity().store;
    let chunks = checkpoint.chunks.into_iter().map(|(chunk, bytes)| (chunk_key(store, chunk), Some(bytes)));
    let all = chunks.chain([(key(store), Some(checkpoint.shared))]).collect();
    storage.index().put_batch(all, None)?;
    storage.index().checkpoint(storage.end())
}
