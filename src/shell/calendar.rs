//! Dates for people: the only module that knows of calendars. Everything else counts since the Unix epoch.

use jiff::{Timestamp, ToSpan as _, civil::DateTime, tz::TimeZone};

use crate::types::Instant;

/// Year, month and day in UTC, `days` after `now`.
pub fn date_after(now: Instant, days: i64) -> (i32, u8, u8) {
    let date = timestamp(now.unix_ms()).to_zoned(TimeZone::UTC).date().saturating_add(days.days());
    let unsigned = |n: i8| u8::try_from(n).expect("months and days are positive");
    (i32::from(date.year()), unsigned(date.month()), unsigned(date.day()))
}

/// RFC 3339 in UTC with milliseconds. `ms`: since the Unix epoch.
pub fn rfc3339(ms: u64) -> String {
    format!("{:.3}", timestamp(ms))
}

/// Reads `2026-01-31`, `2026-01-31T08:00:00` (both UTC) or a full RFC 3339 time, as milliseconds since the Unix epoch.
pub fn parse(text: &str) -> Option<u64> {
    let timestamp = text.parse::<Timestamp>().ok().or_else(|| {
        let zoned = text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?;
        Some(zoned.timestamp())
    })?;
    u64::try_from(timestamp.as_millisecond()).ok()
}

/// Times beyond the calendar's last year read as its end.
fn timestamp(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_769_846_400_000;

    #[test]
    fn dates_and_times_are_read_as_utc() {
        assert_eq!(parse("2026-01-31T08:00:00Z"), Some(MS));
        assert_eq!(parse("2026-01-31T09:00:00+01:00"), Some(MS));
        assert_eq!(parse("2026-01-31T08:00:00"), Some(MS));
        assert_eq!(parse("2026-01-31"), Some(MS - 8 * 3_600_000));
        for wrong in ["", "yesterday", "31.1.2026", "1960-01-01"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_printed_time_reads_as_the_same() {
        assert_eq!(rfc3339(MS + 7), "2026-01-31T08:00:00.007Z");
        assert_eq!(parse(&rfc3339(MS + 7)), Some(MS + 7));
        assert_eq!(rfc3339(u64::MAX).len(), "9999-12-30T22:00:00.999Z".len());
    }

    #[test]
    fn days_are_added_over_month_ends() {
        assert_eq!(date_after(Instant::from_unix_ms(MS), 1), (2026, 2, 1));
        assert_eq!(date_after(Instant::from_unix_ms(MS), -31), (2025, 12, 31));
    }
}
