//! When a delivery that failed is tried again. Pure: chance comes as an argument.

use std::time::Duration;

/// The shortest pause, and the longest.
const SHORTEST: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(600);
/// Failing for so long is an alarm.
pub(super) const ALARM_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// The pause after so many failures in a row: twice as long each time, of which up to a quarter is left off by chance so that
/// receivers that come back are not met by all at once. Never shorter than the receiver asked for, if that is within reason.
pub(super) fn pause(failures: u32, chance: u32, asked: Option<Duration>) -> Duration {
    let doubled = SHORTEST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let whole = doubled.min(LONGEST);
    let quarter_ms = u32::try_from(whole.as_millis() / 4).unwrap_or(u32::MAX);
    let left_off = Duration::from_millis(u64::from(chance % quarter_ms.max(1)));
    (whole - left_off).max(asked.unwrap_or_default()).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_a_second_to_ten_minutes() {
        let longest: Vec<u64> = (1..=12).map(|failures| pause(failures, 0, None).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        for failures in [0, 1, 2, 7, 11, 32, 33, 34, u32::MAX] {
            let whole = pause(failures, 0, None);
            for chance in [1, 249, 250, 12_345, 149_999, u32::MAX] {
                let pause = pause(failures, chance, None);
                assert!(pause >= SHORTEST && pause <= LONGEST, "{failures} {chance}: {pause:?}");
                assert!(pause <= whole && pause * 4 >= whole * 3, "{failures} {chance}: {pause:?}");
            }
        }
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause_within_reason() {
        let asked = |seconds| pause(1, 0, Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!([asked(0), asked(30), asked(86_400)], [1, 30, 600]);
        assert_eq!(pause(7, 0, Some(Duration::from_secs(30))).as_secs(), 64);
    }
}
