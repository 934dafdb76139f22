//! How long something took or is ago.

use std::time::Duration;

/// A duration in the two greatest units that matter.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A duration in its greatest unit, for a table.
pub(crate) fn short_span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_table_spans_are_told_in_one() {
        let told = [0, 59_999, 61_000, 3_660_000, 90_000_000]
            .map(|ms| short_span(Duration::from_millis(ms)));
        assert_eq!(told, ["0 s", "59 s", "1 min", "1 h", "1 d"]);
    }

    #[test]
    fn spans_are_told_in_two_units() {
        let told =
            [999, 59_999, 61_000, 3_660_000, 90_000_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(
            told,
            ["999 ms", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
        );
    }
}
