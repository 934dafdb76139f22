//! Throttling. At its power limit a busy chip is where it should be, so that reason is told and
//! not judged; heat and a weak supply are faults of the host.

use serde::{Deserialize, Serialize};

use super::over_time::{Latch, Majority};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::status::throttle_reasons;
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Throttling {
    samples: Majority,
    latch: Latch,
}

impl Check for Throttling {
    fn name(&self) -> &'static str {
        "throttle"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let bad = vitals.throttle.thermal() || vitals.throttle.supply();
        let samples = view.settings.limits.throttle;
        let trigger = self.samples.push(bad, samples);
        let latched = self
            .latch
            .update(view.now.uptime, trigger, bad, view.settings.clear_after);
        let mut reasons = throttle_reasons(vitals).collect::<Vec<_>>().join(", ");
        if reasons.is_empty() {
            "none".clone_into(&mut reasons);
        }
        if !latched {
            return Ok(Finding::healthy(format!("throttle reasons: {reasons}")));
        }
        let limit = format!("neither thermal nor supply in {samples}");
        let evidence = view.evidence("throttle", &reasons, limit, source);
        let reason = format!("it runs slower than it could; reasons now: {reasons}");
        Ok(Finding::degraded(reason, Action::Watch).with(evidence))
    }
}
