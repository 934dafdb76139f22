//! What a bench found: a table for people, and the same as JSON for programs.

use std::fs;
use std::path::Path;

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Where cargo lets benches write; the results go next to it.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// The median of what a few tries gave.
pub(crate) fn median(mut tries: Vec<f64>) -> f64 {
    tries.sort_by(f64::total_cmp);
    tries.get(tries.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds that this thread has run: other work on the machine is not counted.
pub(crate) fn thread_time() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of each thread");
    time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64
}

/// All that a bench found.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    bench: &'static str,
    rows: Vec<Row>,
}

/// One measurement, as a ratio to that of the same run which is its reference.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    reference: Option<String>,
    reference_value: Option<f64>,
    ratio: Option<f64>,
}

impl Results {
    pub(crate) const fn new(bench: &'static str) -> Self {
        Self {
            bench,
            rows: Vec::new(),
        }
    }

    /// Begins a table.
    pub(crate) fn table(&self, title: &str) {
        println!("\n{title}\n{:<62} {:>12} {:<18} {:>8}", "", "", "", "ratio");
    }

    /// A number that is a result by itself.
    pub(crate) fn count(&mut self, what: impl Into<String>, value: f64, unit: &'static str) {
        self.add(what.into(), value, unit, None);
    }

    /// A number and what it is compared with: the value that `reference` had.
    pub(crate) fn compared(
        &mut self,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        reference: &str,
    ) {
        let known = self.rows.iter().find(|row| row.what == reference);
        let known = known.map(|row| (reference.to_owned(), row.value));
        self.add(what.into(), value, unit, known);
    }

    fn add(
        &mut self,
        what: String,
        value: f64,
        unit: &'static str,
        reference: Option<(String, f64)>,
    ) {
        let ratio = reference.as_ref().map(|(_, known)| value / known);
        let shown = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        println!("{what:<62} {value:>12.1} {unit:<18} {shown:>8}");
        let (reference, reference_value) = reference.unzip();
        self.rows.push(Row {
            what,
            value,
            unit,
            reference,
            reference_value,
            ratio,
        });
    }

    /// Writes the JSON.
    pub(crate) fn write(&self) {
        let directory = Path::new(SCRATCH).with_file_name("auk-bench");
        let path = directory.join(format!("{}.json", self.bench));
        let json = serde_json::to_string_pretty(self).expect("results that are JSON");
        fs::create_dir_all(&directory).expect("a directory for the results");
        fs::write(&path, json).expect("a file for the results");
        println!("\nas JSON: {}", path.display());
    }
}
