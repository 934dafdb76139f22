//! Correctable PCIe errors, by their rate.

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Limit, Sustained};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// A good link has none for days; bursts at boot and at a retrain pass.
const LIMIT: Limit = Limit {
    each_minute: 10,
    minutes: 5,
};

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct AerCorrectable {
    counter: Counter,
    rate: Sustained,
    latch: Latch,
}

impl Check for AerCorrectable {
    fn name(&self) -> &'static str {
        "aer_correctable"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Aer]
    }

    fn rebooted(&mut self) {
        self.counter = Counter::default();
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let Some(aer) = super::known(&view.facts.aer)? else {
            return Ok(Finding::not_applicable(
                "the kernel keeps no AER counters here: no capability, or the firmware owns it",
            ));
        };
        let now = view.now.uptime;
        let Some(delta) = self.counter.step(now, aer.correctable) else {
            return Ok(Finding::blind(
                "seen once so far: the rate is not known yet",
            ));
        };
        let (sum, bad) = self.rate.add(now, delta, LIMIT);
        if !self.latch.update(now, bad, bad, view.settings.clear_after) {
            return Ok(Finding::healthy(format!("{sum} in the last minute")));
        }
        let found = format!("+{sum} in 1 min");
        let evidence = view.evidence("TOTAL_ERR_COR", found, LIMIT, FactKind::Aer);
        let reason = "the link corrects errors all the time";
        Ok(Finding::degraded(reason, Action::Watch)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}
