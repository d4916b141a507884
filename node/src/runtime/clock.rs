//! The wall clock, in the shop's time zone. The only place of the node that reads it for records.

use std::time::{SystemTime, UNIX_EPOCH};

use engine::time::Instant;
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
