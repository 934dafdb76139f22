//! PCIe link: as wide and as fast as both ends can do.

use serde::{Deserialize, Serialize};

use super::over_time::{Latch, Majority};
use super::{Check, Finding, View};
use crate::facts::{FactKind, LinkRate, Presence};
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Link {
    samples: Majority,
    latch: Latch,
}

impl Check for Link {
    fn name(&self) -> &'static str {
        "link"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Link, FactKind::Presence]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        if let Some(Err(error)) = &view.facts.link
            && error.is_not_found()
            && view.facts.presence == Some(Ok(Presence::Present))
        {
            return Ok(Finding::not_applicable(
                "the host shows no link: not a PCIe function",
            ));
        }
        let link = super::known(&view.facts.link)?;
        let Some(max) = link.max else {
            return Ok(Finding::not_applicable(
                "the host does not know what the link could be",
            ));
        };
        let Some(current) = link.current else {
            return Ok(Finding::blind("the link is down or trains"));
        };
        let bad = current.width < max.width || current.megatransfers < max.megatransfers;
        if view.in_boot_grace() && bad {
            return Ok(Finding::pending(format!(
                "{}, and the host has only just booted: links train late",
                show(current)
            )));
        }
        let samples = view.settings.limits.link;
        let trigger = self.samples.push(bad, samples);
        let latched = self
            .latch
            .update(view.now.uptime, trigger, bad, view.settings.clear_after);
        if !latched {
            return Ok(Finding::healthy(show(current)));
        }
        let reason = match bad {
            true => format!("the link runs at {} of {}", show(current), show(max)),
            false => format!("the link was below {} lately", show(max)),
        };
        let limit = format!("{}, {samples}", show(max));
        let evidence = view.evidence(
            "current_link_width, current_link_speed",
            show(current),
            limit,
            FactKind::Link,
        );
        // Seating, a riser, a slot: hands are needed, at a time of the operators' choice.
        Ok(Finding::degraded(reason, Action::Drain).with(evidence))
    }
}

fn show(rate: LinkRate) -> String {
    format!(
        "x{} at {:.1} GT/s",
        rate.width,
        f64::from(rate.megatransfers) / 1000.0
    )
}
