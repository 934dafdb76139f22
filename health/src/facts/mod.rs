//! What probes report: typed observations, each a value or why there is none. No judgement.
//!
//! A look reads the facts whose time has come, and no others. A new fact is a line in the macro `facts!`,
//! its type, and a probe that reads it.

mod nic;

use std::time::Duration;

use auk_asic::vitals::Vitals;
use serde::{Deserialize, Serialize};

pub use nic::{
    Ethtool, Fec, LinkLayer, PauseFrames, Port, PortDrops, PortErrors, PortHeard, Query, RdmaPort,
    RdmaState,
};

use crate::host::Profile;
use crate::kernel_log::source as kernel_log;
use crate::probe::ProbeError;
use crate::time::Moment;

/// A value as it was read, or why it could not be.
pub type Reading<T> = Result<T, ProbeError>;

/// How often a fact is read. A look of a class reads the facts of the faster ones too, so that a
/// check of both sees them at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// What the promise to tell within two seconds rests on.
    Fast,
    /// What the kernel counts or keeps, so that nothing is lost between two looks.
    Slow,
    /// What a card's firmware is asked for, and has better things to do.
    Rare,
}

impl Class {
    /// Time between two looks of this class.
    #[must_use]
    pub const fn interval(self) -> Duration {
        match self {
            Self::Fast => Duration::from_secs(1),
            Self::Slow => Duration::from_secs(10),
            Self::Rare => Duration::from_secs(30),
        }
    }
}

/// What kind of thing is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An A1.
    Accelerator,
    /// A network function with a port.
    Nic,
    /// The host itself: what belongs to no function.
    Host,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Accelerator, Self::Nic, Self::Host];

    /// The name in metrics and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accelerator => "accelerator",
            Self::Nic => "nic",
            Self::Host => "host",
        }
    }
}

/// Who a component is, beyond the address that it happens to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// PCI vendor and device ID, `1ae5:a100`.
    pub pci_id: String,
    /// Device Serial Number capability, or the MAC address of a NIC whose config space is not readable.
    pub serial: Option<String>,
    /// Physical slot, as the firmware named it.
    pub slot: Option<String>,
    /// Address of the port above.
    pub upstream: Option<String>,
    /// Network interface.
    pub interface: Option<String>,
}

impl Identity {
    /// The names that a person may give a component at an address.
    pub fn names<'a>(&'a self, bdf: &'a str) -> impl Iterator<Item = &'a str> {
        let addresses = [Some(bdf), bdf.strip_prefix("0000:")];
        let others = [&self.serial, &self.slot, &self.interface];
        let others = others.into_iter().map(|name| name.as_deref());
        addresses.into_iter().chain(others).flatten()
    }
}

/// Whether the function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// The vendor ID reads as it should.
    Present,
    /// The host lists no such function any more.
    Absent,
    /// It is listed, and reads as all ones: off the bus, or its link trains.
    AllOnes,
}

/// A port that does not answer, and takes with it what is below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGone {
    /// Its address.
    pub bdf: String,
    /// How it does not answer.
    pub presence: Presence,
}

/// PCI power state, `power_state` in sysfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// On.
    D0,
    /// Any state in which the chip need not run: D1, D2, D3hot, D3cold.
    Asleep,
    /// The kernel does not know.
    Unknown,
}

/// Speed and width of a PCIe link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRate {
    /// Mega-transfers a second and lane.
    pub megatransfers: u32,
    /// Lanes.
    pub width: u32,
}

/// A PCIe link, `current_link_*` and `max_link_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What was negotiated; `None` while the link is down or trains.
    pub current: Option<LinkRate>,
    /// What both ends can do; `None` when the host does not know, as for a virtual function.
    pub max: Option<LinkRate>,
}

/// Totals of the kernel's AER counters, `aer_dev_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aer {
    /// `TOTAL_ERR_COR`.
    pub correctable: u64,
    /// `TOTAL_ERR_NONFATAL`.
    pub nonfatal: u64,
    /// `TOTAL_ERR_FATAL`.
    pub fatal: u64,
}

/// What the kernel said of a component since the last look, by one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Name of the rule.
    pub rule: String,
    /// How often; more than one line may be behind it, and a line may be about many.
    pub count: u64,
    /// How long before it was taken the last such line was printed.
    pub age: Duration,
    /// Sequence number of that line.
    pub sequence: u64,
    /// Its text, cut short.
    pub text: String,
}

/// Who has a component open, from its lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process.
    pub pid: u32,
    /// Its command name, as it wrote it itself.
    pub comm: String,
    /// Unix time in seconds at which it took the lease.
    pub since: u64,
    /// Its control group, which names the job.
    #[serde(default)]
    pub cgroup: Option<String>,
}

/// Makes [`Facts`] and [`FactKind`] of one table: field, kind, type of the value, class, and the
/// file that evidence names.
macro_rules! facts {
    ($( $(#[$doc:meta])* $field:ident: $kind:ident($value:ty), $class:ident, $file:literal; )+) => {
        /// One thing that can be read of a component.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FactKind {
            $( $(#[$doc])* $kind, )+
        }

        impl FactKind {
            /// Every fact.
            pub const ALL: &'static [Self] = &[$( Self::$kind, )+];

            /// How often it is read.
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $( Self::$kind => Class::$class, )+
                }
            }

            /// The name in metrics and in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$kind => stringify!($field), )+
                }
            }

            /// The file, or the pattern of files, in the directory that it is read from.
            const fn file(self) -> &'static str {
                match self {
                    $( Self::$kind => $file, )+
                }
            }
        }

        /// One look at one component: what was read in this look. `None` is a fact that was not
        /// asked for; a late or failed one is an error.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Facts {
            /// When the look ended.
            pub at: Moment,
            $( $(#[$doc])* pub $field: Option<Reading<$value>>, )+
            /// The topmost port above that does not answer; read only when the function does not.
            #[serde(default)]
            pub port_gone: Option<Reading<Option<PortGone>>>,
            /// What the kernel said of its port.
            #[serde(default)]
            pub port_heard: Option<PortHeard>,
            /// Who has it open.
            pub holder: Option<Holder>,
        }

        impl Facts {
            /// A look that has read nothing yet.
            #[must_use]
            pub const fn none(at: Moment) -> Self {
                Self { at, $( $field: None, )+ port_gone: None, port_heard: None, holder: None }
            }

            /// A look that was to read these facts and saw none of them, for one reason.
            #[must_use]
            pub fn blind(at: Moment, kinds: &[FactKind], error: &ProbeError) -> Self {
                let mut facts = Self::none(at);
                for kind in kinds {
                    match kind {
                        $( FactKind::$kind => facts.$field = Some(Err(error.clone())), )+
                    }
                }
                facts
            }

            /// How the reading of a fact went; `None` when it was not read in this look.
            #[must_use]
            pub fn outcome(&self, kind: FactKind) -> Option<Result<(), &ProbeError>> {
                match kind {
                    $( FactKind::$kind => self.$field.as_ref().map(|read| read.as_ref().map(drop)), )+
                }
            }
        }
    };
}

facts! {
    /// Whether the function answers.
    presence: Presence(Presence), Fast, "config";
    /// PCI power state.
    power_state: PowerState(PowerState), Fast, "power_state";
    /// Vital signs.
    vitals: Vitals(Vitals), Fast, "config";
    /// The link, seen from the function.
    link: Link(Link), Slow, "current_link_*";
    /// The same link, seen from the port above; `None` when that is no PCI port.
    link_above: LinkAbove(Option<Link>), Slow, "current_link_*";
    /// AER counters; `None` when the kernel keeps none for this function.
    aer: Aer(Option<Aer>), Slow, "aer_dev_*";
    /// AER counters of the port above; `None` when there is none or the kernel keeps none for it.
    aer_above: AerAbove(Option<Aer>), Slow, "aer_dev_*";
    /// The driver that is bound; `None` when there is none.
    driver: Driver(Option<String>), Slow, "driver";
    /// The IOMMU group; `None` when the host has no IOMMU or does not use it.
    iommu_group: IommuGroup(Option<u32>), Slow, "iommu_group";
    /// The NUMA node; `None` when the firmware names none.
    numa_node: NumaNode(Option<u32>), Slow, "numa_node";
    /// The network port; `None` when the function is there and its interface is not.
    port: Port(Option<Port>), Slow, "";
    /// The ports of its RDMA devices; none when it has no such device.
    rdma: Rdma(Vec<RdmaPort>), Rare, "infiniband";
    /// What the interface's driver says; `None` when the interface is not here, or the host is a tree of files, which answers
    /// nothing.
    ethtool: Ethtool(Option<Ethtool>), Rare, "";
    /// How the host is set up.
    profile: Profile(Box<Profile>), Slow, "";
    /// What the kernel said of it since the last look. No look reads it: the agent, which follows the log, puts it in.
    kernel_log: KernelLog(Vec<Heard>), Fast, "";
}

impl FactKind {
    /// Whether a kind of component has it.
    #[must_use]
    pub const fn applies_to(self, kind: Kind) -> bool {
        match self {
            Self::Vitals => matches!(kind, Kind::Accelerator),
            Self::Port | Self::Rdma | Self::Ethtool => matches!(kind, Kind::Nic),
            // Of a host nothing is read that is of a function.
            Self::Profile => matches!(kind, Kind::Host),
            Self::KernelLog => true,
            _ => !matches!(kind, Kind::Host),
        }
    }

    /// What a look of a class reads of a kind of component.
    #[must_use]
    pub fn read_by(class: Class, kind: Kind) -> Vec<Self> {
        let wanted = |fact: &Self| {
            fact.applies_to(kind) && fact.class() <= class && *fact != Self::KernelLog
        };
        Self::ALL.iter().copied().filter(wanted).collect()
    }

    /// Where it is read, below the host's root.
    #[must_use]
    pub fn source(self, bdf: &str, identity: &Identity) -> String {
        let file = self.file();
        match (self, &identity.upstream, &identity.interface) {
            (Self::LinkAbove | Self::AerAbove, Some(above), _) => {
                format!("/sys/bus/pci/devices/{above}/{file}")
            }
            (Self::LinkAbove | Self::AerAbove, None, _) => {
                format!("the port above /sys/bus/pci/devices/{bdf}")
            }
            (Self::Port, _, Some(interface)) => format!("/sys/class/net/{interface}"),
            (Self::Ethtool, _, Some(interface)) => format!("ethtool {interface}"),
            (Self::Ethtool, _, None) => format!("ethtool of /sys/bus/pci/devices/{bdf}/net"),
            (Self::Port, _, None) => format!("/sys/bus/pci/devices/{bdf}/net"),
            (Self::Profile, ..) => "/proc and /sys".to_owned(),
            (Self::KernelLog, ..) => kernel_log::NAME.to_owned(),
            _ => format!("/sys/bus/pci/devices/{bdf}/{file}"),
        }
    }
}

impl Facts {
    /// Whether all of these were read in this look, well or not.
    #[must_use]
    pub fn hold(&self, kinds: &[FactKind]) -> bool {
        kinds.iter().all(|kind| self.outcome(*kind).is_some())
    }

    /// How many readings failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        // That the log cannot be read is told of the host, once.
        let failed = |kind: &&FactKind| {
            **kind != FactKind::KernelLog && self.outcome(**kind).is_some_and(|read| read.is_err())
        };
        FactKind::ALL.iter().filter(failed).map(|_| 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_saw_nothing_has_a_reason_for_each_fact_that_it_was_to_read_and_no_other() {
        let late = ProbeError::Late { deadline_ms: 500 };
        let kinds = FactKind::read_by(Class::Fast, Kind::Accelerator);
        let facts = Facts::blind(Moment::default(), &kinds, &late);
        assert_eq!(facts.vitals, Some(Err(late)));
        assert_eq!(facts.link, None);
        assert!(facts.hold(&kinds));
        assert_eq!(facts.failures(), 3);
    }

    #[test]
    fn a_slow_look_reads_what_a_fast_one_does_and_more() {
        let fast = FactKind::read_by(Class::Fast, Kind::Nic);
        let slow = FactKind::read_by(Class::Slow, Kind::Nic);
        assert_eq!(fast, [FactKind::Presence, FactKind::PowerState]);
        assert!(fast.iter().all(|fact| slow.contains(fact)));
        assert!(slow.contains(&FactKind::Port) && !slow.contains(&FactKind::Vitals));
    }

    #[test]
    fn what_was_recorded_reads_back_as_it_was() {
        let error = ProbeError::Malformed {
            path: "power_state".to_owned(),
            found: "D9".to_owned(),
            expected: "D0".into(),
        };
        let mut facts = Facts::blind(Moment::default(), &[FactKind::PowerState], &error);
        facts.presence = Some(Ok(Presence::AllOnes));
        facts.aer = Some(Ok(None));
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    }
}
