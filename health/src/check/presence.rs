//! Presence: a component that was seen is still there.

use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::{self, FactKind, PortGone};
use crate::verdict::{Action, Evidence};

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The same number of good ones takes it back.
    reads: u32,
    /// As `reads`, of a function that the host lists no more.
    unlisted_reads: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reads: 3,
            unlisted_reads: 2,
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "a link that retrains and a function that resets read as all ones for a moment";
        keys.within("reads", &mut self.reads, 1..=100, why);
        let why = "no reset takes a function off the kernel's list; a second look pardons a rescan right after a removal";
        keys.within("unlisted_reads", &mut self.unlisted_reads, 1..=100, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Presence {
    seen: bool,
    missed: u32,
    /// The last of those missed, in which the host did not list it.
    #[serde(default)]
    unlisted: u32,
    gone: bool,
    answered: u32,
}

impl Check for Presence {
    fn name(&self) -> &'static str {
        super::PRESENCE
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Presence]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let limits = &view.settings.limits.presence;
        let (found, reason) = match super::known(&view.facts.presence)? {
            facts::Presence::Present => return Ok(self.answered(limits)),
            facts::Presence::Absent => {
                self.unlisted = self.unlisted.saturating_add(1);
                ("not listed", "the host does not list it any more")
            }
            facts::Presence::AllOnes => {
                self.unlisted = 0;
                (
                    "0xffffffff",
                    "it is listed and reads as all ones: off the bus",
                )
            }
        };
        self.answered = 0;
        self.missed = self.missed.saturating_add(1);
        let entry = view
            .settings
            .manifest
            .entry(view.kind, view.bdf, view.identity);
        if !self.seen && entry.is_none() {
            return Ok(Finding::pending(
                "it has not answered since the agent started",
            ));
        }
        if let Some(hold) = view.held {
            return Ok(Finding::pending(format!(
                "it does not answer, and is {hold}"
            )));
        }
        if view.in_boot_grace() {
            return Ok(Finding::pending(
                "it does not answer, and the host has only just booted",
            ));
        }
        let reads = self.needed(limits);
        if self.missed < reads {
            let reason = format!("it does not answer, read {} of {reads}", self.missed);
            return Ok(Finding::pending(reason));
        }
        self.gone = true;
        if let Some(Ok(Some(port))) = &view.facts.port_gone {
            return Ok(explained(view, port));
        }
        let limit = format!("an answer in {reads} reads");
        let mut evidence = view.evidence("vendor and device ID", found, limit, FactKind::Presence);
        let mut reason = reason.to_owned();
        if let (false, Some(entry)) = (self.seen, entry) {
            reason = format!("{} in the manifest was not seen: {found}", entry.name);
            evidence.source = entry.describe();
        }
        Ok(Finding::unhealthy(reason, Action::Reboot).with(evidence))
    }
}

impl Presence {
    /// Reads that must agree.
    fn needed(&self, limits: &Limits) -> u32 {
        match self.unlisted {
            0 => limits.reads,
            _ => limits.unlisted_reads,
        }
    }

    fn answered(&mut self, limits: &Limits) -> Finding {
        self.seen = true;
        self.missed = 0;
        self.answered = self.answered.saturating_add(1);
        let reads = self.needed(limits);
        if self.gone && self.answered < reads {
            let reason = format!("it answers again, read {} of {reads}", self.answered);
            return Finding::pending(reason);
        }
        self.gone = false;
        self.unlisted = 0;
        Finding::healthy("it answers")
    }
}

/// All that is below a port goes with it: one thing to repair, and it is not the function.
fn explained(view: &View<'_>, port: &PortGone) -> Finding {
    let found = match port.presence {
        facts::Presence::Absent => "not listed",
        _ => "0xffffffff",
    };
    let reason = format!("the port above, {}, is gone", port.bdf);
    let evidence = Evidence {
        what: "vendor and device ID".to_owned(),
        found: found.to_owned(),
        limit: "an answer".to_owned(),
        source: format!("/sys/bus/pci/devices/{}/config", port.bdf),
        at_unix_ms: view.now.unix_ms,
    };
    let finding = Finding::unhealthy(reason, Action::Reboot).with(evidence);
    Finding {
        blamed_on: Some(port.bdf.clone()),
        ..finding
    }
}
