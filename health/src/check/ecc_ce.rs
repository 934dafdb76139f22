//! Correctable memory errors, by their rate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Window};
use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// A lifetime total says nothing of today; an hour is what other fleets look at.
const SPAN: Duration = Duration::from_secs(3600);

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    degraded: u64,
    unhealthy: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            degraded: 100,
            unhealthy: 1000,
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "worth a look; a placeholder until silicon says";
        keys.within("degraded_per_hour", &mut self.degraded, 1..=1_000_000, why);
        let why =
            "such memory is on its way to an uncorrectable error; a placeholder until silicon says";
        keys.within(
            "unhealthy_per_hour",
            &mut self.unhealthy,
            1..=1_000_000,
            why,
        );
        let names = ["unhealthy_per_hour", "degraded_per_hour"];
        keys.require(self.degraded < self.unhealthy, &names, || {
            format!("more than degraded_per_hour, which is {}", self.degraded)
        });
    }
}

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
        let limits = &view.settings.limits.ecc_ce;
        let bad = sum >= limits.degraded;
        let latched = self.latch.update(now, bad, bad, view.settings.clear_after);
        let evidence = |limit: u64| {
            view.evidence(
                "ecc_ce",
                format!("+{sum} in 1 h"),
                format!("{limit} in 1 h"),
                source,
            )
        };
        if sum >= limits.unhealthy {
            let reason = format!("{sum} correctable memory errors in an hour");
            return Ok(Finding::unhealthy(reason, Action::Replace)
                .with(evidence(limits.unhealthy))
                .sure(Confidence::Medium));
        }
        if latched {
            let reason = format!("{sum} correctable memory errors in an hour");
            return Ok(Finding::degraded(reason, Action::Watch)
                .with(evidence(limits.degraded))
                .sure(Confidence::Medium));
        }
        Ok(Finding::healthy(format!("{sum} in the last hour")))
    }
}
