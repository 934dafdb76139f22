//! The devices of a simulated host, and what can be done to them.

use std::path::PathBuf;
use std::time::Duration;

use super::bdf::Bdf;
use super::nic::{self, Nic};
use super::updater::Updater;
use crate::inject::{InjectError, Injection, MOST_ECHO, Target, Verb};
use crate::{Chip, Serving};

/// A chip of a simulated host.
#[derive(Debug)]
pub struct SimulatedChip {
    /// Where it is.
    pub bdf: Bdf,
    /// Where its vfio-user server listens.
    pub socket: PathBuf,
    /// The chip itself.
    pub chip: Chip,
    pub(crate) _serving: Serving,
}

/// A NIC of a simulated host.
#[derive(Clone, Debug)]
pub struct SimulatedNic {
    /// Where it is.
    pub bdf: Bdf,
    /// Its network interface.
    pub interface: String,
}

/// All of them, and the thread that has the tree follow them.
pub(crate) struct Devices {
    pub(crate) chips: Vec<SimulatedChip>,
    pub(crate) nics: Vec<SimulatedNic>,
    pub(crate) updater: Updater,
}

impl Devices {
    /// Makes something happen to one of them. The tree shows it when this returns.
    pub(crate) fn inject(&self, injection: &Injection) -> Result<(), InjectError> {
        let target = injection.target.as_str();
        if let Some(chip) = self.chips.iter().find(|chip| chip.bdf.is_named(target)) {
            if injection.verb.entry().target == Target::Nic {
                return Err(wrong_kind(&injection.verb, "NICs", target, "a chip"));
            }
            chip.chip.inject_when(injection)?;
            self.updater.change(|_| ());
            return Ok(());
        }
        let mut nics = self.nics.iter();
        if let Some(index) =
            nics.position(|nic| nic.bdf.is_named(target) || nic.interface == target)
        {
            return self.inject_nic(index, target, &injection.verb);
        }
        let chips = self.chips.iter().map(|chip| chip.bdf.to_string());
        let nics = self
            .nics
            .iter()
            .map(|nic| format!("{} ({})", nic.bdf, nic.interface));
        Err(InjectError::UnknownTarget {
            target: target.chars().take(MOST_ECHO).collect(),
            known: chips.chain(nics).collect(),
        })
    }

    fn inject_nic(&self, index: usize, target: &str, verb: &Verb) -> Result<(), InjectError> {
        let change = |change: &mut dyn FnMut(&mut Nic) -> bool| {
            self.updater
                .change(|tree| tree.nics.get_mut(index).is_some_and(change))
        };
        let nic = |done: &dyn Fn(&mut Nic)| {
            change(&mut |nic| {
                done(nic);
                true
            });
            Ok(())
        };
        match *verb {
            Verb::LinkWidth { lanes } => {
                let most = nic::SLOT.width;
                if !lanes.is_power_of_two() || lanes > most {
                    let reason = format!("lanes are 1, 2, 4, 8 or {most}, not {lanes}");
                    return Err(out_of_range(verb, reason));
                }
                nic(&|nic| nic.set_width(lanes))
            }
            Verb::CarrierFlap { count, down_ms } => {
                if !(1..=1000).contains(&count) {
                    return Err(out_of_range(
                        verb,
                        format!("count is 1 to 1000, not {count}"),
                    ));
                }
                if !(1..=3_600_000).contains(&down_ms) {
                    let reason = format!("down_ms is 1 to 3600000, not {down_ms}");
                    return Err(out_of_range(verb, reason));
                }
                let down = Duration::from_millis(down_ms);
                if change(&mut |nic| nic.flap(count, down)) {
                    Ok(())
                } else {
                    let reason = "too many flaps are waiting already".to_owned();
                    Err(out_of_range(verb, reason))
                }
            }
            Verb::PortSpeed { mbit } => {
                if !(10..=10_000_000).contains(&mbit) {
                    let reason = format!("mbit is 10 to 10000000, not {mbit}");
                    return Err(out_of_range(verb, reason));
                }
                nic(&|nic| nic.set_speed(mbit))
            }
            Verb::PortErrors { count } => nic(&|nic| nic.damage(count)),
            Verb::PortDrops { count } => nic(&|nic| nic.drop_packets(count)),
            Verb::RdmaPort { up } => nic(&|nic| nic.set_rdma(up)),
            Verb::DriverReload => nic(&|nic| nic.reload()),
            _ => Err(wrong_kind(verb, "chips", target, "a NIC")),
        }
    }
}

fn wrong_kind(
    verb: &Verb,
    expected: &'static str,
    target: &str,
    found: &'static str,
) -> InjectError {
    InjectError::WrongKind {
        verb: verb.name(),
        expected,
        target: target.to_owned(),
        found,
    }
}

fn out_of_range(verb: &Verb, reason: String) -> InjectError {
    InjectError::OutOfRange {
        verb: verb.name(),
        reason,
    }
}
