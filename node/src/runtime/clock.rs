//! The wall clock, in the shop's time zone. The only place of the node that reads it for records.

use std::time::{SystemTime, UNIX_EPOCH};

use engine::time::{Day, Instant};
use jiff::tz::TimeZone;

/// A wall clock in a time zone.
#[derive(Clone, Debug)]
pub struct Clock {
    zone: TimeZone,
}

impl Clock {
    /// A clock that shows the time of `zone` (an IANA name such as `Europe/London`).
    ///
    /// # Errors
    /// The name is not known.
    pub fn in_zone(zone: &str) -> Result<Self, String> {
        TimeZone::get(zone)
            .map(|zone| Self { zone })
            .map_err(|_| format!("{zone:?} is not a time zone; give an IANA name such as Europe/London"))
    }

    /// When a day begins by the shop's clock, ms since 1970.
    #[must_use]
    pub fn start_of(&self, day: Day) -> i64 {
        let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(i64::from(day.0)));
        let start = date.and_then(|date| date.to_zoned(self.zone.clone()));
        start.map_or(i64::from(day.0).saturating_mul(86_400_000), |start| start.timestamp().as_millisecond())
    }

    /// The first time at or after `ms` at which the shop's clock shows so many minutes past midnight, ms since 1970.
    #[must_use]
    pub fn next_at(&self, minutes: u32, ms: i64) -> i64 {
        let day = Instant::in_zone(ms, &self.zone).day();
        let on = |day: Day| self.start_of(day).saturating_add(i64::from(minutes) * 60_000);
        let today = on(day);
        if today >= ms { today } else { on(day.plus(1)) }
    }

    /// A point in time, ms since 1970, as the shop's clock shows it.
    #[must_use]
    pub fn at(&self, ms: i64) -> Instant {
        Instant::in_zone(ms, &self.zone)
    }

    /// Now, as the shop's clock shows it.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::in_zone(now_ms(), &self.zone)
    }
}

/// Milliseconds since 1970; 0 on a clock before that.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    Instant::utc(ms).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shop_s_night_is_found_in_its_time_zone() {
        let clock = Clock::in_zone("Europe/Berlin").unwrap();
        let ms = |text: &str| text.parse::<Instant>().unwrap().ms;
        let night = |from: &str| rfc3339(clock.next_at(120, ms(from)));
        assert_eq!(night("2026-11-23T10:00:00Z"), "2026-11-24T01:00:00+00:00");
        assert_eq!(night("2026-11-24T01:00:00Z"), "2026-11-24T01:00:00+00:00");
        assert_eq!(clock.start_of("2026-07-01".parse().unwrap()), ms("2026-06-30T22:00:00Z"));
    }
}
