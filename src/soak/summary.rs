//! What a soak says in the end.

use std::time::Duration;

use serde::Serialize;

use super::director::Record;
use super::growth::{Footprint, Growth};
use super::ledger::Counts;
use crate::output::{Cell, Fields, Grid, Screen, Tone};

/// Memory that a soak may grow by, in kB: allocators keep pages.
const GROWTH_KB: u64 = 8 << 10;
/// Descriptors that may be more: which chips are open together is a matter of chance.
const GROWTH_DESCRIPTORS: u64 = 16;

/// The result, for people as tables and for machines as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) schema: u32,
    pub(super) ok: bool,
    pub(super) seed: u64,
    pub(super) seconds: f64,
    pub(super) chips: usize,
    pub(super) jobs: u64,
    pub(super) commands: u64,
    pub(super) lost: u64,
    pub(super) recoveries: u64,
    pub(super) healthy_longest_stall_ms: f64,
    pub(super) healthy_p99_ms: f64,
    pub(super) second_quarter: Footprint,
    pub(super) last_quarter: Footprint,
    pub(super) strict_violations: usize,
    pub(super) faults: Vec<Fault>,
    pub(super) unexplained: Vec<String>,
    pub(super) claims: Vec<Claim>,
}

/// A kind of fault.
#[derive(Debug, Serialize)]
pub(super) struct Fault {
    fault: &'static str,
    injected: u64,
    detected: u64,
    recovered: u64,
    longest_detection_ms: f64,
    longest_recovery_ms: f64,
}

/// Something that must be true.
#[derive(Debug, Serialize)]
pub(super) struct Claim {
    claim: &'static str,
    held: bool,
}

/// What was measured.
pub(super) struct Measured {
    pub(super) seed: u64,
    pub(super) elapsed: Duration,
    pub(super) chips: usize,
    /// Of all jobs together, and of those on chips without faults.
    pub(super) counts: Counts,
    pub(super) stalls: (Duration, Duration),
    pub(super) growth: Growth,
    pub(super) strict_violations: usize,
    pub(super) record: Record,
}

impl Summary {
    pub(super) fn of(measured: Measured) -> Self {
        let Measured {
            seed,
            elapsed,
            chips,
            counts,
            stalls: (longest, p99),
            growth,
            strict_violations,
            record,
        } = measured;
        let (second_quarter, last_quarter) = growth.usual();
        let unended = counts.submitted - counts.ended - counts.given_up;
        let lost = counts.begun - counts.acknowledged + unended;
        let outcomes = || record.outcomes.values();
        let claims = [
            (
                "every job ended with the right answer",
                counts.acknowledged == counts.begun,
            ),
            ("every command ended once", unended == 0),
            (
                "no fault was missed",
                outcomes().all(|o| o.detected == o.injected),
            ),
            (
                "the job went on after each fault",
                outcomes().all(|o| o.recovered == o.injected),
            ),
            (
                "nothing was seen without a cause",
                record.unexplained.is_empty(),
            ),
            (
                "the driver did nothing that the chip leaves undefined",
                strict_violations == 0,
            ),
            (
                "memory stayed flat",
                last_quarter.memory_kb <= second_quarter.memory_kb + GROWTH_KB,
            ),
            (
                "memory for DMA stayed flat",
                last_quarter.dma_kb <= second_quarter.dma_kb + GROWTH_KB,
            ),
            (
                "descriptors stayed flat",
                last_quarter.descriptors <= second_quarter.descriptors + GROWTH_DESCRIPTORS,
            ),
        ];
        let claims: Vec<Claim> = claims
            .into_iter()
            .map(|(claim, held)| Claim { claim, held })
            .collect();
        let faults = record.outcomes.iter().map(|(&fault, outcome)| Fault {
            fault,
            injected: outcome.injected,
            detected: outcome.detected,
            recovered: outcome.recovered,
            longest_detection_ms: ms(outcome.detection),
            longest_recovery_ms: ms(outcome.recovery),
        });
        Self {
            schema: 1,
            ok: claims.iter().all(|claim| claim.held),
            seed,
            seconds: elapsed.as_secs_f64(),
            chips,
            jobs: counts.acknowledged,
            commands: counts.ended,
            lost,
            recoveries: counts.recoveries,
            healthy_longest_stall_ms: ms(longest),
            healthy_p99_ms: ms(p99),
            second_quarter,
            last_quarter,
            strict_violations,
            faults: faults.collect(),
            unexplained: record.unexplained,
            claims,
        }
    }

    pub(super) fn render(&self, screen: Screen) -> String {
        let mut grid = Grid::new(&[
            "fault",
            "injected",
            "detected",
            "recovered",
            "to see",
            "to go on",
        ]);
        for fault in &self.faults {
            let whole = |count: u64| {
                let tone = if count == fault.injected {
                    Tone::Plain
                } else {
                    Tone::Bad
                };
                Cell::new(count.to_string(), tone)
            };
            grid.push(vec![
                fault.fault.into(),
                fault.injected.to_string().into(),
                whole(fault.detected),
                whole(fault.recovered),
                format!("{:.0} ms", fault.longest_detection_ms).into(),
                format!("{:.0} ms", fault.longest_recovery_ms).into(),
            ]);
        }
        let mut results = Fields::new("Results");
        let injected: u64 = self.faults.iter().map(|fault| fault.injected).sum();
        results.push("seed", self.seed.to_string());
        results.push(
            "time",
            format!("{:.0} s with {} chips", self.seconds, self.chips),
        );
        results.push("jobs", format!("{}, {} commands", self.jobs, self.commands));
        results.push("lost", self.lost.to_string());
        results.push(
            "faults",
            format!(
                "{injected} of {} kinds, {} steps of recovery",
                self.faults.len(),
                self.recoveries
            ),
        );
        results.push(
            "healthy chip",
            format!(
                "longest stall {:.1} ms, 99 of 100 results within {:.1} ms of the one before",
                self.healthy_longest_stall_ms, self.healthy_p99_ms
            ),
        );
        results.push(
            "memory",
            format!(
                "{} kB, then {} kB",
                self.second_quarter.memory_kb, self.last_quarter.memory_kb
            ),
        );
        results.push(
            "DMA memory",
            format!(
                "{} kB, then {} kB",
                self.second_quarter.dma_kb, self.last_quarter.dma_kb
            ),
        );
        results.push(
            "descriptors",
            format!(
                "{}, then {}",
                self.second_quarter.descriptors, self.last_quarter.descriptors
            ),
        );
        let mut claims = Fields::new("Claims");
        for claim in &self.claims {
            let (held, tone) = if claim.held {
                ("held", Tone::Good)
            } else {
                ("FALSE", Tone::Bad)
            };
            claims.push(held, Cell::new(claim.claim, tone));
        }
        let mut text = format!(
            "{}\n{}\n{}",
            grid.render(screen),
            results.render(screen),
            claims.render(screen)
        );
        for line in &self.unexplained {
            text.push_str(&format!("unexplained: {line}\n"));
        }
        text
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
