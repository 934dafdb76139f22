//! The firmware's version, against the manifest.

use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Version {}

impl Check for Version {
    fn name(&self) -> &'static str {
        "firmware_version"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let wanted = view.wanted();
        let limit = match (wanted.firmware_from, wanted.firmware_to) {
            (None, None) => {
                return Ok(Finding::not_applicable("the manifest names no version"));
            }
            (Some(from), None) => format!("{from} or newer"),
            (None, Some(to)) => format!("{to} or older"),
            (Some(from), Some(to)) if from == to => from.to_string(),
            (Some(from), Some(to)) => format!("{from} to {to}"),
        };
        let Some(found) = vitals.firmware else {
            return Ok(Finding::not_applicable("no firmware runs"));
        };
        let old = wanted.firmware_from.is_some_and(|from| found < from);
        let new = wanted.firmware_to.is_some_and(|to| found > to);
        if !old && !new {
            return Ok(Finding::healthy(found.to_string()));
        }
        let reason = format!("firmware {found}, and the manifest wants {limit}");
        let evidence = view.evidence("firmware version", found, limit, source);
        // Other firmware is for a time without jobs.
        Ok(Finding::degraded(reason, Action::Drain).with(evidence))
    }
}
