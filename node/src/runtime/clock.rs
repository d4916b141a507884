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
