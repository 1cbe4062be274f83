//! A moment, in milliseconds since the epoch, UTC: the only form in which times are stored, compared and sent.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub i64);

impl Time {
    /// `yyyy-MM-ddTHH:mm:ssZ` (`api-conventions.md` §4). Milliseconds are dropped, as the original did.
    pub fn iso(self) -> String {
        jiff::Timestamp::from_second(self.0.div_euclid(1000))
            .map_or_else(|_| String::from("1970-01-01T00:00:00Z"), |at| at.to_string())
    }

    /// Parses ISO 8601; without a zone it is UTC. `None` when it is not a date.
    pub fn parse_iso(text: &str) -> Option<Time> {
        let at = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let civil = text.parse::<jiff::civil::DateTime>().ok()?;
            civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
        })?;
        Some(Time(at.as_millisecond()))
    }

    /// This moment and that many milliseconds.
    pub fn plus_ms(self, ms: i64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; negative when that lies ahead.
    pub fn ms_since(self, earlier: Time) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_has_seconds_and_z() {
        assert_eq!(Time(1_459_591_872_123).iso(), "2016-04-02T10:11:12Z");
        assert_eq!(Time::parse_iso("2016-04-02T10:11:12Z"), Some(Time(1_459_591_872_000)));
        assert_eq!(Time::parse_iso("2016-04-02T10:11:12.5"), Some(Time(1_459_591_872_500)));
        assert_eq!(Time::parse_iso("2016-04-02"), Some(Time(1_459_555_200_000)));
        assert_eq!(Time::parse_iso("yesterday"), None);
    }
}
