//! The driver that is bound, against the manifest: without it jobs cannot open the component.

use serde::{Deserialize, Serialize};

use super::over_time::Majority;
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::Action;

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Driver {
    samples: Majority,
}

impl Check for Driver {
    fn name(&self) -> &'static str {
        "driver"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Driver]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let bound = super::known(&view.facts.driver)?.as_deref();
        let found = bound.unwrap_or("none");
        let Some(wanted) = view.wanted().driver else {
            return Ok(Finding::not_applicable(format!(
                "{found} is bound; the manifest names none"
            )));
        };
        let samples = view.settings.limits.driver;
        // Somebody who binds another one, or this one anew, is done within a few looks.
        if !self.samples.push(bound != Some(&*wanted), samples) {
            return Ok(Finding::healthy(format!("{found} is bound")));
        }
        let reason = format!("driver {found}, and the manifest wants {wanted}");
        let limit = format!("{wanted}, {samples}");
        let evidence = view.evidence("driver", found, limit, FactKind::Driver);
        Ok(Finding {
            // No job can open it.
            hold: true,
            ..Finding::degraded(reason, Action::Watch).with(evidence)
        })
    }
}
