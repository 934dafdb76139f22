//! Port speed: what the manifest wants, or else no lower than it was before, and in both directions at once.

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
        let wanted = view.wanted().port.mbit;
        let least = wanted.unwrap_or(self.best);
        // A port that negotiates with one that does not comes out at half duplex, and collides with all that it sends.
        let half = port.full_duplex == Some(false);
        let bad = speed < least || half;
        let samples = view.settings.limits.port_speed;
        let trigger = self.samples.push(bad, samples);
        if !self
            .latch
            .update(view.now.uptime, trigger, bad, view.settings.clear_after)
        {
            return Ok(Finding::healthy(format!("{speed} Mbit/s")));
        }
        if half {
            let limit = format!("full, {samples}");
            let evidence = view.evidence("duplex", "half", limit, source);
            let reason = "the port runs at half duplex: it and the switch negotiated differently";
            return Ok(Finding::degraded(reason, Action::Watch).with(evidence));
        }
        let found = format!("{speed} Mbit/s");
        let (finding, limit) = match wanted {
            Some(_) => (
                Finding::degraded(
                    format!("the port runs at {speed} Mbit/s, and the manifest wants {least}"),
                    Action::Drain,
                ),
                format!("{least} Mbit/s, as the manifest wants, {samples}"),
            ),
            None => (
                Finding::degraded(
                    format!("the port is slower than it was: {speed} of {least} Mbit/s"),
                    Action::Watch,
                )
                .sure(Confidence::Medium),
                format!("{least} Mbit/s as before, {samples}"),
            ),
        };
        Ok(finding.with(view.evidence("speed", found, limit, source)))
    }
}
