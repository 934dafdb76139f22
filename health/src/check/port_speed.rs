//! Port speed: no lower than it was before. What it should be is the host profile's to say.

use serde::{Deserialize, Serialize};

use super::over_time::{Latch, Majority};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortSpeed {
    best: u64,
    samples: Majority,
    latch: Latch,
}

impl Check for PortSpeed {
    fn name(&self) -> &'static str {
        "port_speed"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Port]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (port, source) = view.port()?;
        let Some(speed) = port.speed_mbit else {
            return Ok(Finding::not_applicable("no speed without a carrier"));
        };
        self.best = self.best.max(speed);
        let bad = speed < self.best;
        let samples = view.settings.limits.port_speed;
        let trigger = self.samples.push(bad, samples);
        if !self
            .latch
            .update(view.now.uptime, trigger, bad, view.settings.clear_after)
        {
            return Ok(Finding::healthy(format!("{speed} Mbit/s")));
        }
        let best = self.best;
        let limit = format!("{best} Mbit/s as before, {samples}");
        let evidence = view.evidence("speed", format!("{speed} Mbit/s"), limit, source);
        let reason = format!("the port is slower than it was: {speed} of {best} Mbit/s");
        Ok(Finding::degraded(reason, Action::Watch)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}
