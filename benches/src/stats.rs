//! Times and what is said of them: percentiles within a round, medians with the range over rounds. Integers only:
//! nanoseconds, records a second, ratios in hundredths.

use std::time::Duration;

/// Times of one kind of thing in one round, ns.
#[derive(Debug, Default)]
pub struct Samples(Vec<u64>);

impl Samples {
    /// One more.
    pub fn push(&mut self, took: Duration) {
        self.0.push(nanos(took));
    }

    /// What they say, if `count` things took `took` altogether.
    #[must_use]
    pub fn measure(mut self, count: usize, took: Duration) -> Measure {
        self.0.sort_unstable();
        Measure {
            p50_ns: Some(self.permille(500)),
            p99_ns: Some(self.permille(990)),
            rate: Some(per_second(count, took)),
            bytes_tenths: None,
        }
    }

    /// Whether nothing was timed.
    #[cfg(feature = "peers")]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As [`Samples::measure`] where the rate says nothing.
    #[must_use]
    pub fn latency(self) -> Measure {
        Measure { rate: None, ..self.measure(0, Duration::ZERO) }
    }

    /// Nearest rank.
    fn permille(&self, permille: usize) -> u64 {
        let rank = (self.0.len() * permille).div_ceil(1_000).max(1);
        self.0.get(rank - 1).copied().unwrap_or(0)
    }
}

impl Extend<u64> for Samples {
    fn extend<T: IntoIterator<Item = u64>>(&mut self, more: T) {
        self.0.extend(more);
    }
}

/// What a round says of a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measure {
    /// Median time of one, ns.
    pub p50_ns: Option<u64>,
    /// 99th percentile, ns.
    pub p99_ns: Option<u64>,
    /// How many a second.
    pub rate: Option<u64>,
    /// Tenths of a byte for one.
    pub bytes_tenths: Option<u64>,
}

impl Measure {
    /// A single time that `count` things took together.
    #[must_use]
    pub fn whole(count: usize, took: Duration) -> Self {
        Self { p50_ns: Some(nanos(took)), rate: Some(per_second(count, took)), ..Self::default() }
    }

    /// Bytes that `count` things took together.
    #[must_use]
    pub fn bytes(count: usize, bytes: u64) -> Self {
        let tenths = u128::from(bytes) * 10 / count.max(1) as u128;
        Self { bytes_tenths: u64::try_from(tenths).ok(), ..Self::default() }
    }

    /// A single time.
    #[must_use]
    pub fn once(took: Duration) -> Self {
        Self { p50_ns: Some(nanos(took)), ..Self::default() }
    }
}

/// Nanoseconds; enough for 584 years.
#[must_use]
pub fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// Things a second.
#[must_use]
pub fn per_second(count: usize, took: Duration) -> u64 {
    u64::try_from(count as u128 * 1_000_000_000 / took.as_nanos().max(1)).unwrap_or(u64::MAX)
}

/// Median, smallest and largest over rounds; `None` if there are none.
#[must_use]
pub fn spread(rounds: impl Iterator<Item = u64>) -> Option<[u64; 3]> {
    let mut sorted: Vec<u64> = rounds.collect();
    sorted.sort_unstable();
    let (first, last) = (*sorted.first()?, *sorted.last()?);
    Some([sorted[sorted.len() / 2], first, last])
}

/// `a / b` as "1.23", as "0.012" below a tenth.
#[must_use]
pub fn ratio(a: u64, b: u64) -> String {
    let parts = |of: u128| (u128::from(a) * of + u128::from(b) / 2) / u128::from(b.max(1));
    if parts(1_000) < 100 {
        return format!("0.{:03}", parts(1_000));
    }
    format!("{}.{:02}", parts(100) / 100, parts(100) % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut samples = Samples::default();
        samples.extend((1..=100).rev());
        let measure = samples.measure(100, Duration::from_millis(10));
        assert_eq!((measure.p50_ns, measure.p99_ns, measure.rate), (Some(50), Some(99), Some(10_000)));
    }

    #[test]
    fn ratios_are_rounded_to_hundredths() {
        let cases = [
            (1, 3, "0.33"),
            (2, 3, "0.67"),
            (3, 1, "3.00"),
            (0, 5, "0.000"),
            (3, 200, "0.015"),
            (1, 0, "1.00"),
        ];
        for (a, b, want) in cases {
            assert_eq!(ratio(a, b), want);
        }
    }

    #[test]
    fn a_spread_is_median_smallest_largest() {
        assert_eq!(spread([9, 1, 5].into_iter()), Some([5, 1, 9]));
        assert_eq!(spread(std::iter::empty()), None);
    }
}
