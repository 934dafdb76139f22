//! The job's work: every image once, each output compared with the CPU's.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::digits::{COUNT, HELD_OUT, label};
use super::job::{BATCH, COMMANDS, Network, batch_pixels};
use super::reference;
use super::summary::{Summary, percentile};

/// The share of the held-out images that must be read right.
const LEAST_ACCURACY: f64 = 0.95;
/// Batches that hold all images.
pub(super) const BATCHES: usize = COUNT.div_ceil(BATCH);

/// What the job has so far.
pub(super) struct Progress {
    /// How often each image was classified, and as what.
    classes: Vec<Vec<u8>>,
    mismatches: usize,
    compared_bytes: usize,
    latencies: Vec<Duration>,
    commands: usize,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            classes: vec![Vec::new(); COUNT],
            mismatches: 0,
            compared_bytes: 0,
            latencies: Vec::with_capacity(BATCHES),
            commands: 0,
        }
    }

    /// Runs a batch of images.
    pub(super) fn run_batch(&mut self, network: &mut Network, batch: usize) -> anyhow::Result<()> {
        let pixels = batch_pixels(batch);
        let start = Instant::now();
        let outputs = network
            .run(pixels)
            .with_context(|| format!("batch {batch} of the job"))?;
        self.latencies.push(start.elapsed());
        self.commands += COMMANDS;
        let first = batch * BATCH;
        let rows = BATCH.min(COUNT - first);
        for (output, expected) in outputs.iter().zip(reference::outputs(pixels, rows)) {
            self.compared_bytes += expected.len();
            self.mismatches += usize::from(*output != expected);
        }
        let logits = outputs.last().map_or(&[][..], Vec::as_slice);
        for (image, class) in (first..).zip(reference::classes(logits)) {
            self.classes[image].push(class);
        }
        Ok(())
    }

    /// What came of it.
    pub(super) fn summarise(mut self) -> Summary {
        let classified = self.classes.iter();
        let once = classified.filter(|classes| classes.len() == 1).count();
        let right = (HELD_OUT..COUNT)
            .filter(|&image| self.classes[image].first() == Some(&label(image)))
            .count();
        let accuracy = right as f64 / (COUNT - HELD_OUT) as f64;
        let busy: Duration = self.latencies.iter().sum();
        let mut summary = Summary {
            ok: true,
            images: once,
            accuracy,
            held_out: COUNT - HELD_OUT,
            compared_bytes: self.compared_bytes,
            mismatches: self.mismatches,
            batch_p50_us: percentile(&mut self.latencies, 0.50),
            batch_p99_us: percentile(&mut self.latencies, 0.99),
            batch: BATCH,
            commands_per_second: self.commands as f64 / busy.as_secs_f64(),
            incident: None,
            claims: Vec::new(),
        };
        summary.claim("every image was classified, and none twice", once == COUNT);
        summary.claim(
            "every output of the chip equals the CPU's, bit for bit",
            self.mismatches == 0,
        );
        summary.claim(
            "at least 95 % of the held-out images were read right",
            accuracy >= LEAST_ACCURACY,
        );
        summary
    }
}
