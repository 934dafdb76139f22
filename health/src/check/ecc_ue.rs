//! Uncorrectable memory errors.
//!
//! A driver resets a chip at once after one, and the next look sees a running chip again. So the
//! rule looks at what survives the reset: the lifetime count and the last fault. Neither time nor
//! a restart alone proves that the memory is good; a passed self-test in a newer life does. An agent
//! that comes later finds the error by its last fault, unless that proof is there.

use auk_asic::vitals::Vitals;
use auk_asic::{Fault, SelfTest};
use serde::{Deserialize, Serialize};

use super::{Check, Clearing, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Evidence};

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct EccUe {
    /// Count and generation of the last look.
    last: Option<(u32, u32)>,
    open: Option<Open>,
    cleared: Option<String>,
}

/// An error that nothing has made good yet.
#[derive(Debug, Serialize, Deserialize)]
struct Open {
    /// Generation in which it was.
    generation: u32,
    /// The generations began anew since: the chip lost power, which is a new life too.
    power_cycled: bool,
    evidence: Vec<Evidence>,
}

impl Check for EccUe {
    fn name(&self) -> &'static str {
        "ecc_ue"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let last = self.last.replace((vitals.ecc_ue, vitals.generation));
        if let (Some(open), Some((_, generation))) = (&mut self.open, last) {
            open.power_cycled |= vitals.generation < generation;
        }
        // An error and its cure between two looks are still told: unhealthy first, cleared by the next.
        if !self.find(view, vitals, source, last.map(|(count, _)| count)) {
            self.clear(vitals);
        }
        Ok(match &self.open {
            Some(open) => {
                let missing = open.missing(vitals);
                let reason = format!(
                    "uncorrectable memory error in generation {}; {missing}",
                    open.generation
                );
                let evidence = open.evidence.clone();
                Finding {
                    evidence,
                    ..Finding::unhealthy(reason, Action::Reset)
                }
            }
            None => {
                let count = vitals.ecc_ue;
                let reason = self.cleared.clone();
                Finding::healthy(reason.unwrap_or_else(|| format!("lifetime {count}, none new")))
                    .with(view.evidence("ecc_ue", count, "no increase", source))
            }
        })
    }

    /// A person may vouch for memory that no self-test can prove, as on a prototype; nobody may for memory that still
    /// holds what the error left.
    fn clearing(&self) -> Clearing {
        let (Some(open), Some((_, generation))) = (&self.open, self.last) else {
            return Clearing::Anew;
        };
        if generation > open.generation || open.power_cycled {
            return Clearing::ByCheck;
        }
        Clearing::Refused(format!(
            "the firmware has not been restarted since the error in generation {}; restart it, and its self-test clears \
             this by itself",
            open.generation
        ))
    }

    fn clear(&mut self, why: &str) {
        self.open = None;
        self.cleared = Some(why.to_owned());
    }
}

impl EccUe {
    /// Looks for a new error; true when there is one.
    fn find(
        &mut self,
        view: &View<'_>,
        vitals: &Vitals,
        source: FactKind,
        last: Option<u32>,
    ) -> bool {
        let count = vitals.ecc_ue;
        let fault_generation = vitals
            .last_fault
            .and_then(|(fault, of)| (fault == Fault::EccUncorrectable).then_some(of));
        // A count that went down was cleared by a loss of power: all that it shows is new.
        let growth = last.filter(|&last| count != last && count > 0);
        let unproven = fault_generation.filter(|&generation| match last {
            None => !proven_good(vitals, generation),
            Some(_) => generation == vitals.generation && !self.knows(generation),
        });
        if let Some(last) = growth {
            let generation = fault_generation.unwrap_or(vitals.generation);
            let found = format!("{last} -> {count}");
            let evidence = view.evidence("ecc_ue", found, "no increase", source);
            self.open(generation, evidence);
        } else if let Some(generation) = unproven {
            let evidence = view.evidence("ecc_ue", count, "no increase", source);
            self.open(generation, evidence);
            if let Some(open) = &mut self.open {
                open.power_cycled = vitals.generation < generation;
            }
        } else {
            return false;
        }
        if let (Some(open), Some(generation)) = (&mut self.open, fault_generation) {
            let found = format!("EccUncorrectable in generation {generation}");
            let limit = "a self-test Passed in a newer generation";
            open.evidence
                .push(view.evidence("last_fault", found, limit, source));
        }
        true
    }

    fn knows(&self, generation: u32) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.generation == generation && !open.power_cycled)
    }

    fn open(&mut self, generation: u32, evidence: Evidence) {
        self.cleared = None;
        self.open = Some(Open {
            generation,
            power_cycled: false,
            evidence: vec![evidence],
        });
    }

    fn clear(&mut self, vitals: &Vitals) {
        let Some(open) = &self.open else { return };
        if open.new_life(vitals) && vitals.self_test_passed() {
            let generation = vitals.generation;
            self.cleared = Some(format!(
                "recovered: generation {generation} after the error in generation {}, self-test \
                 Passed in generation {}",
                open.generation, vitals.self_test_generation
            ));
            self.open = None;
        }
    }
}

/// Whether a life after the error's passed a self-test.
fn proven_good(vitals: &Vitals, error_generation: u32) -> bool {
    let began_anew = vitals.generation < error_generation;
    vitals.self_test == SelfTest::Passed
        && (vitals.self_test_generation > error_generation
            || (began_anew && vitals.self_test_passed()))
}

impl Open {
    fn new_life(&self, vitals: &Vitals) -> bool {
        vitals.generation > self.generation || self.power_cycled
    }

    /// What still lacks before it is made good.
    fn missing(&self, vitals: &Vitals) -> String {
        let generation = vitals.generation;
        if !self.new_life(vitals) {
            return "the firmware has not been restarted since".to_owned();
        }
        if vitals.self_test == SelfTest::Failed && vitals.self_test_generation == generation {
            return format!("self-test Failed in generation {generation}");
        }
        format!("no self-test passed yet in generation {generation}")
    }
}
