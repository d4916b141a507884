//! How far behind the hub's books are: how old each record of a till was when it reached the hub, and how long the hub
//! took to catch up after an outage. Reads the hub's replica at the end of a run; whole milliseconds only.

use engine::kpi::Sample;
use engine::replica::{KpiRange, Replica};
use engine::time::Day;

/// Ages of records when they reached the hub, ms, in rising order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ages {
    /// Of every record.
    pub all_ms: Vec<i64>,
    /// Of those whose till was connected to the hub when it sold.
    pub online_ms: Vec<i64>,
}

/// A few places of a distribution, ms; by nearest rank, so each is an age that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Spread {
    /// How many were measured.
    pub count: u64,
    /// Half are at most so old.
    pub p50_ms: i64,
    /// 95 in a hundred are at most so old.
    pub p95_ms: i64,
    /// The oldest.
    pub max_ms: i64,
}

impl Ages {
    /// The ages of some records.
    #[must_use]
    pub fn of(ways: &[Sample]) -> Self {
        let age_ms = |way: &Sample| way.arrived_ms.saturating_sub(way.committed_ms).max(0);
        let mut ages = Self {
            all_ms: ways.iter().map(age_ms).collect(),
            online_ms: ways.iter().filter(|way| !way.offline).map(age_ms).collect(),
        };
        ages.all_ms.sort_unstable();
        ages.online_ms.sort_unstable();
        ages
    }

    /// These and those of another run.
    pub fn add(&mut self, other: &Self) {
        self.all_ms.extend(&other.all_ms);
        self.online_ms.extend(&other.online_ms);
        self.all_ms.sort_unstable();
        self.online_ms.sort_unstable();
    }
}

impl Spread {
    /// Of ages in rising order.
    #[must_use]
    pub fn of(sorted_ms: &[i64]) -> Self {
        let rank = |percent: usize| {
            let at = (sorted_ms.len() * percent).div_ceil(100).max(1) - 1;
            sorted_ms.get(at).copied().unwrap_or(0)
        };
        Self {
            count: sorted_ms.len() as u64,
            p50_ms: rank(50),
            p95_ms: rank(95),
            max_ms: sorted_ms.last().copied().unwrap_or(0),
        }
    }
}

/// The way of every record of a till that the hub holds, on the hub's clock as far as it knows the till's.
#[must_use]
pub fn ways(hub: &Replica, now_ms: i64) -> Vec<Sample> {
    // Nobody asks here when a nightly batch would have come.
    let never = |_: i64| i64::MAX;
    let days = hub.kpi_days((Day(i32::MIN), Day(i32::MAX)));
    days.into_iter()
        .flat_map(|day| hub.kpi_samples(&KpiRange { day, now_ms, next_batch: &never }).0)
        .collect()
}

/// Batches of tills that the hub holds.
#[must_use]
pub fn batches(hub: &Replica) -> u64 {
    let own = hub.identity().hub;
    hub.batch_metas(0).filter(|meta| meta.writer != own).count() as u64
}

/// How long after an outage the last of what had been sold before its end arrived, ms; 0: nothing had waited.
#[must_use]
pub fn drained_ms(ways: &[Sample], ended_ms: i64) -> i64 {
    let waited = ways.iter().filter(|way| way.committed_ms <= ended_ms && way.arrived_ms > ended_ms);
    waited.map(|way| way.arrived_ms - ended_ms).max().unwrap_or(0)
}
