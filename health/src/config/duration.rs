//! Durations as people write them: a number with its unit, `10 min`, `1 h 30 min`, `0.5 s`.

use std::time::Duration;

/// Units and their length in microseconds, longest first; names as in systemd.time(7), but for `m` and `M`, which too many
/// take for each other.
const UNITS: [(&[&str], u64); 7] = [
    (&["w", "week", "weeks"], 7 * 86_400_000_000),
    (&["d", "day", "days"], 86_400_000_000),
    (&["h", "hr", "hour", "hours"], 3_600_000_000),
    (&["min", "minute", "minutes"], 60_000_000),
    (&["s", "sec", "second", "seconds"], 1_000_000),
    (&["ms", "msec"], 1_000),
    (&["us", "usec"], 1),
];

/// The duration that a text names; `None` when it names none.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|at| *at > 0)?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, micros) = UNITS.iter().find(|(names, _)| names.contains(&unit))?;
        // Units are far below 2^53 us.
        let micros = Duration::try_from_secs_f64(number * (*micros as f64) / 1e6).ok()?;
        total = total.checked_add(micros)?;
        rest = after.trim_start();
    }
    // What a float adds below a microsecond nobody wrote.
    let micros = u64::try_from((total.as_nanos() + 500) / 1000).ok()?;
    Some(Duration::from_micros(micros))
}

/// The shortest way to write a duration with one unit.
pub(super) fn show(duration: Duration) -> String {
    let micros = duration.as_micros();
    let exact = UNITS
        .iter()
        // Nobody thinks of 14 days as two weeks here.
        .skip(1)
        .find(|(_, unit)| micros >= u128::from(*unit) && micros.is_multiple_of(u128::from(*unit)));
    match exact {
        Some((names, unit)) => format!("{} {}", micros / u128::from(*unit), names[0]),
        None => format!("{} s", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let read = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!(read("10 min"), Some(600_000));
        assert_eq!(read("10min"), Some(600_000));
        assert_eq!(read(" 1 h 30 min "), Some(5_400_000));
        assert_eq!(read("0.5 s"), Some(500));
        assert_eq!(read("7 days"), Some(604_800_000));
        assert_eq!(read("0 s"), Some(0));
    }

    #[test]
    fn a_number_without_a_unit_is_no_duration_and_neither_is_nonsense() {
        for text in [
            "", " ", "10", "min", "10 m", "10 M", "-1 s", "1 s 2", "1..5 s", "1e3 s", "1 s,",
            "ten s",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&format!("{} w", "9".repeat(400))), None);
    }

    #[test]
    fn a_duration_is_shown_with_the_unit_that_fits() {
        let shown = |millis| show(Duration::from_millis(millis));
        assert_eq!(shown(600_000), "10 min");
        assert_eq!(shown(90_000), "90 s");
        assert_eq!(shown(500), "500 ms");
        assert_eq!(shown(604_800_000), "7 d");
        assert_eq!(shown(0), "0 s");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same(micros in 0..10_000_000_000_000u64) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse(&show(duration)), Some(duration));
        }

        #[test]
        fn no_text_is_too_much(text in ".*") {
            let _ = parse(&text);
        }
    }
}
