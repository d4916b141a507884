//! Time as records carry it: the till's clock with its offset, and the business day. Time always arrives as
//! an argument; nothing here reads a clock.

use std::fmt;
use std::str::FromStr;

use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Serialize};

/// Earliest and latest instants a record may carry: 1970 (a till without a clock battery) to 2200.
const RANGE_MS: std::ops::RangeInclusive<i64> = 0..=7_258_118_400_000;

/// Largest offset from UTC in use is 14 hours; some leave a margin.
const OFFSET_LIMIT_MINUTES: i16 = 18 * 60;
/// Days of the same range.
const DAYS: std::ops::RangeInclusive<i32> = 0..=84_005;

/// A point on a wall clock: milliseconds since 1970 UTC, and the offset the till showed, in minutes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Instant {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub ms: i64,
    /// Minutes east of UTC that the clock showed.
    pub offset_minutes: i16,
}

/// Why a text is not an instant or a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// Not RFC 3339 with an offset, or out of range.
    #[error(
        "{0:?} is not a time; give RFC 3339 with an offset between 1970 and 2200, such as 2026-11-23T10:00:00+00:00"
    )]
    Instant(String),
    /// Not a calendar day.
    #[error("{0:?} is not a day; give YYYY-MM-DD")]
    Day(String),
}

impl Instant {
    /// An instant shown in UTC.
    #[must_use]
    pub fn utc(ms: i64) -> Self {
        Self { ms, offset_minutes: 0 }
    }

    /// An instant shown in `zone`, daylight saving considered.
    #[must_use]
    pub fn in_zone(ms: i64, zone: &TimeZone) -> Self {
        let seconds = stamp(ms).to_zoned(zone.clone()).offset().seconds();
        Self { ms, offset_minutes: i16::try_from(seconds / 60).unwrap_or(0) }
    }

    /// The latest lawful instant, in milliseconds since 1970.
    pub const LATEST_MS: i64 = *RANGE_MS.end();

    /// Whether the instant lies between 1970 and 2200 and its offset is one that clocks have.
    #[must_use]
    pub fn is_lawful(&self) -> bool {
        RANGE_MS.contains(&self.ms) && self.offset_minutes.abs() <= OFFSET_LIMIT_MINUTES
    }

    /// The calendar day this instant shows on the till's own clock.
    #[must_use]
    pub fn day(&self) -> Day {
        let date = self.zoned().date();
        Day::from_date(date)
    }

    fn zoned(&self) -> jiff::Zoned {
        let offset = Offset::from_seconds(i32::from(self.offset_minutes) * 60).unwrap_or(Offset::UTC);
        stamp(self.ms).to_zoned(TimeZone::fixed(offset))
    }
}

fn stamp(ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(ms.clamp(*RANGE_MS.start(), *RANGE_MS.end())).unwrap_or_default()
}

impl FromStr for Instant {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadTime::Instant(text.chars().take(64).collect());
        let pieces = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(text).map_err(|_| bad())?;
        let offset = pieces.to_numeric_offset().ok_or_else(bad)?;
        let moment: jiff::Timestamp = text.parse().map_err(|_| bad())?;
        let ms = moment.as_millisecond();
        if !RANGE_MS.contains(&ms) || offset.seconds() % 60 != 0 {
            return Err(bad());
        }
        let offset_minutes = i16::try_from(offset.seconds() / 60).map_err(|_| bad())?;
        let instant = Self { ms, offset_minutes };
        if instant.is_lawful() { Ok(instant) } else { Err(bad()) }
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if self.ms % 1000 == 0 { "%Y-%m-%dT%H:%M:%S%:z" } else { "%Y-%m-%dT%H:%M:%S%.3f%:z" };
        f.write_str(&self.zoned().strftime(form).to_string())
    }
}

/// A business day, chosen by the till: the accounting date. Counted in days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(pub i32);

impl Day {
    /// The day `days` later (or earlier).
    #[must_use]
    pub fn plus(self, days: i32) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// Whether the day lies between 1970 and 2200.
    #[must_use]
    pub fn is_lawful(self) -> bool {
        DAYS.contains(&self.0)
    }

    fn from_date(date: jiff::civil::Date) -> Self {
        Self((date - epoch()).get_days())
    }

    fn date(self) -> jiff::civil::Date {
        let days = i64::from(self.0.clamp(-4_000_000, 2_000_000));
        epoch().checked_add(jiff::Span::new().days(days)).unwrap_or(jiff::civil::Date::MAX)
    }
}

fn epoch() -> jiff::civil::Date {
    jiff::civil::date(1970, 1, 1)
}

impl FromStr for Day {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadTime::Day(text.chars().take(64).collect());
        if text.len() != 10 {
            return Err(bad());
        }
        let date: jiff::civil::Date = text.parse().map_err(|_| bad())?;
        let day = Self::from_date(date);
        if day.is_lawful() { Ok(day) } else { Err(bad()) }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.date())
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            i32::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_keep_their_offset() {
        for text in
            ["2010-12-01T08:26:00+00:00", "2026-07-01T23:30:00.250+02:00", "1970-01-01T00:00:00+00:00"]
        {
            assert_eq!(text.parse::<Instant>().unwrap().to_string(), text);
        }
        assert_eq!("2026-11-23T10:00:00Z".parse::<Instant>().unwrap().ms, 1_795_428_000_000);
        for bad in ["2026-11-23", "2026-11-23T10:00:00", "1969-12-31T00:00:00Z", "noon", ""] {
            assert!(bad.parse::<Instant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_day_is_the_one_the_tills_clock_shows() {
        let late: Instant = "2026-07-01T23:30:00+02:00".parse().unwrap();
        assert_eq!(late.day().to_string(), "2026-07-01");
        assert_eq!("2026-07-01".parse::<Day>().unwrap().plus(1).to_string(), "2026-07-02");
        assert!("2026-13-01".parse::<Day>().is_err());
    }
}
