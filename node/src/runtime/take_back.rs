//! A node that was restored from a backup: before it records anything it takes back what its peers hold of its stores.
//!
//! A till waits for the hub; a hub waits, in each store, for one till that has the right to write there. Whoever peers
//! cannot be met starts the node with `--write-at-once`, and what the log forks into is seen as CLONED_TERMINAL.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::replica::Replica;

use crate::backup;
use crate::error::Failure;

/// What the stores of a restored node wait for, together. Clones share it.
#[derive(Clone)]
pub struct TakeBack {
    dir: PathBuf,
    /// Stores that have not met their peers.
    open: Arc<AtomicUsize>,
}

impl TakeBack {
    /// For the stores of a directory; `None` if it was not restored, or has met its peers since.
    ///
    /// # Errors
    /// It is a backup itself, or a restore that was cut off.
    pub fn of(dir: &Path, stores: usize) -> Result<Option<Self>, Failure> {
        let made = Self { dir: dir.to_path_buf(), open: Arc::new(AtomicUsize::new(stores)) };
        Ok(backup::is_restored(dir)?.then_some(made))
    }

    /// Whether a store has taken back what its peers hold.
    pub(super) fn is_done(replica: &Replica) -> bool {
        let hub = replica.identity().hub;
        if replica.writer() != hub {
            return replica.has_all_of(&hub);
        }
        let mut others =
            replica.registry().writers().map(|(writer, _)| writer).filter(|writer| *writer != hub).peekable();
        others.peek().is_none() || others.any(|till| replica.has_all_of(&till))
    }

    /// A store has; the last one ends the waiting for good.
    pub(super) fn done(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1
            && let Err(error) = backup::forget_restored(&self.dir)
        {
            tracing::warn!("the next start waits for the peers again: {error}");
        }
    }
}
