//! What the node measures of itself, and how Prometheus reads it. Counters and histograms count from the start of the
//! process; gauges are asked when somebody scrapes. `text` writes the format, `hub` and `till` say what each role has.
//! Measuring takes an atomic addition and decides nothing.

pub mod hub;
pub mod text;
pub mod till;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::storage::Storage;
use text::Exposition;

/// Most buckets of a histogram.
const BUCKETS_LIMIT: usize = 16;

/// Bounds for what a disk or this process does, in microseconds.
const QUICK_US: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];
/// Bounds for what may wait for a line, in microseconds: 5 ms to a day.
const SLOW_US: &[u64] = &[
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
];

/// How long the disk takes to make an append durable.
pub static FSYNC: Histogram = Histogram::new(QUICK_US);
/// From a transaction's coming to its durable answer.
pub static CAPTURE: Histogram = Histogram::new(QUICK_US);
/// From a receipt's time to the hub's word that it is durable there, waiting for the line included.
pub static ACKNOWLEDGED: Histogram = Histogram::new(SLOW_US);
/// Bytes of frames from and to peers.
pub static RECEIVED_BYTES: Counter = Counter::new();
/// See [`RECEIVED_BYTES`].
pub static SENT_BYTES: Counter = Counter::new();

/// Something that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn sum(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in buckets.
pub struct Histogram {
    bounds_us: &'static [u64],
    buckets: [AtomicU64; BUCKETS_LIMIT],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Bounds rise, and there are fewer than the limit: the last bucket is for what is longer.
    const fn new(bounds_us: &'static [u64]) -> Self {
        assert!(bounds_us.len() < BUCKETS_LIMIT);
        Self { bounds_us, buckets: [const { AtomicU64::new(0) }; BUCKETS_LIMIT], sum_us: AtomicU64::new(0) }
    }

    /// Counts a duration.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = self.bounds_us.partition_point(|bound| *bound < us);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Cumulative counts by bound, in seconds as text; then all of them; then their sum in seconds as text.
    fn read(&self) -> (Vec<(String, u64)>, u64, String) {
        let mut count = 0;
        let mut rows = Vec::new();
        for (bucket, bound) in self.buckets.iter().zip(self.bounds_us) {
            count += bucket.load(Ordering::Relaxed);
            rows.push((seconds(*bound), count));
        }
        count += self.buckets[self.bounds_us.len()].load(Ordering::Relaxed);
        (rows, count, seconds(self.sum_us.load(Ordering::Relaxed)))
    }
}

/// Microseconds as seconds, exactly: `0.0025`.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What both roles measure; `logs`: those that the node has.
fn common(out: &mut Exposition, role: &str, logs: &[&Storage]) {
    let log_bytes: u64 = logs.iter().map(|log| log.log_bytes()).sum();
    let poisoned = logs.iter().any(|log| log.is_poisoned().is_some());
    let full = logs.iter().any(|log| log.is_full());
    let away = logs.iter().any(|log| log.is_away().is_some());
    out.gauge("tillsync_build_info", "The version that runs, always 1.", |put| {
        put(&[("version", env!("CARGO_PKG_VERSION")), ("role", role)], 1);
    });
    out.gauge("tillsync_storage_log_bytes", "Bytes of the node's log.", |put| put(&[], log_bytes.into()));
    out.gauge(
        "tillsync_storage_poisoned",
        "1 if the storage failed and refuses until the node is started again.",
        |put| put(&[], i128::from(poisoned)),
    );
    let help = "1 if the disk is full, or the database has been away for a while: nothing new is taken in.";
    out.gauge("tillsync_storage_full", help, |put| put(&[], i128::from(full)));
    if role == "hub" {
        let help = "1 if the log is in a database and that is away: everything waits for it.";
        out.gauge("tillsync_database_away", help, |put| put(&[], i128::from(away)));
    }
    if let Some(space) = logs.first().and_then(|log| log.space()) {
        out.gauge(
            "tillsync_disk_free_bytes",
            "Free bytes of the disk that holds the node's directory.",
            |put| {
                put(&[], space.free_bytes.into());
            },
        );
        out.gauge("tillsync_disk_size_bytes", "Bytes of the disk that holds the node's directory.", |put| {
            put(&[], space.size_bytes.into());
        });
    }
    out.histogram(
        "tillsync_storage_fsync_duration_seconds",
        "Time the disk takes to make an append durable.",
        &FSYNC,
    );
    out.counter("tillsync_link_received_bytes_total", "Bytes of frames received from peers.", |put| {
        put(&[], RECEIVED_BYTES.sum().into());
    });
    out.counter("tillsync_link_sent_bytes_total", "Bytes of frames sent to peers.", |put| {
        put(&[], SENT_BYTES.sum().into());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_on_a_bound_is_within_it_and_buckets_add_up() {
        static IT: Histogram = Histogram::new(&[1_000, 2_500]);
        for us in [0, 1_000, 1_001, 2_500, 2_501, 9_000_000] {
            IT.observe(Duration::from_micros(us));
        }
        let (rows, count, sum) = IT.read();
        assert_eq!(rows, [("0.001".to_owned(), 2), ("0.0025".to_owned(), 4)]);
        assert_eq!((count, sum.as_str()), (6, "9.007002"));
    }
}
