//! Uncorrectable PCIe errors, by what the kernel's counters grow.

use serde::{Deserialize, Serialize};

use super::life::Life;
use super::over_time::{Counter, Latch};
use super::{Check, Clearing, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Evidence};

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct AerUncorrectable {
    fatal: Counter,
    nonfatal: Counter,
    latch: Latch,
    recent: u64,
    open: Option<Open>,
}

/// A fatal error that nothing has made good yet.
#[derive(Debug, Serialize, Deserialize)]
struct Open {
    #[serde(flatten)]
    life: Life,
    evidence: Evidence,
}

impl Check for AerUncorrectable {
    fn name(&self) -> &'static str {
        "aer_uncorrectable"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Aer]
    }

    fn rebooted(&mut self) {
        self.fatal = Counter::default();
        self.nonfatal = Counter::default();
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let Some(aer) = super::known(&view.facts.aer)? else {
            return Ok(Finding::not_applicable(
                "the kernel keeps no AER counters here: no capability, or the firmware owns it",
            ));
        };
        let now = view.now.uptime;
        let (Some(fatal), Some(nonfatal)) = (
            self.fatal.step(now, aer.fatal),
            self.nonfatal.step(now, aer.nonfatal),
        ) else {
            return Ok(Finding::blind(
                "seen once so far: what is new is not known yet",
            ));
        };
        let (fatal, nonfatal) = (fatal.count, nonfatal.count);
        let vitals = view.vitals().ok().map(|(vitals, _)| vitals);
        if fatal > 0 {
            let found = format!("+{fatal}, total {}", aer.fatal);
            self.open = Some(Open {
                life: Life::of(vitals),
                evidence: view.evidence("TOTAL_ERR_FATAL", found, "no increase", FactKind::Aer),
            });
        } else if let Some(vitals) = vitals {
            self.open.take_if(|open| open.life.is_made_good(vitals));
        }
        if nonfatal > 0 {
            self.recent = nonfatal;
        }
        let latched = self.latch.update(
            view.now.uptime,
            nonfatal > 0,
            nonfatal > 0,
            view.settings.clear_after,
        );
        if let Some(open) = &self.open {
            let reason = match open.life.is_known() {
                true => "fatal PCIe error; no new life with a passed self-test since",
                false => "fatal PCIe error; the function cannot prove that it is well again",
            };
            return Ok(Finding::unhealthy(reason, Action::Reset).with(open.evidence.clone()));
        }
        if latched {
            let found = format!("+{}, total {}", self.recent, aer.nonfatal);
            let evidence = view.evidence("TOTAL_ERR_NONFATAL", found, "no increase", FactKind::Aer);
            return Ok(Finding::degraded("non-fatal PCIe error", Action::Watch).with(evidence));
        }
        Ok(Finding::healthy("none new"))
    }

    /// A NIC has no self-test to prove itself with, so a person must; a chip needs a new life at least.
    fn clearing(&self) -> Clearing {
        match self.open.as_ref().and_then(|open| open.life.lasts()) {
            Some(of) => Clearing::Refused(format!(
                "the firmware has not been restarted since the error in generation {of}; reset the chip first"
            )),
            None => Clearing::Anew,
        }
    }
}
