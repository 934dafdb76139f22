//! PCIe errors that the port above saw: of a bad link the other end often knows more.

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Sustained};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct AerAbove {
    correctable: Counter,
    rate: Sustained,
    noisy: Latch,
    uncorrectable: Counter,
    recent: u64,
    broken: Latch,
}

impl Check for AerAbove {
    fn name(&self) -> &'static str {
        "aer_above"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::AerAbove]
    }

    fn rebooted(&mut self) {
        self.correctable = Counter::default();
        self.uncorrectable = Counter::default();
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let Some(aer) = super::known(&view.facts.aer_above)? else {
            return Ok(Finding::not_applicable(
                "no port above, or the kernel keeps no AER counters for it",
            ));
        };
        let now = view.now.uptime;
        let total = aer.nonfatal.saturating_add(aer.fatal);
        let (Some(correctable), Some(uncorrectable)) = (
            self.correctable.step(now, aer.correctable),
            self.uncorrectable.step(now, total),
        ) else {
            return Ok(Finding::blind(
                "seen once so far: what is new is not known yet",
            ));
        };
        let clear = view.settings.clear_after;
        let most = view.settings.limits.aer_above.0;
        let (sum, noisy) = self.rate.add(now, correctable, most);
        let noisy = self.noisy.update(now, noisy, noisy, clear);
        let new = uncorrectable.count > 0;
        if new {
            self.recent = uncorrectable.count;
        }
        // What is below is not proven ill by it, and the port has no self-test: it passes with time.
        if self.broken.update(now, new, new, clear) {
            let found = format!("+{}, total {total}", self.recent);
            let what = "TOTAL_ERR_NONFATAL, TOTAL_ERR_FATAL";
            let evidence = view.evidence(what, found, "no increase", FactKind::AerAbove);
            let reason = "the port above saw an uncorrectable PCIe error";
            return Ok(Finding::degraded(reason, Action::Watch).with(evidence));
        }
        if noisy {
            let found = format!("+{sum} in 1 min");
            let evidence = view.evidence("TOTAL_ERR_COR", found, most, FactKind::AerAbove);
            let reason = "the port above corrects errors all the time";
            return Ok(Finding::degraded(reason, Action::Watch)
                .with(evidence)
                .sure(Confidence::Medium));
        }
        Ok(Finding::healthy(format!(
            "none new; {sum} corrected in the last minute"
        )))
    }
}
