//! `docs/faults.md`, joined from tables of tab-separated values in `data/faults/`: each is made by the tests of one who sees
//! the faults, and adds its columns. The first line names them; the first column is the fault, as the catalogue names it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use auk_sim::inject::Verb;

const PREFACE: &str = "\
# Faults

What becomes of each fault of the simulator's catalogue (`auk sim faults`): what the driver returns, and what the agent says. The
columns are made by tests, each of which fails when its part is not what they find (`data/faults/*.tsv`):

    cargo test --test faults_driver --test faults_page -- --ignored

The driver's part is what a job sees that copies, multiplies and checks, on a chip that gives a command one second; *recovered by* are
the steps of `IoQueue::recover` or `Device::recover` up to the greatest, *in* the time of both. What leaves both empty is not the
driver's to see. Afterwards each chip has worked again.

";

const AGENT: &str = "\
The agent's part is what its rules say by their defaults, with a look a second, on a host of two chips and a NIC; the first chip is
in use by a job. *Within* is the time from the fault to the verdict, rounded up. No fault changed the verdict on another
device, or on the host. What an agent cannot see, because it touches nothing that a job holds, has in *found by* who does.

";

/// A table, by the name of its file.
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/faults")
}

impl Table {
    pub fn read(name: &str) -> Self {
        let text = fs::read_to_string(directory().join(name)).unwrap_or_default();
        let split = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
        let mut lines = text.lines().map(split);
        Self {
            columns: lines.next().unwrap_or_default(),
            rows: lines.collect(),
        }
    }

    pub fn write(&self, name: &str) {
        let mut text = self.columns.join("\t") + "\n";
        for row in &self.rows {
            text += &(row.join("\t") + "\n");
        }
        fs::create_dir_all(directory()).unwrap();
        fs::write(directory().join(name), text).unwrap();
    }

    /// Rows of a fault.
    fn of<'a>(&'a self, fault: &'a str) -> impl Iterator<Item = &'a [String]> {
        let rows = self.rows.iter().filter(move |row| row[0] == fault);
        rows.map(|row| &row[1..])
    }
}

/// The page, of the tables as they are kept.
pub fn page(silent: &str) -> String {
    let mut page = format!("{PREFACE}{AGENT}");
    let names = ["driver.tsv", "agent.tsv"];
    let tables: Vec<Table> = names.into_iter().map(Table::read).collect();
    let tables: Vec<&Table> = tables
        .iter()
        .filter(|table| !table.rows.is_empty())
        .collect();
    let heads = tables.iter().flat_map(|table| &table.columns[1..]);
    let heads: Vec<&str> = heads.map(String::as_str).collect();
    writeln!(page, "| fault | {} |", heads.join(" | ")).unwrap();
    writeln!(page, "| --- |{}", " --- |".repeat(heads.len())).unwrap();
    for entry in Verb::CATALOGUE {
        let most = tables
            .iter()
            .map(|table| table.of(entry.name).count())
            .max();
        for number in 0..most.unwrap_or(0) {
            let mut cells = vec![format!("`{}`", entry.name)];
            for table in &tables {
                let row = table.of(entry.name).nth(number);
                let empty = vec![String::new(); table.columns.len() - 1];
                cells.extend(row.map_or(empty, <[String]>::to_vec));
            }
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            writeln!(page, "| {} |", cells.join(" | ")).unwrap();
        }
    }
    page + "\n" + silent
}

/// A text with `#` for each number: what may differ between two runs.
pub fn without_numbers(text: &str) -> String {
    let mut shape = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        if digits.is_empty() {
            shape += part;
        } else {
            shape.push('#');
            shape += &part[digits.len()..];
        }
    }
    shape
}
