//! What probes report of NICs: the port, what its driver says, its RDMA ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::probe::ProbeError;

/// A network port, `/sys/class/net/*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The interface's index, which outlives its name.
    #[serde(default)]
    pub index: Option<u32>,
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
    /// Whether both ends send at once; `None` without a carrier, or where the driver does not say.
    #[serde(default)]
    pub full_duplex: Option<bool>,
    /// Error counters.
    pub errors: PortErrors,
    /// Packets, and those of them that were dropped.
    #[serde(default)]
    pub drops: PortDrops,
}

/// What the driver of a network interface says when asked, ethtool(8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ethtool {
    /// The driver, as it calls itself.
    pub driver: String,
    /// Its version; of a driver that comes with the kernel that of the kernel.
    pub driver_version: String,
    /// The firmware's version, as the driver writes it.
    pub firmware: String,
    /// Lanes of the port's link; `None` without a carrier, or where the driver does not say.
    pub lanes: Option<u32>,
    /// Forward error correction; `None` for a port that has none.
    pub fec: Option<Fec>,
    /// Pause frames; `None` where the driver does not count them.
    pub pause: Option<PauseFrames>,
    /// Those of its own counters that are judged, by pattern of their names.
    pub counters: BTreeMap<String, u64>,
    /// Queries that failed. What they would have told is not known, which is another thing than that there is none.
    #[serde(default)]
    pub unanswered: BTreeMap<Query, ProbeError>,
}

/// What a driver is asked, each alone: a card's firmware may have no answer to one and to others it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// Its name and versions.
    Driver,
    /// Lanes.
    Lanes,
    /// Forward error correction.
    Fec,
    /// Pause frames.
    Pause,
    /// Its own counters.
    Counters,
}

impl Query {
    /// Every query. What the driver's name is must be known to read its counters.
    pub const ALL: [Self; 5] = [
        Self::Driver,
        Self::Lanes,
        Self::Fec,
        Self::Pause,
        Self::Counters,
    ];
}

/// Forward error correction of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fec {
    /// What is in use: `off`, `rs`, `baser` or `llrs`, as ethtool(8) writes it; `None` without a carrier.
    pub active: Option<String>,
    /// Blocks that were corrected.
    pub corrected: Option<u64>,
    /// Blocks that could not be.
    pub uncorrectable: Option<u64>,
}

/// Pause frames of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseFrames {
    /// That the other end sent to stop this one.
    pub received: Option<u64>,
    /// That this end sent to stop the other one.
    pub sent: Option<u64>,
}

/// What the kernel said of a port between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHeard {
    /// Milliseconds since an administrator last set the interface up or down, or moved it.
    pub admin_changed_ms_ago: u64,
}

/// What a port passed on and what it dropped, `statistics/*`; `None` for what the driver does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDrops {
    /// `rx_packets`.
    pub rx_packets: Option<u64>,
    /// `rx_dropped`.
    pub rx: Option<u64>,
    /// `rx_missed_errors`: the card had no buffer for them.
    pub rx_missed: Option<u64>,
    /// `tx_packets`.
    pub tx_packets: Option<u64>,
    /// `tx_dropped`.
    pub tx: Option<u64>,
}

/// What an RDMA port carries packets over, `link_layer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkLayer {
    /// InfiniBand.
    InfiniBand,
    /// RoCE or iWARP, over a network interface.
    Ethernet,
    /// The driver does not say.
    Unknown,
}

/// State of an RDMA port, `enum ib_port_state` in include/rdma/ib_verbs.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RdmaState {
    /// 0 `NOP`, which is what a driver says that does not know.
    Nop,
    /// 1 `DOWN`.
    Down,
    /// 2 `INIT`: the link is up, and no subnet manager has set it up yet.
    Init,
    /// 3 `ARMED`.
    Armed,
    /// 4 `ACTIVE`.
    Active,
    /// 5 `ACTIVE_DEFER`: the link has just gone, and the port waits for it to come back.
    ActiveDefer,
}

/// A port of an RDMA device, `/sys/class/infiniband/*/ports/*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaPort {
    /// The RDMA device, `mlx5_0`.
    pub device: String,
    /// The port's number, from 1.
    pub port: u32,
    /// `link_layer`.
    pub link_layer: LinkLayer,
    /// `state`.
    pub state: RdmaState,
    /// `phys_state` as the kernel writes it, `5: LinkUp`.
    pub phys_state: String,
    /// `rate` in Mbit/s.
    pub rate_mbit: Option<u64>,
    /// Addresses that are set, of the first few in `gids`.
    pub gids: u32,
    /// The interface of its first address, `gid_attrs/ndevs/0`; `None` for one without, or without an address.
    #[serde(default)]
    pub interface: Option<String>,
    /// Those of `counters` and `hw_counters` that are judged and that the driver has, by name.
    pub counters: BTreeMap<String, u64>,
}

impl RdmaPort {
    /// The name for people, `mlx5_0/1`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.device, self.port)
    }
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
