//! The status document: what `/v1/status` serves and `auk status` reads.

use std::collections::BTreeMap;

use auk_asic::vitals::Vitals;
use serde::{Deserialize, Serialize};

use crate::facts::{Aer, Ethtool, FactKind, Holder, Identity, Kind, Link, Port, RdmaPort};
use crate::incident::Incident;
use crate::operator::{Author, Done, Hold, Switch};
use crate::store::StoreStatus;
use crate::verdict::{Action, Admission, HealthState, Transition, Verdict};

/// Version of [`Status`]; a new field does not change it, a changed meaning does.
pub const SCHEMA: u32 = 1;

/// All that the agent knows at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Unix time in milliseconds of the snapshot.
    pub at_unix_ms: u64,
    /// The agent itself.
    pub agent: AgentStatus,
    /// Why the host's devices could not be listed at the last try.
    pub discovery_error: Option<String>,
    /// Components by address, accelerators first.
    pub components: Vec<ComponentStatus>,
    /// What is wrong, once each, the worst first.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// The last changes of state, oldest first.
    pub transitions: Vec<Transition>,
    /// What people ordered lately, oldest first.
    #[serde(default)]
    pub orders: Vec<Done>,
    /// Checks whose mode was ordered at run time.
    #[serde(default)]
    pub switches: Vec<Switch>,
    /// How what must survive the agent is kept.
    #[serde(default)]
    pub store: Option<StoreStatus>,
}

impl Status {
    /// The component of a name: its address with or without the domain, its serial number, slot or interface.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&ComponentStatus> {
        self.components.iter().find(|component| {
            component
                .identity
                .names(&component.bdf)
                .any(|known| known == name)
        })
    }

    /// The component at an address.
    #[must_use]
    pub fn component(&self, bdf: &str) -> Option<&ComponentStatus> {
        self.components
            .iter()
            .find(|component| component.bdf == bdf)
    }
}

/// The agent's own state and cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Version of the program.
    pub version: String,
    /// Process.
    pub pid: u32,
    /// The directory that stands for `/`.
    pub root: String,
    /// Unix time in milliseconds at which it started.
    pub started_unix_ms: u64,
    /// Milliseconds between two looks.
    pub interval_ms: u64,
    /// Rounds of looks that ended.
    pub rounds: u64,
    /// How long these took together, in seconds.
    #[serde(default)]
    pub round_seconds: f64,
    /// CPU time of the whole process in seconds.
    pub cpu_seconds: f64,
    /// Resident memory of the whole process in bytes.
    pub resident_bytes: u64,
    /// The processes or threads that read for it.
    #[serde(default)]
    pub readers: ReadersStatus,
    /// How the config space of accelerators is read, beyond the first 64 bytes.
    #[serde(default)]
    pub config_access: ConfigAccessStatus,
    /// Dwords of config space that were asked for so far: each is a transaction on the bus.
    #[serde(default)]
    pub config_dwords: u64,
    /// The configuration in force.
    #[serde(default)]
    pub config: ConfigStatus,
}

/// The configuration in force, and how the last try to read another went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigStatus {
    /// Digest of its values.
    pub hash: String,
    /// The files that it was read from, the weakest first.
    pub files: Vec<String>,
    /// Unix time in milliseconds since which it is in force.
    pub since_unix_ms: u64,
    /// The last reload; `None` when there was none yet.
    pub reload: Option<ReloadStatus>,
}

/// How a reload went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// What was wrong with the files, a line each. If anything was, the former configuration stays in force.
    pub problems: Vec<String>,
    /// Keys that were changed and are read at start only.
    pub pending: Vec<String>,
}

/// Readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadersStatus {
    /// That serve.
    pub serving: usize,
    /// That hang in a read that does not end.
    pub held: usize,
    /// That were started so far.
    pub started: u64,
    /// CPU time of the processes that the agent started, in seconds: readers, and hooks that have ended.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Resident memory of those readers that are processes, in bytes; what they share is counted in each.
    #[serde(default)]
    pub resident_bytes: u64,
}

/// Accelerators by how their config space is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigAccessStatus {
    /// By descriptors of the agent's own, for which the kernel wants CAP_SYS_ADMIN.
    pub direct: usize,
    /// By descriptors from the opener.
    pub opener: usize,
    /// Not at all, or none has answered yet.
    pub none: usize,
}

/// One component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// PCI address.
    pub bdf: String,
    /// What it is.
    pub kind: Kind,
    /// Who it is.
    pub identity: Identity,
    /// The worst that its checks say.
    pub state: HealthState,
    /// Unix time in milliseconds since which it is in that state.
    pub since_unix_ms: u64,
    /// Why it is in that state.
    #[serde(default)]
    pub reason: String,
    /// May a new job start on it?
    pub admission: Admission,
    /// What to do.
    pub action: Action,
    /// Who works on it.
    #[serde(default)]
    pub hold: Option<HoldStatus>,
    /// Who has it open.
    pub holder: Option<Holder>,
    /// Milliseconds since the last look that saw anything; `None` before the first.
    pub sample_age_ms: Option<u64>,
    /// Milliseconds since each fact was last read well; those are left out that never were.
    #[serde(default)]
    pub facts_age_ms: BTreeMap<FactKind, u64>,
    /// Readings that failed since the agent started.
    pub probe_failures: u64,
    /// Vital signs of the last look that saw them.
    pub vitals: Option<VitalsStatus>,
    /// Link of the last look that saw it.
    pub link: Option<Link>,
    /// AER counters of the last look that saw them.
    pub aer: Option<Aer>,
    /// Port of the last look that saw it.
    pub port: Option<Port>,
    /// RDMA ports of the last look that saw them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rdma: Vec<RdmaPort>,
    /// What the interface's driver said at the last look that asked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ethtool: Option<Ethtool>,
    /// What each check says.
    pub verdicts: Vec<Verdict>,
}

impl ComponentStatus {
    /// The verdict of a check.
    #[must_use]
    pub fn verdict(&self, check: &str) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| verdict.check == check)
    }
}

/// A hold, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// The component, or `host`.
    pub component: String,
    /// Who holds it.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// Unix time in milliseconds since which.
    pub since_unix_ms: u64,
    /// Unix time in milliseconds at which it ends by itself.
    pub until_unix_ms: Option<u64>,
}

impl From<&Hold> for HoldStatus {
    fn from(hold: &Hold) -> Self {
        Self {
            component: hold.component.clone(),
            author: hold.author.clone(),
            reason: hold.reason.clone(),
            since_unix_ms: hold.since.unix_ms,
            until_unix_ms: hold.until_unix_ms(),
        }
    }
}

/// Vital signs in base units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VitalsStatus {
    /// Firmware state.
    pub state: String,
    /// The current fault.
    pub fault: Option<String>,
    /// Starts of the firmware since power-on.
    pub generation: u32,
    /// The last fault since power-on.
    pub last_fault: Option<String>,
    /// Generation that it was in.
    pub last_fault_generation: Option<u32>,
    /// Outcome of the last self-test.
    pub self_test: String,
    /// Generation in which it ended.
    pub self_test_generation: u32,
    /// Die temperature in degrees Celsius.
    pub die_celsius: f64,
    /// Memory temperature in degrees Celsius.
    pub memory_celsius: f64,
    /// Throttle point in degrees Celsius.
    pub throttle_celsius: f64,
    /// Shutdown point in degrees Celsius.
    pub shutdown_celsius: f64,
    /// Board power in watts.
    pub power_watts: f64,
    /// Power limit in watts.
    pub power_limit_watts: f64,
    /// Reasons to run slower.
    pub throttle: Vec<String>,
    /// Correctable ECC errors, lifetime.
    pub ecc_ce: u32,
    /// Uncorrectable ECC errors, lifetime.
    pub ecc_ue: u32,
    /// Retired pages, lifetime.
    pub retired_pages: u32,
    /// PCIe replays since power-on.
    pub pcie_replays: u32,
    /// Heartbeat count.
    pub heartbeat: u32,
    /// Firmware version.
    pub firmware: Option<String>,
}

impl From<&Vitals> for VitalsStatus {
    fn from(vitals: &Vitals) -> Self {
        Self {
            state: vitals.state.name().to_owned(),
            fault: vitals.fault.map(|fault| fault.name().to_owned()),
            generation: vitals.generation,
            last_fault: vitals.last_fault.map(|(fault, _)| fault.name().to_owned()),
            last_fault_generation: vitals.last_fault.map(|(_, generation)| generation),
            self_test: vitals.self_test.name().to_owned(),
            self_test_generation: vitals.self_test_generation,
            die_celsius: celsius(vitals.die_temperature),
            memory_celsius: celsius(vitals.memory_temperature),
            throttle_celsius: celsius(vitals.throttle_point),
            shutdown_celsius: celsius(vitals.shutdown_point),
            power_watts: f64::from(vitals.power) / 1000.0,
            power_limit_watts: f64::from(vitals.power_limit) / 1000.0,
            throttle: throttle_reasons(vitals).map(str::to_owned).collect(),
            ecc_ce: vitals.ecc_ce,
            ecc_ue: vitals.ecc_ue,
            retired_pages: vitals.retired_pages,
            pcie_replays: vitals.pcie_replays,
            heartbeat: vitals.heartbeat,
            firmware: vitals.firmware.map(|version| version.to_string()),
        }
    }
}

/// Degrees Celsius of a temperature in tenths.
pub(crate) fn celsius(tenths: i16) -> f64 {
    f64::from(tenths) / 10.0
}

/// Names of the throttle reasons that are set.
pub(crate) fn throttle_reasons(vitals: &Vitals) -> impl Iterator<Item = &'static str> {
    let throttle = vitals.throttle;
    [
        (throttle.thermal(), "thermal"),
        (throttle.power_cap(), "power_cap"),
        (throttle.supply(), "supply"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
}
