//! What was measured: each row's samples, and what they come to.

use serde::{Deserialize, Serialize};

use crate::pairs::{Groups, Sample};
use crate::results::Line;

/// A line of the report.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    /// The least that each turn of a sample has.
    pub(crate) least: Groups,
    pub(crate) reference: Option<&'static str>,
    pub(crate) budget: Budget,
}

/// How nanoseconds an operation are told.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    ThousandsPerSecond,
    MillionsPerSecond,
    /// 10^9 bytes a second, where an operation is this many bytes.
    GigabytesPerSecond(usize),
    /// Where an operation is a second, and its nanoseconds are those that a processor was busy.
    PercentOfCore,
}

/// What the budget is for: the ratio, or the value where there is no reference in the same run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Budget {
    Ratio(Bound),
    Value(Bound),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Unit {
    fn of(self, nanoseconds: f64) -> f64 {
        match self {
            Self::Nanoseconds => nanoseconds,
            Self::Microseconds => nanoseconds / 1e3,
            Self::Milliseconds => nanoseconds / 1e6,
            Self::ThousandsPerSecond => 1e6 / nanoseconds,
            Self::MillionsPerSecond => 1e3 / nanoseconds,
            Self::GigabytesPerSecond(bytes) => bytes as f64 / nanoseconds,
            Self::PercentOfCore => nanoseconds / 1e7,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::ThousandsPerSecond => "k/s",
            Self::MillionsPerSecond => "M/s",
            Self::GigabytesPerSecond(_) => "GB/s",
            Self::PercentOfCore => "% of a core",
        }
    }
}

impl Budget {
    pub(crate) fn text(self, unit: &str) -> String {
        match self {
            Self::Ratio(bound) => format!("{} x", bound.text()),
            Self::Value(bound) => format!("{} {unit}", bound.text()),
        }
    }
}

impl Bound {
    fn holds(self, found: f64) -> bool {
        match self {
            Self::AtMost(most) => found <= most,
            Self::AtLeast(least) => found >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("<= {most}"),
            Self::AtLeast(least) => format!(">= {least}"),
        }
    }
}

/// A row and its samples.
pub(crate) struct Measured {
    row: Row,
    samples: Vec<Both>,
}

struct Both {
    operations: u64,
    mine: f64,
    reference: Option<f64>,
    /// Nanoseconds of a cache line's round trip before and after.
    line: [f64; 2],
}

impl Measured {
    pub(crate) fn new(row: Row) -> Self {
        Self {
            row,
            samples: Vec::new(),
        }
    }

    pub(crate) fn what(&self) -> &'static str {
        self.row.what
    }

    pub(crate) fn sample(
        &mut self,
        operations: u64,
        mine: Sample,
        reference: Option<Sample>,
        line: [f64; 2],
    ) {
        self.samples.push(Both {
            operations,
            mine: mine.usual,
            reference: reference.map(|reference| reference.usual),
            line,
        });
    }

    /// The medians of the samples, and of their ratios; `None` when there are none.
    pub(crate) fn line(&self) -> Option<Line> {
        // While criterion warms up it tries other numbers of operations.
        let operations = self.samples.last()?.operations;
        let samples: Vec<_> = self
            .samples
            .iter()
            .filter(|sample| sample.operations == operations)
            .collect();
        let unit = self.row.unit;
        let over = |of: &dyn Fn(&Both) -> Option<f64>| {
            let mut values: Vec<_> = samples.iter().filter_map(|sample| of(sample)).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let mine = over(&|sample| Some(unit.of(sample.mine)));
        let reference = over(&|sample| sample.reference.map(|theirs| unit.of(theirs)));
        let ratios = over(&|sample| {
            sample
                .reference
                .map(|theirs| unit.of(sample.mine) / unit.of(theirs))
        });
        let value = quantile(&mine, 0.5)?;
        let ratio = quantile(&ratios, 0.5);
        let met = match self.row.budget {
            Budget::Ratio(bound) => bound.holds(ratio?),
            Budget::Value(bound) => bound.holds(value),
        };
        Some(Line {
            what: self.row.what.to_owned(),
            value: rounded(value),
            unit: unit.name().to_owned(),
            reference: self.row.reference.map(str::to_owned),
            reference_value: quantile(&reference, 0.5).map(rounded),
            ratio: ratio.map(rounded),
            spread: quantile(&ratios, 0.25)
                .zip(quantile(&ratios, 0.75))
                .map(|(low, high)| [rounded(low), rounded(high)]),
            budget: self.row.budget,
            met,
            line_ns: [0, 1].map(|side| {
                let lines = over(&|sample| Some(sample.line[side]));
                rounded(quantile(&lines, 0.5).unwrap_or_default())
            }),
            samples: samples.len(),
        })
    }
}

/// As many digits as mean anything.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5).unwrap_or(f64::NAN)
}

/// Of values in their order.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let at = (sorted.len().checked_sub(1)? as f64 * part).round() as usize;
    sorted.get(at).copied()
}
