//! The PCI power state: a component that a process has open is awake.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Held, Latch};
use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::{FactKind, PowerState};
use crate::proof::Source;
use crate::verdict::{Action, Confidence};

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    asleep_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            asleep_for: Duration::from_secs(30),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "a process that opens it takes its lease first and wakes it then";
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        keys.within("asleep_for", &mut self.asleep_for, bounds, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StateOfPower {
    asleep: Held,
    latch: Latch,
}

impl Check for StateOfPower {
    fn name(&self) -> &'static str {
        "power_state"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::PowerState]
    }

    fn also_reads(&self) -> &'static [Source] {
        &[Source::Lease]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let now = view.now.uptime;
        let state = *super::known(&view.facts.power_state)?;
        let holder = view.facts.holder.as_ref();
        let asleep = state == PowerState::Asleep && holder.is_some();
        let limit = view.settings.limits.power_state.asleep_for;
        let bad = self
            .asleep
            .update(now, asleep)
            .is_some_and(|held| held >= limit);
        let latched = self.latch.update(now, bad, bad, view.settings.clear_after);
        if !latched {
            return Ok(match state {
                PowerState::D0 => Finding::healthy("awake"),
                PowerState::Asleep => {
                    Finding::healthy("asleep, as the kernel leaves what nobody uses")
                }
                PowerState::Unknown => Finding::not_applicable("the kernel does not know it"),
            });
        }
        let pid = holder.map_or_else(|| "none".to_owned(), |holder| holder.pid.to_string());
        let reason = format!("process {pid} has it open, and it does not wake up");
        let limit = format!("D0 within {}", config::duration(limit));
        let evidence = view.evidence("power_state", "D1 to D3", limit, FactKind::PowerState);
        Ok(Finding::degraded(reason, Action::Watch)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}
