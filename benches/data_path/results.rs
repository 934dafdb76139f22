//! The end of a run: a table for people, and the same as JSON for programs.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::report::Budget;

/// Where cargo lets benches write; the results go next to it.
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    bench: String,
    machine: Machine,
    rows: Vec<Line>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Machine {
    cpus: usize,
    cpu: String,
    kernel: String,
}

/// What a row came to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) what: String,
    /// Medians over the samples, in `unit`.
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) reference: Option<String>,
    pub(crate) reference_value: Option<f64>,
    /// The median of the samples' ratios, and their quartiles.
    pub(crate) ratio: Option<f64>,
    pub(crate) spread: Option<[f64; 2]>,
    pub(crate) budget: Budget,
    pub(crate) met: bool,
    /// Nanoseconds of a cache line's round trip before and after the samples.
    pub(crate) line_ns: [f64; 2],
    pub(crate) samples: usize,
}

impl Results {
    pub(crate) fn new(rows: Vec<Line>) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            bench: "data_path".to_owned(),
            machine: Machine {
                cpus: cpuinfo.matches("processor\t").count(),
                cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
                kernel: kernel.trim().to_owned(),
            },
            rows,
        }
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{:<42} {:>21} {:>22} {:>6} {:>13} {:>13} {:<4} {:>9}",
            "what", "value", "reference", "ratio", "spread", "budget", "", "line ns"
        );
        let or_nothing = |text: Option<String>| text.unwrap_or_default();
        for row in &self.rows {
            let reference = row.reference_value.map(|value| {
                let name = row.reference.as_deref().unwrap_or_default();
                format!("{name} {value:.1}")
            });
            println!(
                "{:<42} {:>9.1} {:<11} {:>22} {:>6} {:>13} {:>13} {:<4} {:>4.0} {:>4.0}",
                row.what,
                row.value,
                row.unit,
                or_nothing(reference),
                or_nothing(row.ratio.map(|ratio| format!("{ratio:.2}"))),
                or_nothing(row.spread.map(|[low, high]| format!("{low:.2}..{high:.2}"))),
                row.budget.text(&row.unit),
                if row.met { "met" } else { "NO" },
                row.line_ns[0],
                row.line_ns[1],
            );
        }
        println!(
            "\nMedians. A ratio is of a value and its reference, which took turns in each sample; spread: half of the samples\n\
             lie in it. \"line ns\" is a cache line's round trip between the two processors before and after the samples:\n\
             where the two differ, or other work was on the machine, the ratio says less."
        );
    }

    /// Writes the JSON, and reads it back as a program would.
    pub(crate) fn write(&self) {
        let directory = Path::new(SCRATCH).with_file_name("auk-bench");
        let path = directory.join("data_path.json");
        let json = serde_json::to_string_pretty(self).expect("results that are JSON");
        fs::create_dir_all(&directory).expect("a directory for the results");
        fs::write(&path, json).expect("a file for the results");
        let written = fs::read(&path).expect("the results, written");
        let read: Self = serde_json::from_slice(&written).expect("results that can be read back");
        assert_eq!(&read, self, "what was written is what is read");
        println!("\nas JSON: {}", path.display());
    }
}
