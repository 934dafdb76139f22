//! Correctable PCIe errors, by their rate.

use super::over_time::{Counter, Latch, Sustained};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// A good link has none for days.
const EACH_MINUTE: u64 = 10;
/// Bursts at boot and at a retrain pass.
const MINUTES: u32 = 5;

/// The rule.
#[derive(Debug)]
pub(super) struct AerCorrectable {
    counter: Counter,
    rate: Sustained,
    latch: Latch,
}

impl Default for AerCorrectable {
    fn default() -> Self {
        Self {
            counter: Counter::default(),
            rate: Sustained::new(EACH_MINUTE, MINUTES),
            latch: Latch::default(),
        }
    }
}

impl Check for AerCorrectable {
    fn name(&self) -> &'static str {
        "aer_correctable"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Aer]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let Some(aer) = super::known(&view.facts.aer)? else {
            return Ok(Finding::not_applicable(
                "the kernel keeps no AER counters here: no capability, or the firmware owns it",
            ));
        };
        let Some(delta) = self.counter.step(aer.correctable) else {
            return Ok(Finding::blind(
                "seen once so far: the rate is not known yet",
            ));
        };
        let now = view.now.uptime;
        let (sum, bad) = self.rate.add(now, delta);
        if !self.latch.update(now, bad, bad, view.settings.clear_after) {
            return Ok(Finding::healthy(format!("{sum} in the last minute")));
        }
        let found = format!("+{sum} in 1 min");
        let evidence = view.evidence("TOTAL_ERR_COR", found, self.rate.rule(), FactKind::Aer);
        let reason = "the link corrects errors all the time";
        Ok(Finding::degraded(reason, Action::Watch)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}
