//! A node's wall clock: true time, off by some, drifting, set wrong by somebody. Nothing here decides; the engine gets
//! what this shows.

use engine::time::Instant;

/// A clock that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeClock {
    /// How far it is ahead of true time, ms.
    pub offset_ms: i64,
    /// How much it gains, ms in a million.
    pub drift_ppm: i64,
    /// Since when it drifts, true ms.
    pub since_ms: i64,
}

impl NodeClock {
    /// What it shows at a true time, ms since 1970; no clock shows a time before.
    #[must_use]
    pub fn shows_ms(&self, true_ms: i64) -> i64 {
        let drifted = (true_ms - self.since_ms).saturating_mul(self.drift_ppm) / 1_000_000;
        true_ms.saturating_add(self.offset_ms).saturating_add(drifted).max(0)
    }

    /// The same as an instant in UTC.
    #[must_use]
    pub fn shows(&self, true_ms: i64) -> Instant {
        Instant::utc(self.shows_ms(true_ms))
    }

    /// Sets it to show a time.
    pub fn set(&mut self, true_ms: i64, shows_ms: i64) {
        *self = Self { offset_ms: shows_ms - true_ms, drift_ppm: 0, since_ms: true_ms };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_drifts_and_never_shows_a_time_before_1970() {
        let clock = NodeClock { offset_ms: 5, drift_ppm: 100, since_ms: 0 };
        assert_eq!(clock.shows_ms(1_000_000), 1_000_105);
        let mut wrong = NodeClock::default();
        wrong.set(1_000, 0);
        assert_eq!((wrong.shows_ms(1_000), wrong.shows_ms(500)), (0, 0));
    }
}
