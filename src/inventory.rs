//! What a host shows of one function to whoever looks, without touching it: sysfs, config space, the lease.
//!
//! Each fact is read by itself: one that cannot be read is left out and becomes a line among the problems, and the
//! others are shown all the same.

use std::fmt::Display;

use auk_asic::ident::Model;
use auk_asic::vitals::Vitals;
use auk_driver::pci::{
    Bdf, ConfigSpace, Host, IommuGroup, PciError, PciFunction, VfioHolder, VfioHolders,
};
use auk_driver::{Holder, Lease};
use serde::Serialize;

use crate::failure;

/// Base class and subclass of an Ethernet controller, PCI Code and ID Assignment Specification 1.16, section 1.3.
const ETHERNET: u32 = 0x02_00;
/// The same of an InfiniBand controller.
const INFINIBAND: u32 = 0x02_07;

/// What kind of function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// An A1.
    Accelerator,
    /// A network controller.
    Nic,
    /// Anything else.
    Other,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Accelerator => "accelerator",
            Self::Nic => "NIC",
            Self::Other => "other",
        }
    }
}

/// What was seen of one function. `None` is what it does not have, or what could not be read; then a problem says so.
#[derive(Debug, Serialize)]
pub(crate) struct Seen {
    pub(crate) address: String,
    pub(crate) kind: Kind,
    pub(crate) vendor: Option<String>,
    pub(crate) device: Option<String>,
    pub(crate) model: Option<&'static str>,
    pub(crate) class: Option<String>,
    pub(crate) revision: Option<u8>,
    pub(crate) serial: Option<String>,
    pub(crate) interfaces: Vec<String>,
    pub(crate) driver: Option<String>,
    pub(crate) iommu_group: Option<u32>,
    /// The group with its members; `null` when there is none.
    pub(crate) group: Option<Group>,
    /// Its VFIO character device, below `/dev/vfio/devices`.
    pub(crate) vfio_device: Option<String>,
    /// How the kernel can reset it; `null` when the kernel does not say.
    pub(crate) reset_methods: Option<Vec<String>>,
    pub(crate) numa_node: Option<u32>,
    pub(crate) power_state: Option<String>,
    pub(crate) link: Option<Link>,
    pub(crate) aer: Option<Aer>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) vital_signs: Option<VitalSigns>,
    /// Who has it open; a chip that nobody has is `null`.
    pub(crate) held_by: Option<Holder>,
    /// Processes that have it, or its group, open through the kernel's VFIO, as far as this user may see.
    pub(crate) open_in: Vec<Process>,
    pub(crate) problems: Vec<String>,
}

/// An IOMMU group.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    pub(crate) number: u32,
    /// Whether VFIO can have it.
    pub(crate) viable: bool,
    /// VFIO made it up: no IOMMU guards the host's memory.
    pub(crate) noiommu: bool,
    pub(crate) members: Vec<Member>,
}

/// A device of an IOMMU group.
#[derive(Debug, Serialize)]
pub(crate) struct Member {
    pub(crate) address: String,
    pub(crate) driver: Option<String>,
    pub(crate) bridge: bool,
    /// Whether VFIO can have the group beside it.
    pub(crate) viable: bool,
}

impl From<IommuGroup> for Group {
    fn from(group: IommuGroup) -> Self {
        Self {
            number: group.number,
            viable: group.is_viable(),
            noiommu: group.is_noiommu,
            members: group
                .members
                .into_iter()
                .map(|member| Member {
                    viable: member.is_viable(),
                    address: member.name,
                    driver: member.driver,
                    bridge: member.is_bridge,
                })
                .collect(),
        }
    }
}

/// A process with a node of VFIO open.
#[derive(Debug, Serialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) comm: String,
    pub(crate) node: String,
}

impl From<&VfioHolder> for Process {
    fn from(holder: &VfioHolder) -> Self {
        Self {
            pid: holder.pid,
            comm: holder.comm.clone(),
            node: holder.node.display().to_string(),
        }
    }
}

impl Seen {
    /// Who has it: the lease's holder, and whoever else has it open.
    pub(crate) fn owners(&self) -> Vec<String> {
        let lease = self.held_by.iter().map(ToString::to_string);
        let said = self.held_by.as_ref().map(|holder| holder.pid);
        let others = self
            .open_in
            .iter()
            .filter(|process| Some(process.pid) != said)
            .map(|process| format!("process {} ({})", process.pid, process.comm));
        lease.chain(others).collect()
    }
}

/// The link, as the kernel words it.
#[derive(Debug, Serialize)]
pub(crate) struct Link {
    pub(crate) current_speed: String,
    pub(crate) current_width: u8,
    pub(crate) max_speed: String,
    pub(crate) max_width: u8,
    /// Slower or narrower than it could be; `null` when the kernel does not know.
    pub(crate) degraded: Option<bool>,
}

/// Totals of the kernel's AER counters.
#[derive(Debug, Serialize)]
pub(crate) struct Aer {
    pub(crate) correctable: u64,
    pub(crate) nonfatal: u64,
    pub(crate) fatal: u64,
}

/// A BAR that exists.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    pub(crate) number: usize,
    pub(crate) bytes: u64,
}

/// A fault that was, and the start of the firmware in which it was.
#[derive(Debug, Serialize)]
pub(crate) struct LastFault {
    pub(crate) fault: &'static str,
    pub(crate) generation: u32,
}

/// The vital signs, in the units that people use.
#[derive(Debug, Serialize)]
pub(crate) struct VitalSigns {
    pub(crate) state: &'static str,
    pub(crate) fault: Option<&'static str>,
    pub(crate) generation: u32,
    pub(crate) firmware: Option<String>,
    pub(crate) last_fault: Option<LastFault>,
    pub(crate) self_test: &'static str,
    pub(crate) self_test_generation: u32,
    pub(crate) heartbeat: u32,
    pub(crate) die_celsius: f64,
    pub(crate) memory_celsius: f64,
    pub(crate) throttle_celsius: f64,
    pub(crate) shutdown_celsius: f64,
    pub(crate) power_watts: f64,
    pub(crate) power_limit_watts: f64,
    pub(crate) throttled_by: Vec<&'static str>,
    pub(crate) ecc_correctable: u32,
    pub(crate) ecc_uncorrectable: u32,
    pub(crate) retired_pages: u32,
    pub(crate) pcie_replays: u32,
}

impl From<&Vitals> for VitalSigns {
    fn from(vitals: &Vitals) -> Self {
        let throttle = vitals.throttle;
        let reasons = [
            (throttle.thermal(), "heat"),
            (throttle.power_cap(), "power limit"),
            (throttle.supply(), "supply"),
        ];
        Self {
            state: vitals.state.name(),
            fault: vitals.fault.map(|fault| fault.name()),
            generation: vitals.generation,
            firmware: vitals.firmware.map(|version| version.to_string()),
            last_fault: vitals.last_fault.map(|(fault, generation)| LastFault {
                fault: fault.name(),
                generation,
            }),
            self_test: vitals.self_test.name(),
            self_test_generation: vitals.self_test_generation,
            heartbeat: vitals.heartbeat,
            die_celsius: f64::from(vitals.die_temperature) / 10.0,
            memory_celsius: f64::from(vitals.memory_temperature) / 10.0,
            throttle_celsius: f64::from(vitals.throttle_point) / 10.0,
            shutdown_celsius: f64::from(vitals.shutdown_point) / 10.0,
            power_watts: f64::from(vitals.power) / 1000.0,
            power_limit_watts: f64::from(vitals.power_limit) / 1000.0,
            throttled_by: reasons
                .into_iter()
                .filter_map(|(set, name)| set.then_some(name))
                .collect(),
            ecc_correctable: vitals.ecc_ce,
            ecc_uncorrectable: vitals.ecc_ue,
            retired_pages: vitals.retired_pages,
            pcie_replays: vitals.pcie_replays,
        }
    }
}

/// What kind of function it is, by its identity in sysfs; one that says none is something else.
pub(crate) fn kind(function: &PciFunction) -> Kind {
    if let (Ok(auk_asic::ident::VENDOR), Ok(device)) = (function.vendor(), function.device())
        && Model::parse(device).is_ok()
    {
        return Kind::Accelerator;
    }
    match function.class().map(|class| class >> 8) {
        Ok(ETHERNET | INFINIBAND) => Kind::Nic,
        _ => Kind::Other,
    }
}

/// The host's accelerators and then its NICs, each by address.
pub(crate) fn devices(host: &Host) -> Result<Vec<PciFunction>, PciError> {
    let mut found: Vec<_> = host
        .functions()?
        .into_iter()
        .map(|function| (kind(&function), function))
        .filter(|(kind, _)| *kind != Kind::Other)
        .collect();
    found.sort_by_key(|(kind, function)| (*kind, function.bdf()));
    Ok(found.into_iter().map(|(_, function)| function).collect())
}

/// The function, or an error that says which there are.
pub(crate) fn find(host: &Host, address: Bdf) -> anyhow::Result<PciFunction> {
    host.function(address).map_err(|error| match error {
        PciError::NoSuchFunction { .. } => {
            let there: Vec<String> = devices(host)
                .unwrap_or_default()
                .iter()
                .map(|function| function.bdf().to_string())
                .collect();
            let hint = if there.is_empty() {
                format!(
                    "there are no accelerators or NICs below {}",
                    host.root().display()
                )
            } else {
                format!("there are {}", there.join(", "))
            };
            failure::with_hint(error, hint)
        }
        error => error.into(),
    })
}

/// Looks at everything there is to see of a function.
pub(crate) fn look(host: &Host, function: &PciFunction, open: &VfioHolders) -> Seen {
    let mut problems = Problems {
        bdf: function.bdf(),
        told: Vec::new(),
    };
    let kind = kind(function);
    let device = problems.note(function.device());
    let config = problems.note(function.config());
    let serial = config
        .as_ref()
        .and_then(|config| problems.note_of("serial number", config.serial_number()))
        .flatten();
    let vitals = match &config {
        Some(config) if kind == Kind::Accelerator => problems.note(config.vitals()),
        _ => None,
    };
    Seen {
        address: function.bdf().to_string(),
        kind,
        vendor: problems.note(function.vendor()).map(hex16),
        device: device.map(hex16),
        model: device
            .filter(|_| kind == Kind::Accelerator)
            .and_then(|device| Model::parse(device).ok())
            .map(model_name),
        class: problems
            .note(function.class())
            .map(|class| format!("0x{class:06x}")),
        revision: problems.note(function.revision()),
        serial: serial.map(dashed),
        interfaces: problems
            .note_of("network interfaces", interfaces(function))
            .unwrap_or_default(),
        driver: problems.note(function.driver()).flatten(),
        iommu_group: problems.note(function.iommu_group()).flatten(),
        group: problems
            .note(function.group_members())
            .flatten()
            .map(Group::from),
        vfio_device: problems.note(function.vfio_device()).flatten(),
        reset_methods: problems.note(function.reset_methods()).flatten(),
        numa_node: problems.note(function.numa_node()).flatten(),
        power_state: problems.note(function.power_state()),
        link: problems.note(link(function)).flatten(),
        aer: problems.note(function.aer()).flatten().map(|aer| Aer {
            correctable: aer.correctable,
            nonfatal: aer.nonfatal,
            fatal: aer.fatal,
        }),
        bars: bars(problems.note(function.bar_sizes()).unwrap_or_default()),
        vital_signs: vitals.as_ref().map(VitalSigns::from),
        held_by: problems.note(Lease::holder(host, function.bdf())).flatten(),
        open_in: open.of(function).map(Process::from).collect(),
        problems: problems.told,
    }
}

/// What could not be read, in words.
struct Problems {
    bdf: Bdf,
    told: Vec<String>,
}

impl Problems {
    fn note<T, E: Display>(&mut self, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.tell(error.to_string())).ok()
    }

    fn note_of<T, E: Display>(&mut self, what: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.tell(format!("{}: {what}: {error}", self.bdf)))
            .ok()
    }

    fn tell(&mut self, problem: String) {
        if !self.told.contains(&problem) {
            self.told.push(problem);
        }
    }
}

const fn model_name(model: Model) -> &'static str {
    match model {
        Model::Silicon => "A1",
        Model::Fpga => "A1 FPGA prototype",
    }
}

fn hex16(number: u16) -> String {
    format!("0x{number:04x}")
}

/// A serial number as `lspci` writes it.
pub(crate) fn dashed(serial: u64) -> String {
    let bytes = serial.to_be_bytes().map(|byte| format!("{byte:02x}"));
    bytes.join("-")
}

/// Functions that are not PCI Express have no such files, and no link.
fn link(function: &PciFunction) -> Result<Option<Link>, PciError> {
    if !function.path().join("current_link_speed").exists() {
        return Ok(None);
    }
    let link = function.link()?;
    Ok(Some(Link {
        degraded: link.is_degraded(),
        current_speed: link.current_speed,
        current_width: link.current_width,
        max_speed: link.max_speed,
        max_width: link.max_width,
    }))
}

fn bars(sizes: [u64; 6]) -> Vec<Bar> {
    let numbered = sizes.into_iter().enumerate();
    numbered
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(number, bytes)| Bar { number, bytes })
        .collect()
}

/// Names of the network interfaces of a function, sorted; none for a function without.
fn interfaces(function: &PciFunction) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(function.path().join("net")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_written_byte_by_byte() {
        assert_eq!(dashed(0x00a1_0000_0000_0102), "00-a1-00-00-00-00-01-02");
    }

    #[test]
    fn a_problem_is_told_once() {
        let mut problems = Problems {
            bdf: "01:00.0".parse().unwrap(),
            told: Vec::new(),
        };
        for _ in 0..2 {
            assert_eq!(problems.note(Err::<(), _>("it is gone")), None);
        }
        assert_eq!(problems.told, ["it is gone"]);
    }
}
