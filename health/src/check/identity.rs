//! Identity: the card is the one that the manifest names, where it names it.

use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::facts::{FactKind, Presence};
use crate::proof::Source;
use crate::verdict::{Action, Evidence};

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IdentityCheck {}

impl Check for IdentityCheck {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Presence]
    }

    fn also_reads(&self) -> &'static [Source] {
        &[Source::Serial, Source::Slot]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let manifest = &view.settings.manifest;
        let Some(entry) = manifest.entry(view.kind, view.bdf, view.identity) else {
            return Ok(Finding::not_applicable("the manifest does not name it"));
        };
        if *super::known(&view.facts.presence)? != Presence::Present {
            return Ok(Finding::not_applicable("it does not answer"));
        }
        let here = view.identity;
        let mut wrong = Vec::new();
        for (what, wanted, found) in [
            ("address", entry.address, Some(view.bdf)),
            ("slot", entry.slot, here.slot.as_deref()),
            ("serial number", entry.serial, here.serial.as_deref()),
        ] {
            let Some(wanted) = wanted else { continue };
            let Some(found) = found else {
                let name = entry.name;
                let reason =
                    format!("its {what} is not known; {name} in the manifest has {wanted}");
                return Ok(Finding::blind(reason));
            };
            if !wanted.eq_ignore_ascii_case(found) {
                wrong.push((what, wanted, found));
            }
        }
        let Some((what, wanted, found)) = wrong.first() else {
            return Ok(Finding::healthy(format!("{} in the manifest", entry.name)));
        };
        let reason = format!(
            "{what} {found}, and {} in the manifest has {wanted}",
            entry.name
        );
        let mut finding = Finding::degraded(reason, Action::Watch);
        for (what, wanted, found) in &wrong {
            let evidence = view.evidence(what, found, wanted, FactKind::Presence);
            let source = format!("manifest, {}", entry.name);
            finding = finding.with(Evidence { source, ..evidence });
        }
        Ok(finding)
    }
}
