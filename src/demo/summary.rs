//! What the demo says in the end, and whether all of it held.

use std::time::Duration;

use serde::Serialize;

/// The result, for people as a table and for machines as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Whether every claim held.
    pub(super) ok: bool,
    /// Images that were classified, each once.
    pub(super) images: usize,
    /// Share of the held-out images that were classified right.
    pub(super) accuracy: f64,
    /// Held-out images.
    pub(super) held_out: usize,
    /// Bytes compared with the CPU reference.
    pub(super) compared_bytes: usize,
    /// Outputs of the chip that differ from the CPU reference.
    pub(super) mismatches: usize,
    /// Median time of a batch in microseconds.
    pub(super) batch_p50_us: f64,
    /// 99th percentile of it.
    pub(super) batch_p99_us: f64,
    /// Images of a batch.
    pub(super) batch: usize,
    /// Commands that completed a second while the job ran.
    pub(super) commands_per_second: f64,
    /// The fault in its midst; none in a job that runs alone.
    #[serde(flatten)]
    pub(super) incident: Option<Incident>,
    /// Each claim and whether it held.
    pub(super) claims: Vec<Claim>,
}

/// A fault, how it was seen, and how it was cured.
#[derive(Debug, Serialize)]
pub(super) struct Incident {
    /// What the job was told when the chip failed.
    pub(super) fault: String,
    /// What the agent held against the chip.
    pub(super) evidence: String,
    /// From the fault to the agent's verdict, in milliseconds.
    pub(super) detect_ms: u64,
    /// From the error that the job saw to the known-answer test it passed, without the wait for the agent's verdict,
    /// in milliseconds.
    pub(super) recover_ms: f64,
    /// From the passed self-test to the agent's verdict that the chip is healthy, in milliseconds.
    pub(super) healthy_again_ms: u64,
}

/// Something that must be true for the demo to succeed.
#[derive(Debug, Serialize)]
pub(super) struct Claim {
    pub(super) claim: &'static str,
    pub(super) held: bool,
}

impl Summary {
    /// One more claim. A single one that did not hold is one too many.
    pub(super) fn claim(&mut self, claim: &'static str, held: bool) {
        self.ok &= held;
        self.claims.push(Claim { claim, held });
    }

    /// What was measured, by name.
    pub(super) fn results(&self) -> Vec<(&'static str, String)> {
        let mut results = vec![
            ("images", format!("{}, each once", self.images)),
            (
                "accuracy",
                format!(
                    "{:.2} % of {} held out",
                    self.accuracy * 100.0,
                    self.held_out
                ),
            ),
            (
                "mismatches",
                format!(
                    "{} in {} bytes of output",
                    self.mismatches, self.compared_bytes
                ),
            ),
            (
                "batch latency",
                format!(
                    "p50 {:.0} us, p99 {:.0} us, {} images a batch",
                    self.batch_p50_us, self.batch_p99_us, self.batch
                ),
            ),
            (
                "commands",
                format!("{:.0} a second", self.commands_per_second),
            ),
        ];
        if let Some(incident) = &self.incident {
            results.extend([
                ("fault", incident.fault.clone()),
                ("evidence", incident.evidence.clone()),
                ("time to detect", format!("{} ms", incident.detect_ms)),
                ("time to recover", format!("{:.1} ms", incident.recover_ms)),
                (
                    "healthy again",
                    format!("{} ms after the self-test", incident.healthy_again_ms),
                ),
            ]);
        }
        results
    }
}

/// The value below which `share` of the samples lie, in microseconds.
pub(super) fn percentile(samples: &mut [Duration], share: f64) -> f64 {
    samples.sort_unstable();
    let index = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
    samples
        .get(index)
        .map_or(0.0, |sample| sample.as_secs_f64() * 1e6)
}
