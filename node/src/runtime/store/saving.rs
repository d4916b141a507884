//! When a store keeps an image of itself for its next start: behind a bulk, now and then under way, and when it stops.

use std::time::Duration;

use super::super::checkpoint::Taken;
use super::StoreTask;

/// After so many new records what was judged is saved, so that a start after a power cut is fast too.
const CHECKPOINT_RECORDS: usize = 8_192;
/// The same after so many bytes of the log, as long as anything is new: what a start has to look into is bounded, however
/// many stores there are.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// So many are enough when nobody has asked for anything for a while: what a bulk left is saved behind it.
const QUIET_RECORDS: usize = 1_024;
/// As long as they are at least this part of all: an image grows with what the store holds.
const QUIET_PART: usize = 64;
const QUIET: Duration = Duration::from_secs(2);
/// A store that has so many times more than that waits until everything is durable, so that it can be saved.
const OVERDUE: usize = 4;

impl StoreTask {
    /// How long to wait for quiet, if there is something to save then.
    pub(super) fn quiet_in(&self) -> Option<Duration> {
        let enough = QUIET_RECORDS.max(self.saved_records / QUIET_PART);
        (self.records() >= self.saved_records + enough).then_some(QUIET)
    }

    /// Whether an image is to be kept when everything is durable.
    pub(super) fn is_due(&self) -> bool {
        let behind = self.storage.log_bytes().saturating_sub(self.saved_bytes);
        let many = self.records() >= self.saved_records + CHECKPOINT_RECORDS;
        let quiet = self.quiet_in().is_some() && self.last_job.elapsed() >= QUIET;
        many || quiet || behind >= CHECKPOINT_BYTES && self.through > self.saved_through
    }

    /// Whether nothing more is taken in before one is kept.
    pub(super) fn is_overdue(&self) -> bool {
        self.records() >= self.saved_records + OVERDUE * CHECKPOINT_RECORDS && self.host.failed().is_none()
    }

    /// Keeps an image for the next start, on another thread. Without it the next start is slower, nothing else.
    pub(super) async fn write_checkpoint(&mut self) {
        if let Some(keeping) = self.keeping.take() {
            let _ = keeping.await;
        }
        let mut taken = None;
        if self.home.scratch.is_some() && self.host.failed().is_none() && !self.storage.is_full() {
            let (replica, positions) = (self.host.replica_mut(), &mut self.positions);
            taken = Taken::of(self.storage.end(), replica, positions, self.through);
            if taken.is_none() {
                // Something waits to be judged: in a moment.
                return;
            }
        }
        (self.saved_records, self.saved_bytes) = (self.records(), self.storage.log_bytes());
        self.saved_through = self.through;
        let Some(taken) = taken else { return };
        let home = self.home.clone();
        self.keeping = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = taken.keep(&home) {
                tracing::warn!("no checkpoint was written: {error}");
            }
        }));
    }
}
