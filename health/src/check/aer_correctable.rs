//! Correctable PCIe errors, by their rate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Limit, Sustained};
use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits(pub(super) Limit);

impl Default for Limits {
    fn default() -> Self {
        Self(Limit {
            each_minute: 10,
            lasting: Duration::from_secs(300),
        })
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "a good link has none for days";
        keys.within(
            "errors_per_minute",
            &mut self.0.each_minute,
            1..=1_000_000,
            why,
        );
        let why = "bursts at boot and at a retrain pass";
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        keys.within("lasting", &mut self.0.lasting, bounds, why);
    }
}

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
        let most = view.settings.limits.aer_correctable.0;
        let (sum, bad) = self.rate.add(now, delta, most);
        if !self.latch.update(now, bad, bad, view.settings.clear_after) {
            return Ok(Finding::healthy(format!("{sum} in the last minute")));
        }
        let found = format!("+{sum} in 1 min");
        let evidence = view.evidence("TOTAL_ERR_COR", found, most, FactKind::Aer);
        let reason = "the link corrects errors all the time";
        Ok(Finding::degraded(reason, Action::Watch)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}
