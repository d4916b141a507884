//! What a writer shares with the door, whichever room it writes to: the queue, why everything is refused if it is, what
//! can be read, and how jobs are answered. It writes nothing.

use super::Position;
use super::StorageError;
use super::queue::{Job, Queue};
use super::reading::Reading;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// Why the store refuses everything, once it does.
pub(super) type Poison = OnceLock<String>;

/// What the writer shares with the door.
pub(super) struct Shared {
    pub(super) queue: Queue,
    pub(super) poison: Poison,
    /// Nothing new should be taken in: the reserve cannot be left free, or the database has been away for a while.
    pub(super) full: AtomicBool,
    /// Bytes that are set aside behind the end of the log, the reserve included.
    pub(super) room: AtomicU64,
    /// Bytes of it that will be needed for what was taken in.
    pub(super) owed: AtomicUsize,
    pub(super) reading: Reading,
    /// Why the database is not there, while it is not.
    pub(super) away: Mutex<Option<String>>,
    /// Until when a writer that is to stop waits for a database that is away.
    pub(super) wait_until: Mutex<Option<Instant>>,
    /// Held as long as the writer or the door lives: one process a folder.
    pub(super) _lock: File,
}

impl Shared {
    pub(super) fn new(reading: Reading, lock: File) -> Self {
        Shared {
            queue: Queue::default(),
            poison: Poison::new(),
            full: AtomicBool::new(false),
            room: AtomicU64::new(0),
            owed: AtomicUsize::new(0),
            reading,
            away: Mutex::default(),
            wait_until: Mutex::default(),
            _lock: lock,
        }
    }

    pub(super) fn usable(&self) -> Result<(), StorageError> {
        match self.poison.get() {
            Some(reason) => Err(StorageError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Refuses everything from now on. The first reason is the one that explains the others.
    pub(super) fn poison(&self, error: &StorageError) {
        let _ = self.poison.set(error.to_string());
    }

    pub(super) fn refusal(&self) -> StorageError {
        StorageError::Poisoned { reason: self.poison.get().cloned().unwrap_or_default() }
    }

    pub(super) fn away(&self) -> Option<String> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A callback that panics is its owner's bug; it must not take the writer along.
pub(super) fn answer(job: Job, result: Result<Vec<Position>, StorageError>) {
    let _ = catch_unwind(AssertUnwindSafe(|| (job.done)(result)));
}

pub(super) fn refuse(jobs: Vec<Job>, error: &StorageError) {
    for job in jobs {
        answer(job, Err(error.clone()));
    }
}

/// Answers everybody if the writer thread dies of a bug of ours, so that nobody waits for ever.
pub(super) struct Alarm<'a>(pub(super) &'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.poison.set("the writer thread panicked; please report this".to_string());
        }
        let left = self.0.queue.abandon();
        refuse(left, &self.0.usable().err().unwrap_or(StorageError::Closed { operation: "append" }));
    }
}
