//! Where a hub keeps what it read along in a log: the index and the scratch file in the folder that the log has here, or, where that
//! cannot be had, a scratch file for this time only and no images.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::ids::StoreId;

use crate::runtime::checkpoint::Saved;
use crate::runtime::reached::Reached;
use crate::storage::vault::Vault;
use crate::storage::{Beside, Index, Position, Scratch, StorageError};

/// Longest that whoever had the folder before is waited for: a writer's last threads, or a reader that is going.
const WAIT: Duration = Duration::from_secs(3);
const WAIT_LOOK: Duration = Duration::from_millis(10);

/// What is kept of a log.
#[derive(Default)]
pub(super) struct Nook {
    beside: Option<Beside>,
    scratch: Option<Arc<Scratch>>,
    /// Nothing is in the scratch file but what is claimed or was put there since.
    settled: bool,
}

impl Nook {
    /// Opens the folder of a log that ends at `end`; `aside` is for a scratch file without one.
    pub(super) fn open(
        folder: Option<&Path>,
        aside: &Path,
        (id, vault): (&[u8; 16], Option<&Vault>),
        end: Position,
        stop: &AtomicBool,
    ) -> Self {
        let since = Instant::now();
        let opened = folder.and_then(|folder| {
            loop {
                match Beside::open(folder, id, vault, end) {
                    Ok(beside) => return Some((folder, beside)),
                    Err(StorageError::InUse { .. })
                        if since.elapsed() < WAIT && !stop.load(Ordering::Acquire) =>
                    {
                        std::thread::sleep(WAIT_LOOK);
                    }
                    Err(error) => {
                        tracing::warn!("no checkpoints are kept of a log that is read along: {error}");
                        return None;
                    }
                }
            }
        });
        if let Some((folder, beside)) = opened {
            match Scratch::open(folder, beside.index()) {
                Ok(scratch) => {
                    return Self { beside: Some(beside), scratch: Some(Arc::new(scratch)), settled: false };
                }
                Err(error) => tracing::warn!("no scratch file beside the log's index: {error}"),
            }
        }
        let scratch = Scratch::for_now(aside)
            .inspect_err(|error| tracing::warn!("no scratch file, so memory follows it: {error}"));
        Self { beside: None, scratch: scratch.ok().map(Arc::new), settled: true }
    }

    pub(super) fn is_open(&self) -> bool {
        self.scratch.is_some()
    }

    /// Where images are kept, if they are.
    pub(super) fn keeps(&self) -> Option<(&Index, &Scratch)> {
        Some((self.beside.as_ref()?.index(), self.scratch.as_deref()?))
    }

    pub(super) fn scratch(&self) -> Option<Arc<Scratch>> {
        self.scratch.clone()
    }

    pub(super) fn reached(&self) -> Option<Reached> {
        Reached::read(self.beside.as_ref()?.index())
    }

    pub(super) fn saved(&self, store: &StoreId) -> Option<Saved> {
        Saved::read(self.beside.as_ref()?.index(), store)
    }

    /// Every store that has an image has claimed what that names.
    pub(super) fn settle(&mut self) {
        if let Some(scratch) = self.scratch.as_ref().filter(|_| !self.settled) {
            scratch.settle();
        }
        self.settled = true;
    }

    /// Forgets everything that is kept, and lets go of the folder; whoever has pieces in it has let go of them. Gives whether it may be
    /// opened again.
    pub(super) fn forget(&mut self) -> bool {
        let forgotten = self.beside.as_ref().is_none_or(|beside| {
            let cleared = beside.index().clear();
            cleared.inspect_err(|error| tracing::warn!("checkpoints could not be forgotten: {error}")).is_ok()
        });
        *self = Self::default();
        forgotten
    }
}
