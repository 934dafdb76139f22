//! Lanes of a port's link: as many as the manifest wants, or else no fewer than before.

use serde::{Deserialize, Serialize};

use super::over_time::{Latch, Majority};
use super::{Check, Finding, View};
use crate::facts::{FactKind, Query};
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortLanes {
    best: u32,
    samples: Majority,
    latch: Latch,
}

impl Check for PortLanes {
    fn name(&self) -> &'static str {
        "port_lanes"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Ethtool]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (ethtool, source) = view.ethtool(&[Query::Lanes])?;
        let Some(lanes) = ethtool.lanes else {
            return Ok(Finding::not_applicable(
                "the driver does not say, or there is no carrier",
            ));
        };
        self.best = self.best.max(lanes);
        let wanted = view.wanted().port.lanes;
        let least = wanted.unwrap_or(self.best);
        let bad = lanes < least;
        let samples = view.settings.limits.port_lanes;
        let trigger = self.samples.push(bad, samples);
        let clear = view.settings.clear_after;
        if !self.latch.update(view.now.uptime, trigger, bad, clear) {
            return Ok(Finding::healthy(format!("{lanes} lanes")));
        }
        let (reason, limit) = match wanted {
            Some(_) => (
                format!("the port's link has {lanes} lanes, and the manifest wants {least}"),
                format!("{least}, as the manifest wants, {samples}"),
            ),
            None => (
                format!("the port's link has {lanes} lanes of the {least} that it had"),
                format!("{least} as before, {samples}"),
            ),
        };
        let evidence = view.evidence("lanes", lanes, limit, source);
        Ok(Finding::degraded(reason, Action::Watch).with(evidence))
    }
}
