//! Times of the wall clock, in UTC.

use std::time::{Duration, UNIX_EPOCH};

/// Latest time that can be written, in seconds: the end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// A time as RFC 3339 has it, in seconds.
pub(crate) fn date(unix_ms: u64) -> String {
    let seconds = Duration::from_secs((unix_ms / 1000).min(LATEST));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + seconds).to_string()
}

/// The same for a table, without the year.
pub(crate) fn day_and_time(unix_ms: u64) -> String {
    let date = date(unix_ms);
    let shown = date.get(5..19).unwrap_or(&date);
    shown.replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc_and_in_a_table_without_the_year() {
        let at = 1_795_671_001_999;
        assert_eq!(date(at), "2026-11-26T05:30:01Z");
        assert_eq!(day_and_time(at), "11-26 05:30:01");
        assert_eq!(date(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
