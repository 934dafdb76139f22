//! PCIe replays that the chip counts, by their rate: packets that its link had to send again.

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Sustained};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PcieReplays {
    counter: Counter,
    rate: Sustained,
    latch: Latch,
}

impl Check for PcieReplays {
    fn name(&self) -> &'static str {
        "pcie_replays"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let now = view.now.uptime;
        let Some(delta) = self.counter.step(now, u64::from(vitals.pcie_replays)) else {
            return Ok(Finding::blind(
                "seen once so far: the rate is not known yet",
            ));
        };
        let most = view.settings.limits.pcie_replays.0;
        let (sum, bad) = self.rate.add(now, delta, most);
        if !self.latch.update(now, bad, bad, view.settings.clear_after) {
            return Ok(Finding::healthy(format!("{sum} in the last minute")));
        }
        let found = format!("+{sum} in 1 min, total {}", vitals.pcie_replays);
        let evidence = view.evidence("pcie_replays", found, most, source);
        let reason = "its link sends packets again all the time";
        Ok(Finding::degraded(reason, Action::Watch)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}
