//! Injects faults into a NIC, one after the other, and holds what the agent says against what it should.

use std::time::{Duration, Instant};

use auk_health::verdict::HealthState;
use auk_sim::host::SimulatedNic;
use auk_sim::inject::{Injection, Verb};
use fastrand::Rng;

use super::cases::is_chosen;
use super::director::{QUIET, Scene};

/// An RDMA port is given half a minute to come back before it is held against the NIC.
const PATIENCE: Duration = Duration::from_secs(60);
/// The agent looks twice in that time.
const LOOK: Duration = Duration::from_secs(1);
/// Looks of the agent at a port that is well, in which it must not find fault with it.
const LOOKS: Duration = Duration::from_secs(3);
/// Longer than a soak waits: until it is healed.
const FOR_EVER: u64 = 3_600_000;

/// One fault of a soak's NIC.
#[derive(Clone, Debug)]
pub(super) struct Case {
    verb: Verb,
    /// What counts of it are told under; NICs and chips have some faults in common.
    name: &'static str,
    /// The check of the agent that sees it; none if it is to find nothing.
    check: Option<&'static str>,
}

impl Case {
    const fn new(verb: Verb, name: &'static str, check: Option<&'static str>) -> Self {
        Self { verb, name, check }
    }

    fn end(&self) -> Verb {
        match self.verb {
            Verb::Remove => Verb::Return,
            _ => Verb::Heal,
        }
    }
}

/// Every fault that can befall a NIC, but for `heal` and `return`, which end others, and `process-kill`.
fn all() -> Vec<Case> {
    vec![
        Case::new(
            Verb::CarrierFlap {
                count: 1,
                down_ms: FOR_EVER,
            },
            "nic carrier-flap, down",
            Some("carrier"),
        ),
        Case::new(
            Verb::CarrierFlap {
                count: 4,
                down_ms: 20,
            },
            "nic carrier-flap",
            Some("carrier_flaps"),
        ),
        Case::new(
            Verb::PortSpeed { mbit: 100_000 },
            "nic port-speed",
            Some("port_speed"),
        ),
        // A burst passes: these rules want a rate that stays for minutes.
        Case::new(Verb::PortErrors { count: 3000 }, "nic port-errors", None),
        Case::new(Verb::PortDrops { count: 100_000 }, "nic port-drops", None),
        Case::new(
            Verb::RdmaPort { up: false },
            "nic rdma-port",
            Some("rdma_port"),
        ),
        Case::new(Verb::DriverReload, "nic driver-reload", None),
        Case::new(
            Verb::InterfaceRename {
                name: String::new(),
            },
            "nic interface-rename",
            None,
        ),
        // By ethtool, which a simulated host has not.
        Case::new(
            Verb::NicFirmware {
                firmware: "28.40.1000".to_owned(),
            },
            "nic nic-firmware",
            None,
        ),
        Case::new(Verb::LinkWidth { lanes: 2 }, "nic link-width", Some("link")),
        Case::new(
            Verb::LinkSpeed { generation: 2 },
            "nic link-speed",
            Some("link"),
        ),
        Case::new(
            Verb::AerCorrectable { count: 1 },
            "nic aer-correctable",
            None,
        ),
        Case::new(
            Verb::AerNonfatal { count: 1 },
            "nic aer-nonfatal",
            Some("aer_uncorrectable"),
        ),
        Case::new(
            Verb::AerFatal { count: 1 },
            "nic aer-fatal",
            Some("aer_uncorrectable"),
        ),
        Case::new(Verb::Remove, "nic remove", Some("presence")),
    ]
}

/// Names of their verbs.
pub(super) fn names() -> Vec<&'static str> {
    all().iter().map(|case| case.verb.name()).collect()
}

/// Those of these verbs; all if there are none.
pub(super) fn chosen(names: &[String]) -> Vec<Case> {
    let mut cases = all();
    cases.retain(|case| is_chosen(&case.verb, names));
    cases
}

/// One NIC, and one that is left alone.
pub(super) struct NicDirector<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) nic: &'a SimulatedNic,
    pub(super) alone: &'a SimulatedNic,
    pub(super) cases: Vec<Case>,
}

impl NicDirector<'_> {
    /// Goes through the mix in ever another order, until it is told to stop.
    pub(super) fn direct(&self, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let mut deck: Vec<Case> = Vec::new();
        self.scene
            .until(PATIENCE, || self.is_well() || self.scene.stopping());
        while !self.scene.stopping() {
            let Some(mut case) = deck.pop() else {
                deck.clone_from(&self.cases);
                random.shuffle(&mut deck);
                continue;
            };
            if let Verb::InterfaceRename { name } = &mut case.verb {
                // Another each time.
                *name = format!("soak{}", random.u32(..100_000));
            }
            self.play(&case);
            let alone = self.alone.bdf.to_string();
            let other = self.scene.state(&alone);
            if other != Some(HealthState::Healthy) {
                let name = case.name;
                self.unexplained(&format!(
                    "after {name} {alone}, which was left alone, is {other:?}"
                ));
            }
            std::thread::sleep(QUIET);
        }
    }

    fn play(&self, case: &Case) {
        let bdf = self.nic.bdf.to_string();
        let Case { name, check, .. } = case;
        let inject = |verb: Verb| {
            let injected = self.scene.host.inject(&Injection::new(bdf.clone(), verb));
            injected.map_err(|error| self.unexplained(&format!("{name}: {error}")))
        };
        let begun = Instant::now();
        if inject(case.verb.clone()).is_err() {
            return;
        }
        let is_found = |state| matches!(state, HealthState::Degraded | HealthState::Unhealthy);
        let seen = match *check {
            Some(check) => self.scene.until(PATIENCE, || {
                self.scene.says(&bdf, check).is_some_and(is_found)
            }),
            None => !self
                .scene
                .until(LOOKS, || self.scene.state(&bdf).is_some_and(is_found)),
        };
        let detection = begun.elapsed();
        let ended = Instant::now();
        let _ = inject(case.end());
        let mut asked = Instant::now();
        let recovered = self.scene.until(PATIENCE, || {
            // That it was ill three times is held against it until somebody says otherwise, and so is some of what was seen once.
            if self.scene.state(&bdf).is_some_and(is_found) && asked.elapsed() > LOOK {
                asked = Instant::now();
                self.scene.clear(&bdf, None);
            }
            self.is_well()
        });
        let recovery = ended.elapsed();
        if self.scene.stopping() && !(seen && recovered) {
            return;
        }
        if !seen {
            self.unexplained(&format!("{name}: of {check:?} the agent says otherwise"));
        }
        if !recovered {
            let held = self.scene.reasons(&bdf);
            self.unexplained(&format!(
                "{name} is over, and the NIC is not well again: {held}"
            ));
        }
        self.scene.note(|record| {
            let outcome = record.outcomes.entry(name).or_default();
            outcome.add((seen, detection), (recovered, recovery));
        });
    }

    fn is_well(&self) -> bool {
        self.scene.state(&self.nic.bdf.to_string()) == Some(HealthState::Healthy)
    }

    fn unexplained(&self, what: &str) {
        let line = format!("{}: {what}", self.nic.bdf);
        self.scene.note(|record| record.unexplained.push(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auk_sim::inject::Target;

    #[test]
    fn every_fault_of_a_nic_is_in_the_mix() {
        let mut mixed = names();
        mixed.extend(["heal", "return", "process-kill"]);
        mixed.sort_unstable();
        mixed.dedup();
        let nics = Verb::CATALOGUE
            .iter()
            .filter(|entry| entry.target != Target::Chip);
        let mut known: Vec<_> = nics.map(|entry| entry.name).collect();
        known.sort_unstable();
        assert_eq!(mixed, known);
    }
}
