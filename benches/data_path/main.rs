//! The data path, from the driver to the simulated chip and back, beside what the machine can do at all.
//!
//! `cargo bench --bench data_path` ends with a table of ratios and writes the same to `target/auk-bench/data_path.json`; the
//! budgets in it are those of the project's design. Arguments are criterion's: a name measures the rows with that in their
//! name, and `--sample-size 10 --warm-up-time 0.1 --measurement-time 0.2` is the short form.
//!
//! Each sample has what is measured and its reference in turn, between two measurements of the way from processor to
//! processor ([`yardstick`]). The measuring thread has one processor, the chip's engine or the yardstick's thread another, or both
//! the same where the row says "one CPU". What criterion prints is the mean of the measured half alone.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot go on has nothing to report"
)]
#![allow(missing_docs, reason = "this program's own modules")]

mod copies;
mod hosts;
mod interrupts;
mod messages;
mod nops;
mod pairs;
mod processors;
mod report;
mod results;
mod rig;
mod yardstick;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use pairs::Bench;
use processors::Processors;

fn main() -> ExitCode {
    let Some(processors) = Processors::two() else {
        eprintln!(
            "the data path is measured between two processors; this process may use only one"
        );
        return ExitCode::FAILURE;
    };
    let criterion = Criterion::default()
        .sample_size(20)
        .nresamples(10_000)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut bench = Bench::new(criterion, processors);
    nops::measure(&mut bench);
    copies::measure(&mut bench);
    interrupts::measure(&mut bench);
    messages::measure(&mut bench);
    hosts::measure(&mut bench);
    let results = bench.finish();
    results.print();
    results.write();
    ExitCode::SUCCESS
}
