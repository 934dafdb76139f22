//! How cost grows: with chips in one space, with the depth of a queue, with queues and threads, with mappings.
//!
//! `cargo bench --bench scale` prints tables of ratios against the smallest of each in the same run; the design wants linear cost at
//! worst, which is a ratio of about 1 where a row is of one chip, one command or one mapping. `--short` tries fewer.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot go on has nothing to report"
)]
#![allow(
    unsafe_code,
    reason = "memory is registered, which nothing else touches"
)]

mod chips;
mod mappings;
mod queues;
#[path = "../results/mod.rs"]
mod results;

use std::time::Duration;

use results::Results;

/// How much is tried.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    chips: &'static [u32],
    depths: &'static [u32],
    queues: &'static [u64],
    /// How long commands are run for a measurement.
    time: Duration,
    mappings: &'static [usize],
}

const LONG: Size = Size {
    chips: &[1, 8, 64],
    depths: &[2, 8, 32, 128, 512, 1024, 4096],
    queues: &[1, 2, 8, 32],
    time: Duration::from_millis(500),
    mappings: &[100, 1_000, 10_000, 65_535],
};

const SHORT: Size = Size {
    chips: &[1, 8],
    depths: &[2, 32, 4096],
    queues: &[1, 32],
    time: Duration::from_millis(50),
    mappings: &[100, 10_000],
};

fn main() {
    let short = std::env::args().any(|argument| argument == "--short");
    let size = if short { SHORT } else { LONG };
    let mut results = Results::new("scale");
    chips::measure(&mut results, size);
    queues::depths(&mut results, size);
    queues::threads(&mut results, size);
    mappings::measure(&mut results, size);
    mappings::what_ends_first(&mut results, size);
    results.write();
}
