//! PCIe link: as wide and as fast as both ends can do and the manifest wants, by what either end says.

use serde::{Deserialize, Serialize};

use super::over_time::{Latch, Majority};
use super::{Check, Finding, View};
use crate::config::Wanted;
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
        &[FactKind::Link, FactKind::LinkAbove, FactKind::Presence]
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
        let wanted = view.wanted();
        let low = |rate: LinkRate| {
            let below = rate.width < max.width || rate.megatransfers < max.megatransfers;
            below || !wanted.is_met_by(rate)
        };
        let above = match &view.facts.link_above {
            // A bridge without PCIe, or a port that is gone, which presence tells.
            Some(Err(error)) if error.is_not_found() => None,
            // One end that is low is enough to know.
            Some(Err(_)) if low(current) => None,
            read => super::known(read)?.and_then(|port| port.current),
        };
        let low_above = above.filter(|above| low(*above));
        let bad = low(current) || low_above.is_some();
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
        let best = match wanted.is_met_by(max) {
            true => show(max),
            false => format!("{}, and the manifest wants {}", show(max), want(&wanted)),
        };
        let reason = match (low(current), low_above) {
            (true, _) => format!("the link runs at {} of {best}", show(current)),
            (false, Some(above)) => {
                format!("the port above runs the link at {} of {best}", show(above))
            }
            (false, None) => format!("the link was below {best} lately"),
        };
        let what = "current_link_width, current_link_speed";
        let limit = format!("{best}, {samples}");
        let evidence = view.evidence(what, show(current), &limit, FactKind::Link);
        // Seating, a riser, a slot: hands are needed, at a time of the operators' choice.
        let mut finding = Finding::degraded(reason, Action::Drain).with(evidence);
        if let Some(above) = above {
            finding = finding.with(view.evidence(what, show(above), limit, FactKind::LinkAbove));
        }
        Ok(finding)
    }
}

fn want(wanted: &Wanted) -> String {
    let width = wanted.link_width.map(|width| format!("x{width}"));
    let rate = wanted
        .link_gigatransfers
        .map(|rate| format!("{rate:.1} GT/s"));
    let parts: Vec<String> = width.into_iter().chain(rate).collect();
    parts.join(" at ")
}

fn show(rate: LinkRate) -> String {
    format!(
        "x{} at {:.1} GT/s",
        rate.width,
        f64::from(rate.megatransfers) / 1000.0
    )
}
