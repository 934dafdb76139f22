//! The devices of a simulated host, and what can be done to them.

use std::path::PathBuf;
use std::time::Instant;

use super::bdf::Bdf;
use super::error::HostError;
use super::nic;
use super::shown_chip::kill_this_process;
use super::updater::{Tree, Updater};
use crate::Chip;
use crate::inject::{InjectError, Injection, MOST_ECHO, Target, Trigger, Verb};

/// A chip of a simulated host.
#[derive(Debug)]
pub struct SimulatedChip {
    /// Where it is.
    pub bdf: Bdf,
    /// Where its vfio-user server listens.
    pub socket: PathBuf,
    /// The chip itself.
    pub chip: Chip,
}

/// A NIC of a simulated host.
#[derive(Clone, Debug)]
pub struct SimulatedNic {
    /// Where it is.
    pub bdf: Bdf,
    /// The network interface that it has at first.
    pub interface: String,
}

/// All of them, and the thread that has the tree follow them.
pub(crate) struct Devices {
    pub(crate) chips: Vec<SimulatedChip>,
    pub(crate) nics: Vec<SimulatedNic>,
    pub(crate) updater: Updater,
}

impl Devices {
    /// Makes something happen to one of them, or has it wait. What has happened the tree shows when this returns.
    pub(crate) fn inject(&self, injection: &Injection) -> Result<(), InjectError> {
        let target = injection.target.as_str();
        if let Some(chip) = self.chips.iter().find(|chip| chip.bdf.is_named(target)) {
            check_kind(injection, Target::Nic, "a chip")?;
            chip.chip.inject_when(injection)?;
            self.updater.change(|_| ());
            return Ok(());
        }
        let nics = self.updater.change(|tree| {
            let nics = tree.nics.iter();
            nics.map(|nic| (nic.bdf(), nic.interface()))
                .collect::<Vec<_>>()
        });
        let named = |(bdf, interface): &(Bdf, String)| bdf.is_named(target) || interface == target;
        if let Some(index) = nics.iter().position(named) {
            return self.inject_nic(index, injection);
        }
        let chips = self.chips.iter().map(|chip| chip.bdf.to_string());
        let nics = nics
            .iter()
            .map(|(bdf, interface)| format!("{bdf} ({interface})"));
        Err(InjectError::UnknownTarget {
            target: target.chars().take(MOST_ECHO).collect(),
            known: chips.chain(nics).collect(),
        })
    }

    fn inject_nic(&self, index: usize, injection: &Injection) -> Result<(), InjectError> {
        let Injection { verb, when, .. } = injection;
        check_kind(injection, Target::Chip, "a NIC")?;
        check_trigger(verb, when)?;
        self.updater.change(|tree| {
            check(verb, index, tree).map_err(|reason| out_of_range(verb, reason))?;
            let now = Instant::now();
            if when.after_ms > 0 || when.every_ms > 0 {
                if let Some(plan) = tree.plans.get_mut(index) {
                    plan.add(injection, now);
                }
                return Ok(());
            }
            match tree.happen(index, verb) {
                Ok(true) => Ok(()),
                Ok(false) => {
                    let reason = "too many flaps are waiting already".to_owned();
                    Err(out_of_range(verb, reason))
                }
                Err(error) => Err(failed(verb, &error)),
            }
        })
    }
}

impl Tree {
    /// Something happens to a NIC. False when it cannot take more of that.
    pub(crate) fn happen(&mut self, nic: usize, verb: &Verb) -> Result<bool, HostError> {
        match verb {
            Verb::ProcessKill => kill_this_process(),
            Verb::Heal => {
                if let Some(plan) = self.plans.get_mut(nic) {
                    plan.clear();
                }
            }
            _ => {}
        }
        match self.nics.get_mut(nic) {
            Some(nic) => nic.happen(verb, &mut self.log),
            None => Ok(true),
        }
    }
}

/// # Errors
/// [`InjectError::WrongKind`] when the fault is only of the other kind of devices.
fn check_kind(
    injection: &Injection,
    other: Target,
    found: &'static str,
) -> Result<(), InjectError> {
    let Injection { target, verb, .. } = injection;
    if verb.entry().target != other {
        return Ok(());
    }
    Err(InjectError::WrongKind {
        verb: verb.name(),
        expected: other.plural(),
        target: target.clone(),
        found,
    })
}

/// # Errors
/// [`InjectError::OutOfRange`] for what a NIC has no occasion for.
fn check_trigger(verb: &Verb, when: &Trigger) -> Result<(), InjectError> {
    when.check(verb)?;
    let nothing = Trigger {
        after_ms: when.after_ms,
        every_ms: when.every_ms,
        times: when.times,
        seed: when.seed,
        ..Trigger::default()
    };
    if *when == nothing {
        return Ok(());
    }
    Err(InjectError::OutOfRange {
        verb: verb.name(),
        reason: "a simulated NIC runs no commands and has no registers: its faults wait for after_ms, every_ms and times only"
            .to_owned(),
    })
}

/// What is wrong with a fault's parameters for the NIC of an index.
fn check(verb: &Verb, index: usize, tree: &Tree) -> Result<(), String> {
    let most = nic::SLOT;
    match verb {
        Verb::AerCorrectable { count: 0 }
        | Verb::AerNonfatal { count: 0 }
        | Verb::AerFatal { count: 0 } => Err("count is at least 1".to_owned()),
        Verb::LinkWidth { lanes } if !lanes.is_power_of_two() || *lanes > most.width => {
            let most = most.width;
            Err(format!("lanes are 1, 2, 4, 8 or {most}, not {lanes}"))
        }
        Verb::LinkSpeed { generation } if !(1..=most.speed).contains(generation) => {
            let most = most.speed;
            Err(format!("generation is 1 to {most}, not {generation}"))
        }
        Verb::CarrierFlap { count, .. } if !(1..=1000).contains(count) => {
            Err(format!("count is 1 to 1000, not {count}"))
        }
        Verb::CarrierFlap { down_ms, .. } if !(1..=3_600_000).contains(down_ms) => {
            Err(format!("down_ms is 1 to 3600000, not {down_ms}"))
        }
        Verb::PortSpeed { mbit } if !(10..=10_000_000).contains(mbit) => {
            Err(format!("mbit is 10 to 10000000, not {mbit}"))
        }
        Verb::InterfaceRename { name } => check_name(name, index, tree),
        Verb::NicFirmware { firmware: version }
            if version.is_empty()
                || version.len() > 31
                || !version.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Err("firmware is 1 to 31 printable characters".to_owned())
        }
        _ => Ok(()),
    }
}

/// The rules of the kernel's `dev_valid_name` (`net/core/dev.c`), and that no two have the same name.
fn check_name(name: &str, index: usize, tree: &Tree) -> Result<(), String> {
    let forbidden = |byte: u8| !byte.is_ascii_graphic() || matches!(byte, b'/' | b':');
    if !(1..=15).contains(&name.len()) || matches!(name, "." | "..") || name.bytes().any(forbidden)
    {
        return Err("name is 1 to 15 printable characters other than / and :".to_owned());
    }
    let others = tree.nics.iter().enumerate();
    let taken = others
        .filter(|(other, _)| *other != index)
        .find(|(_, nic)| nic.claims(name));
    match taken {
        Some((_, nic)) => Err(format!("{} has the name {name:?}", nic.bdf())),
        None => Ok(()),
    }
}

fn out_of_range(verb: &Verb, reason: String) -> InjectError {
    InjectError::OutOfRange {
        verb: verb.name(),
        reason,
    }
}

fn failed(verb: &Verb, error: &HostError) -> InjectError {
    InjectError::Failed {
        verb: verb.name(),
        reason: error.to_string(),
    }
}
