//! The end of a bench run: each measurement as a ratio against its yardstick of the same run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::yardstick::PingPong;

/// Rounds of a bracket: long enough to tell near from far, short enough not to matter.
const BRACKET_ROUNDS: u64 = 5_000;

/// Samples by name.
#[derive(Default)]
pub(crate) struct Report {
    samples: RefCell<BTreeMap<&'static str, Samples>>,
}

#[derive(Default)]
struct Samples {
    /// Nanoseconds an operation.
    operation: Vec<f64>,
    /// Nanoseconds of a cache-line round trip around each of them.
    bracket: Vec<f64>,
}

/// How a budget is meant.
pub(crate) enum Budget {
    /// At most this many times the time of the yardstick.
    Time(f64),
    /// At least this many times the rate of the yardstick.
    Rate(f64),
    /// At least this many operations a second; the yardstick is shown for scale.
    PerSecond(f64),
}

/// A line of the report.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) yardstick: &'static str,
    pub(crate) budget: Budget,
}

impl Report {
    /// Measures `operations` once, in a bracket of cache-line round trips.
    pub(crate) fn sample(
        &self,
        name: &'static str,
        operations: u64,
        measure: impl FnOnce() -> Duration,
    ) -> Duration {
        let before = bracket();
        let time = measure();
        let after = bracket();
        let mut samples = self.samples.borrow_mut();
        let samples = samples.entry(name).or_default();
        samples
            .operation
            .push(time.as_nanos() as f64 / operations as f64);
        samples.bracket.push(f64::midpoint(before, after));
        time
    }

    /// Prints the rows whose halves were both measured.
    pub(crate) fn print(&self, rows: &[Row]) {
        let samples = self.samples.borrow();
        println!(
            "\n{:<34} {:>11} {:>11} {:>7} {:>9} {:>4}  {:>11}",
            "what", "ns", "yardstick", "ratio", "budget", "", "line ns"
        );
        for row in rows {
            let (Some(mine), Some(theirs)) = (samples.get(row.what), samples.get(row.yardstick))
            else {
                continue;
            };
            let (time, yardstick) = (median(&mine.operation), median(&theirs.operation));
            let (ratio, budget, met) = match row.budget {
                Budget::Time(most) => {
                    let ratio = time / yardstick;
                    (format!("{ratio:.2}"), format!("<= {most}"), ratio <= most)
                }
                Budget::Rate(least) => {
                    let ratio = yardstick / time;
                    (format!("{ratio:.2}"), format!(">= {least}"), ratio >= least)
                }
                Budget::PerSecond(least) => {
                    let rate = 1e9 / time;
                    (
                        format!("{:.2}", yardstick / time),
                        format!("{:.1} M/s", least / 1e6),
                        rate >= least,
                    )
                }
            };
            println!(
                "{:<34} {time:>11.1} {yardstick:>11.1} {ratio:>7} {budget:>9} {:>4}  {:>5.0} {:>5.0}",
                row.what,
                if met { "met" } else { "no" },
                median(&mine.bracket),
                median(&theirs.bracket),
            );
        }
        println!(
            "\nMedians. \"line ns\" is a cache-line round trip around the samples of either half: where the two\n\
             differ, the machine moved between them, and the ratio says little."
        );
    }
}

fn bracket() -> f64 {
    PingPong::start().run(BRACKET_ROUNDS).as_nanos() as f64 / BRACKET_ROUNDS as f64
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
