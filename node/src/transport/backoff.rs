//! How long to wait before the next dial: full jitter over an exponential ceiling, so that ten thousand tills
//! that lost the same hub do not come back in the same moment. Pure: chance is an argument.

use std::time::Duration;

/// Full-jitter exponential backoff: the n-th wait is uniform in 0 ..= min(longest, first · 2ⁿ).
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempt: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30))
    }
}

impl Backoff {
    /// From `first` (the ceiling of the first wait) to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempt: 0 }
    }

    /// The next wait; `random` is any uniform number.
    pub fn next_wait(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling();
        self.attempt = self.attempt.saturating_add(1);
        // 584 years of nanoseconds fit in a u64; the product of two u64 fits in a u128.
        let span = u128::from(u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX)) + 1;
        Duration::from_nanos(u64::try_from((u128::from(random) * span) >> 64).unwrap_or(u64::MAX))
    }

    /// The longest that the next wait can be.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempt.min(31)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// The next wait is a first one again.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_to_its_limit_and_starts_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.next_wait(u64::MAX).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        for _ in 0..100 {
            assert!(backoff.next_wait(u64::MAX) <= Duration::from_secs(30));
        }
        assert_eq!(backoff.next_wait(0), Duration::ZERO, "full jitter reaches down to nothing");
        backoff.reset();
        assert_eq!(backoff.next_wait(1 << 63), Duration::from_millis(500));
    }
}
