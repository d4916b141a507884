//! The three KPIs of LEDGER-RULES section 15 as numbers with their denominators: how late data is (against a nightly
//! batch), how often books and control totals differ, how much of what tills committed was captured. Integers only;
//! it reckons over samples and knows neither replica nor clock.

use crate::money::Currency;
use crate::time::Day;

/// A record's way into the books, ms since 1970 by the hub's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When the till committed it, corrected by the clock's offset.
    pub committed_ms: i64,
    /// The latest coming of the link before it arrived, if the record had waited for that.
    pub link_up_ms: Option<i64>,
    /// When the hub took it in.
    pub arrived_ms: i64,
    /// When it was in the books.
    pub posted_ms: i64,
    /// When a nightly batch would have brought it.
    pub batch_ms: i64,
    /// Whether the till had no link when it committed it.
    pub offline: bool,
}

/// What is told of many durations, ms. All zero where there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// The middle one.
    pub p50_ms: i64,
    /// 95 in 100 are at most this.
    pub p95_ms: i64,
    /// 99 in 100 are at most this.
    pub p99_ms: i64,
    /// The longest.
    pub max_ms: i64,
    /// Their mean.
    pub mean_ms: i64,
}

impl Spread {
    /// The spread of durations.
    #[must_use]
    pub fn of(mut durations: Vec<i64>) -> Self {
        durations.sort_unstable();
        let count = durations.len();
        if count == 0 {
            return Self::default();
        }
        // The nearest rank: the smallest that so many in 100 do not exceed.
        let rank = |hundredths: usize| durations[(count * hundredths).div_ceil(100).max(1) - 1];
        let sum: i128 = durations.iter().map(|ms| i128::from(*ms)).sum();
        let mean = sum / i128::try_from(count).unwrap_or(1);
        Self {
            count: count as u64,
            p50_ms: rank(50),
            p95_ms: rank(95),
            p99_ms: rank(99),
            max_ms: durations[count - 1],
            mean_ms: i64::try_from(mean).unwrap_or(i64::MAX),
        }
    }
}

/// How late records are, against a nightly batch over the same records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Latency {
    /// From commit at the till to the books.
    pub latency: Spread,
    /// Of it: waiting for the link.
    pub waiting: Spread,
    /// Of it: from there to the hub.
    pub transfer: Spread,
    /// Of it: from there into the books.
    pub projection: Spread,
    /// From commit to the first nightly batch that could have carried it.
    pub batch: Spread,
    /// 1 − median latency / median batch, in millionths; `None` without records.
    pub reduction_ppm: Option<i64>,
}

impl Latency {
    /// Over samples.
    #[must_use]
    pub fn of(samples: &[&Sample]) -> Self {
        let spread =
            |duration: fn(&Sample) -> i64| Spread::of(samples.iter().map(|it| duration(it)).collect());
        let latency = spread(|it| (it.posted_ms - it.committed_ms).max(0));
        let batch = spread(|it| (it.batch_ms - it.committed_ms).max(0));
        let reduction = (batch.p50_ms > 0).then(|| {
            let share = i128::from(latency.p50_ms) * 1_000_000 / i128::from(batch.p50_ms);
            1_000_000 - i64::try_from(share).unwrap_or(i64::MAX)
        });
        Self {
            latency,
            waiting: spread(|it| it.link_up_ms.map_or(0, |up| (up - it.committed_ms).max(0))),
            transfer: spread(|it| {
                let from = it.link_up_ms.map_or(it.committed_ms, |up| up.max(it.committed_ms));
                (it.arrived_ms - from).max(0)
            }),
            projection: spread(|it| (it.posted_ms - it.arrived_ms).max(0)),
            batch,
            reduction_ppm: reduction,
        }
    }
}

/// The product's own promise: how soon after the link came up a queued record was durable at the hub.
#[must_use]
pub fn drain(samples: &[Sample]) -> Spread {
    Spread::of(samples.iter().filter_map(|it| Some((it.arrived_ms - it.link_up_ms?).max(0))).collect())
}

/// How many of the samples were captured within a time of their link (or of their commit, if the link was there).
#[must_use]
pub fn captured_within(samples: &[Sample], ms: i64) -> u64 {
    let waited =
        |it: &Sample| it.arrived_ms - it.link_up_ms.map_or(it.committed_ms, |up| up.max(it.committed_ms));
    samples.iter().filter(|it| waited(it) <= ms).count() as u64
}

/// One figure of a till's day, in the books and in its Z.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cell {
    /// The business day of the Z.
    pub day: Day,
    /// `tender cash`, `tax S`.
    pub name: String,
    /// Its currency.
    pub currency: Currency,
    /// What the till's Z says, minor units.
    pub control_minor: i64,
    /// What the books say.
    pub ledger_minor: i64,
    /// Whether records under review account for the whole difference.
    pub explained: bool,
}

/// Cells compared, and how they came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Reconciliation {
    /// How many were compared.
    pub cells: u64,
    /// Equal.
    pub equal: u64,
    /// Different, and records under review account for all of it.
    pub explained: u64,
    /// Different otherwise: errors.
    pub unexplained: u64,
}

impl Reconciliation {
    /// Counts a cell.
    pub fn count(&mut self, cell: &Cell) {
        self.cells += 1;
        match (cell.control_minor == cell.ledger_minor, cell.explained) {
            (true, _) => self.equal += 1,
            (false, true) => self.explained += 1,
            (false, false) => self.unexplained += 1,
        }
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Self) {
        self.cells += other.cells;
        self.equal += other.equal;
        self.explained += other.explained;
        self.unexplained += other.unexplained;
    }
}

/// What tills committed and what the hub has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Captured {
    /// Distinct numbers known from any source.
    pub committed: u64,
    /// Of them here, posted or held.
    pub captured: u64,
    /// Captured and under review: a figure of workload, not an error.
    pub in_review: u64,
    /// Batches refused as unauthentic since the hub started.
    pub rejected_batches: u64,
}

/// A share in millionths; `None` of nothing.
#[must_use]
pub fn ppm(part: u64, whole: u64) -> Option<u64> {
    let share = (u128::from(part) * 1_000_000).checked_div(u128::from(whole))?;
    u64::try_from(share).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(committed_ms: i64, link_up_ms: Option<i64>, arrived_ms: i64) -> Sample {
        Sample {
            committed_ms,
            link_up_ms,
            arrived_ms,
            posted_ms: arrived_ms + 2,
            batch_ms: committed_ms + 36_000_000,
            offline: link_up_ms.is_some(),
        }
    }

    #[test]
    fn latency_is_split_and_held_against_the_nightly_batch() {
        let samples = [sample(0, None, 8), sample(0, None, 18), sample(0, Some(60_000), 61_000)];
        let latency = Latency::of(&samples.iter().collect::<Vec<_>>());
        assert_eq!((latency.latency.p50_ms, latency.latency.max_ms), (20, 61_002));
        assert_eq!(
            (latency.waiting.max_ms, latency.transfer.max_ms, latency.projection.p50_ms),
            (60_000, 1_000, 2)
        );
        assert_eq!(latency.reduction_ppm, Some(1_000_000));
        assert_eq!(Latency::of(&[]).reduction_ppm, None);
        assert_eq!(drain(&samples).p95_ms, 1_000);
        assert_eq!((captured_within(&samples, 20), captured_within(&samples, 1_000)), (2, 3));
    }

    #[test]
    fn ranks_are_the_nearest_and_shares_of_nothing_are_none() {
        let spread = Spread::of((1..=100).collect());
        assert_eq!((spread.p50_ms, spread.p95_ms, spread.p99_ms, spread.mean_ms), (50, 95, 99, 50));
        assert_eq!(Spread::of(vec![7]).p99_ms, 7);
        assert_eq!((ppm(1, 3), ppm(0, 0)), (Some(333_333), None));
    }
}
