//! The last fault, which survives resets: a crash between two looks leaves only this.

use auk_asic::Fault;
use serde::{Deserialize, Serialize};

use super::over_time::Latch;
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LastFault {
    known: Option<Option<(Fault, u32)>>,
    latch: Latch,
}

impl Check for LastFault {
    fn name(&self) -> &'static str {
        "last_fault"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let before = self.known.replace(vitals.last_fault);
        let Some((fault, generation)) = vitals.last_fault else {
            return Ok(Finding::healthy("none since power-on"));
        };
        // At first sight only a fault of this life is news.
        let news = match before {
            Some(before) => before != vitals.last_fault,
            None => generation == vitals.generation,
        };
        // The rule on uncorrectable memory errors has its own way to clear.
        let news = news && fault != Fault::EccUncorrectable;
        let bad = news || vitals.fault == Some(fault);
        let latched = self
            .latch
            .update(view.now.uptime, news, bad, view.settings.clear_after);
        if !latched {
            return Ok(Finding::healthy(format!(
                "{fault} in generation {generation}"
            )));
        }
        let found = format!("{fault} in generation {generation}");
        let minutes = view.settings.clear_after.as_secs() / 60;
        let limit = format!("none in {minutes} min");
        let evidence = view.evidence("last_fault", found, limit, source);
        let reason = format!("the chip stopped lately: {fault}, in generation {generation}");
        Ok(Finding::degraded(reason, Action::Watch)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}
