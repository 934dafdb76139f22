//! Correctable memory errors, by their rate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Window};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// A lifetime total says nothing of today; an hour is what other fleets look at.
const SPAN: Duration = Duration::from_secs(3600);
/// Placeholder until silicon says: worth a look.
const DEGRADED: u64 = 100;
/// Placeholder until silicon says: such memory is on its way to an uncorrectable error.
const UNHEALTHY: u64 = 1000;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct EccCe {
    counter: Counter,
    hour: Window,
    latch: Latch,
}

impl Check for EccCe {
    fn name(&self) -> &'static str {
        "ecc_ce"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let now = view.now.uptime;
        let Some(delta) = self.counter.step(now, u64::from(vitals.ecc_ce)) else {
            return Ok(Finding::blind(
                "seen once so far: the rate is not known yet",
            ));
        };
        let sum = self.hour.add(now, SPAN, delta);
        let bad = sum >= DEGRADED;
        let latched = self.latch.update(now, bad, bad, view.settings.clear_after);
        let evidence = |limit: u64| {
            view.evidence(
                "ecc_ce",
                format!("+{sum} in 1 h"),
                format!("{limit} in 1 h"),
                source,
            )
        };
        if sum >= UNHEALTHY {
            let reason = format!("{sum} correctable memory errors in an hour");
            return Ok(Finding::unhealthy(reason, Action::Replace)
                .with(evidence(UNHEALTHY))
                .sure(Confidence::Medium));
        }
        if latched {
            let reason = format!("{sum} correctable memory errors in an hour");
            return Ok(Finding::degraded(reason, Action::Watch)
                .with(evidence(DEGRADED))
                .sure(Confidence::Medium));
        }
        Ok(Finding::healthy(format!("{sum} in the last hour")))
    }
}
