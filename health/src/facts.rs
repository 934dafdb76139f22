//! What probes report: typed observations, each with the file that it came from. No judgement.

use std::sync::Arc;

use auk_asic::vitals::Vitals;
use serde::{Deserialize, Serialize};

use crate::probe::ProbeError;
use crate::time::Moment;

/// A value as it was read, or why it could not be.
#[derive(Clone, Debug)]
pub struct Reading<T> {
    /// The file that was read.
    pub source: Arc<str>,
    /// What it said.
    pub value: Result<T, ProbeError>,
}

impl<T> Reading<T> {
    /// A value from a file.
    pub fn new(source: impl Into<Arc<str>>, value: Result<T, ProbeError>) -> Self {
        Self {
            source: source.into(),
            value,
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
}

impl Kind {
    /// The name in metrics and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accelerator => "accelerator",
            Self::Nic => "nic",
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

/// Whether the function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The vendor ID reads as it should.
    Present,
    /// The host lists no such function any more.
    Absent,
    /// It is listed, and reads as all ones: off the bus, or its link trains.
    AllOnes,
}

/// PCI power state, `power_state` in sysfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A network port, `/sys/class/net/*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Whether an administrator has set the interface up; `None` when the host does not say.
    pub admin_up: Option<bool>,
    /// Carrier; `None` while the interface is down, when the kernel refuses to say.
    pub carrier: Option<bool>,
    /// Times that the carrier came.
    pub carrier_up: Option<u64>,
    /// Times that the carrier went.
    pub carrier_down: Option<u64>,
    /// Negotiated speed in Mbit/s; `None` without a carrier.
    pub speed_mbit: Option<u64>,
    /// Error counters.
    pub errors: PortErrors,
}

/// Error counters of a port, `statistics/*`; `None` for one that the driver does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortErrors {
    /// `rx_errors`.
    pub rx: Option<u64>,
    /// `tx_errors`.
    pub tx: Option<u64>,
    /// `rx_crc_errors`.
    pub rx_crc: Option<u64>,
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

/// One look at one component.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When the look ended.
    pub at: Moment,
    /// Whether the function answers.
    pub presence: Reading<Presence>,
    /// PCI power state.
    pub power_state: Reading<PowerState>,
    /// Vital signs; `None` for what has none by its kind.
    pub vitals: Option<Reading<Vitals>>,
    /// The link to the port above.
    pub link: Reading<Link>,
    /// AER counters; the inner `None` when the kernel keeps none for this function.
    pub aer: Reading<Option<Aer>>,
    /// The network port; the outer `None` for what has none by its kind, the inner one when the
    /// function is there and its interface is not.
    pub port: Option<Reading<Option<Port>>>,
    /// Who has it open.
    pub holder: Option<Holder>,
}

impl Facts {
    /// A look that saw nothing, for one reason.
    #[must_use]
    pub fn blind(at: Moment, kind: Kind, source: &Arc<str>, error: &ProbeError) -> Self {
        fn reading<T>(source: &Arc<str>, error: &ProbeError) -> Reading<T> {
            Reading::new(Arc::clone(source), Err(error.clone()))
        }
        Self {
            at,
            presence: reading(source, error),
            power_state: reading(source, error),
            vitals: (kind == Kind::Accelerator).then(|| reading(source, error)),
            link: reading(source, error),
            aer: reading(source, error),
            port: (kind == Kind::Nic).then(|| reading(source, error)),
            holder: None,
        }
    }

    /// How many of its readings failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        let failed = [
            self.presence.value.is_err(),
            self.power_state.value.is_err(),
            self.vitals
                .as_ref()
                .is_some_and(|reading| reading.value.is_err()),
            self.link.value.is_err(),
            self.aer.value.is_err(),
            self.port
                .as_ref()
                .is_some_and(|reading| reading.value.is_err()),
        ];
        failed.into_iter().map(u64::from).sum()
    }
}
