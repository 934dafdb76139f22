//! Rules, one file each: what is read, the limits with their reasons, and what follows.
//!
//! A check sees facts and time, and keeps what it needs of the past. It does no I/O and asks no
//! clock. A new one is a file here and a line in [`for_kind`].

mod aer_above;
mod aer_correctable;
mod aer_uncorrectable;
mod carrier;
mod carrier_flaps;
mod clears;
mod driver;
mod ecc_ce;
mod ecc_ue;
mod finding;
mod firmware_state;
mod firmware_version;
mod heartbeat;
mod host_profile;
mod identity;
mod iommu_group;
mod kernel_log;
mod last_fault;
mod life;
mod limits;
mod link;
mod nic_version;
mod numa_node;
pub(crate) mod over_time;
mod own_doing;
mod page_retirement;
mod pcie_replays;
mod port_counters;
mod port_drops;
mod port_errors;
mod port_fec;
mod port_lanes;
mod port_pause;
mod port_speed;
mod power_state;
mod presence;
mod rdma_errors;
mod rdma_port;
mod self_test;
mod temperature;
mod throttle;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auk_asic::vitals::Vitals;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use clears::clears;
pub use finding::Finding;
pub use limits::Limits;

use crate::config::{Manifest, Wanted};
use crate::facts::{Ethtool, FactKind, Facts, Identity, Kind, Port, Query, Reading};
use crate::operator::{Hold, Mode};
use crate::proof::Source;
use crate::time::Moment;
use crate::verdict::Evidence;

/// What all checks share, and a configuration may change.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long nothing bad may be seen before a degraded check is healthy again.
    pub clear_after: Duration,
    /// How long after the host's boot presence, carrier and link are not held against anybody:
    /// links train late.
    pub boot_grace: Duration,
    /// The host's boot on the clock of [`Moment::uptime`]; `None` when it was long ago.
    pub booted: Option<Duration>,
    /// How long a component may go unseen before somebody is told: outlasts one reset.
    pub unseen_alert: Duration,
    /// How long a component may go unseen and still be given jobs.
    pub unseen_hold: Duration,
    /// Changes from well to ill in a time, above which a component is degraded.
    pub flaps_degraded: (u64, Duration),
    /// The same, above which it is unhealthy.
    pub flaps_unhealthy: (u64, Duration),
    /// For how long after an order changes of state are its author's making.
    pub flaps_pardon: Duration,
    /// Times unhealthy in a time, above which nothing but a person's word clears a component.
    pub repeat: (u64, Duration),
    /// Checks that do not simply have their say, by name.
    pub modes: BTreeMap<String, Mode>,
    /// The limits of each rule.
    pub limits: Limits,
    /// What the host should have.
    pub manifest: Arc<Manifest>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Outlasts the pauses in a bad cable's errors.
            clear_after: Duration::from_secs(600),
            boot_grace: Duration::from_secs(300),
            booted: None,
            limits: Limits::default(),
            manifest: Arc::default(),
            unseen_alert: Duration::from_secs(90),
            unseen_hold: Duration::from_secs(300),
            flaps_degraded: (3, Duration::from_secs(600)),
            flaps_unhealthy: (10, Duration::from_secs(3600)),
            flaps_pardon: Duration::from_secs(10),
            // A published fleet cut failures of large jobs from 14 % to 4 % by taking such out.
            repeat: (3, Duration::from_secs(7 * 86_400)),
            modes: BTreeMap::new(),
        }
    }
}

/// Name of the check on which the others rest: what does not answer has no vital signs.
pub(crate) const PRESENCE: &str = "presence";

/// What a check sees.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The time of the look.
    pub now: Moment,
    /// What kind of component it is.
    pub kind: Kind,
    /// Address of the component.
    pub bdf: &'a str,
    /// Who it is.
    pub identity: &'a Identity,
    /// What it saw.
    pub facts: &'a Facts,
    /// What all checks share.
    pub settings: &'a Settings,
    /// The hold on the component, while somebody works on it.
    pub held: Option<&'a Hold>,
}

impl<'a> View<'a> {
    /// Whether the host has only just booted.
    #[must_use]
    pub fn in_boot_grace(&self) -> bool {
        self.settings
            .booted
            .is_some_and(|booted| self.now.uptime.saturating_sub(booted) < self.settings.boot_grace)
    }

    /// How the manifest wants it.
    fn wanted(&self) -> Wanted {
        let manifest = &self.settings.manifest;
        manifest.wanted(self.kind, self.bdf, self.identity)
    }

    /// The vital signs, or the finding that they were not seen.
    fn vitals(&self) -> Result<(&'a Vitals, FactKind), Finding> {
        Ok((known(&self.facts.vitals)?, FactKind::Vitals))
    }

    /// The port, or the finding that it was not seen.
    fn port(&self) -> Result<(&'a Port, FactKind), Finding> {
        let port = known(&self.facts.port)?.as_ref().ok_or_else(|| {
            Finding::not_applicable(
                "it has no interface here: in another network namespace, without a driver, or InfiniBand without IP",
            )
        })?;
        Ok((port, FactKind::Port))
    }

    /// What the interface's driver says to these queries, or the finding that there is none to ask, or that it did not say.
    fn ethtool(&self, queries: &[Query]) -> Result<(&'a Ethtool, FactKind), Finding> {
        let ethtool = known(&self.facts.ethtool)?.as_ref().ok_or_else(|| {
            Finding::not_applicable(
                "there is no driver to ask: the interface is not here, or the host is a tree of files",
            )
        })?;
        let mut unanswered = queries
            .iter()
            .filter_map(|query| ethtool.unanswered.get(query));
        if let Some(error) = unanswered.next() {
            return Err(Finding::blind(error.to_string()));
        }
        Ok((ethtool, FactKind::Ethtool))
    }

    /// Evidence that was read in this look.
    fn evidence(
        &self,
        what: &str,
        found: impl ToString,
        limit: impl ToString,
        source: FactKind,
    ) -> Evidence {
        Evidence {
            what: what.to_owned(),
            found: found.to_string(),
            limit: limit.to_string(),
            source: source.source(self.bdf, self.identity),
            at_unix_ms: self.now.unix_ms,
        }
    }
}

/// The value of a reading, or the finding that it has none.
fn known<T>(reading: &Option<Reading<T>>) -> Result<&T, Finding> {
    match reading {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(Finding::blind(error.to_string())),
        None => Err(Finding::blind("it was not read in this look")),
    }
}

/// What a rule keeps of the past, over restarts of the agent. Every rule that can be serialised has it.
pub trait Memory {
    /// What it keeps.
    ///
    /// # Errors
    /// When it cannot be put into JSON.
    fn save(&self) -> serde_json::Result<Value>;

    /// Takes up what a rule of the same name kept.
    ///
    /// # Errors
    /// When that was kept by another version, in another form. Nothing is changed then.
    fn restore(&mut self, kept: Value) -> serde_json::Result<()>;
}

impl<T: Serialize + DeserializeOwned> Memory for T {
    fn save(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn restore(&mut self, kept: Value) -> serde_json::Result<()> {
        *self = serde_json::from_value(kept)?;
        Ok(())
    }
}

/// One rule about one component. It keeps the past and no limits: those may change while it runs.
pub trait Check: Memory + Send {
    /// Its name in verdicts and metrics.
    fn name(&self) -> &'static str;

    /// What it needs to judge. It is asked after the looks that read all of these, so the slowest
    /// of them says how often; one that could not be read makes it unobservable.
    fn reads(&self) -> &'static [FactKind];

    /// What it says before it was asked for the first time.
    fn at_first(&self) -> Finding {
        Finding::blind("no data yet")
    }

    /// What it rests on that is no fact.
    fn also_reads(&self) -> &'static [Source] {
        &[]
    }

    /// Judges a look. It may use other facts too, when the look has them.
    ///
    /// # Errors
    /// A finding as well: the one that says why there is nothing to judge. Two ways out keep the
    /// rules short; the engine treats both the same.
    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding>;

    /// Whether a person may take back what it found.
    fn clearing(&self) -> Clearing {
        Clearing::Anew
    }

    /// The host was booted anew: what the kernel counts began at zero.
    fn rebooted(&mut self) {}

    /// Takes it back, where [`clearing`](Self::clearing) leaves that to the check.
    fn clear(&mut self, _why: &str) {}
}

/// How a finding is taken back by a person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clearing {
    /// The check begins anew: what is still so it finds again.
    Anew,
    /// The check does it itself, for it would find the same old trace again.
    ByCheck,
    /// Not without what the reason names.
    Refused(String),
}

/// A fresh set of the checks for a kind of component.
#[must_use]
pub fn for_kind(kind: Kind) -> Vec<Box<dyn Check>> {
    if kind == Kind::Host {
        let mut checks = kernel_log::of_host();
        checks.extend(host_profile::of_host());
        return checks;
    }
    let mut checks: Vec<Box<dyn Check>> = vec![
        Box::<presence::Presence>::default(),
        Box::<identity::IdentityCheck>::default(),
        Box::<link::Link>::default(),
        Box::<aer_uncorrectable::AerUncorrectable>::default(),
        Box::<aer_correctable::AerCorrectable>::default(),
        Box::<aer_above::AerAbove>::default(),
        Box::<driver::Driver>::default(),
        Box::<iommu_group::IommuGroup>::default(),
        Box::<numa_node::NumaNode>::default(),
    ];
    match kind {
        Kind::Accelerator => checks.extend([
            Box::<firmware_state::FirmwareState>::default() as Box<dyn Check>,
            Box::<heartbeat::Heartbeat>::default(),
            Box::<ecc_ue::EccUe>::default(),
            Box::<ecc_ce::EccCe>::default(),
            Box::<last_fault::LastFault>::default(),
            Box::<self_test::SelfTestResult>::default(),
            Box::<temperature::Temperature>::default(),
            Box::<throttle::Throttling>::default(),
            Box::<power_state::StateOfPower>::default(),
            Box::<firmware_version::Version>::default(),
            Box::<page_retirement::PageRetirement>::default(),
            Box::<pcie_replays::PcieReplays>::default(),
        ]),
        Kind::Nic => checks.extend([
            Box::<carrier::Carrier>::default() as Box<dyn Check>,
            Box::<carrier_flaps::CarrierFlaps>::default(),
            Box::<port_speed::PortSpeed>::default(),
            Box::<port_errors::PortErrorRates>::default(),
            Box::<port_drops::PortDropRates>::default(),
            Box::<port_counters::PortCounterRates>::default(),
            Box::<port_pause::PortPause>::default(),
            Box::<port_fec::PortFec>::default(),
            Box::<port_lanes::PortLanes>::default(),
            Box::<nic_version::NicVersion>::default(),
            Box::<rdma_port::RdmaPorts>::default(),
            Box::<rdma_errors::RdmaErrorRates>::default(),
        ]),
        Kind::Host => {}
    }
    checks.extend(kernel_log::of_function());
    checks
}
