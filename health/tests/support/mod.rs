//! What the engine's tests share: a component, its facts, and a clock that is set by hand.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses its part, and a failing helper is a failing test"
)]

use std::time::Duration;

use auk_asic::vitals::{Throttle, Vitals};
use auk_asic::{SelfTest, State};
use auk_health::facts::{
    Aer, Class, Ethtool, FactKind, Facts, Fec, Identity, Kind, Link, LinkLayer, LinkRate, Port,
    PortDrops, PortErrors, PowerState, Presence, RdmaPort, RdmaState,
};
use auk_health::operator::{Author, Done, Mode, Order, OrderError};
use auk_health::probe::ProbeError;
use auk_health::probe::target::Sample;
use auk_health::status::ComponentStatus;
use auk_health::time::Moment;
use auk_health::verdict::{Admit, HealthState, Transition, Verdict};
use auk_health::{Engine, Settings};

pub const BDF: &str = "0000:01:00.0";
pub const GEN5_X8: LinkRate = LinkRate {
    megatransfers: 32_000,
    width: 8,
};

/// One component under an engine.
pub struct Bench {
    pub engine: Engine,
    pub now: Moment,
    pub facts: Facts,
    pub serial: Option<String>,
    pub slot: Option<String>,
    pub interface: Option<String>,
    pub bdf: &'static str,
    /// Whether the heartbeat goes on from look to look.
    pub beats: bool,
    kind: Kind,
}

impl Bench {
    /// An accelerator that was seen to be well, and may be given jobs.
    pub fn running() -> Self {
        let mut bench = Self::accelerator();
        bench.looks(5);
        assert_eq!(bench.state(), HealthState::Healthy);
        assert_eq!(bench.status().admission.answer, Admit::Yes);
        bench
    }

    pub fn accelerator() -> Self {
        Self::new(Kind::Accelerator, Settings::default())
    }

    pub fn nic() -> Self {
        Self::new(Kind::Nic, Settings::default())
    }

    /// On a host that booted when the bench's time begins.
    pub fn just_booted(kind: Kind) -> Self {
        let settings = Settings {
            booted: Some(Duration::from_secs(1000)),
            ..Settings::default()
        };
        Self::new(kind, settings)
    }

    pub fn new(kind: Kind, settings: Settings) -> Self {
        let now = Moment {
            uptime: Duration::from_secs(1000),
            unix_ms: 1_700_000_000_000,
        };
        let mut facts = Facts::none(now);
        let link = Link {
            current: Some(GEN5_X8),
            max: Some(GEN5_X8),
        };
        let aer = Aer {
            correctable: 7,
            nonfatal: 1,
            fatal: 1,
        };
        facts.presence = Some(Ok(Presence::Present));
        facts.power_state = Some(Ok(PowerState::D0));
        facts.vitals = (kind == Kind::Accelerator).then(|| Ok(vitals()));
        facts.link = Some(Ok(link));
        facts.link_above = Some(Ok(Some(link)));
        facts.aer = Some(Ok(Some(aer)));
        facts.aer_above = Some(Ok(Some(aer)));
        facts.driver = Some(Ok(Some("vfio-pci".to_owned())));
        facts.iommu_group = Some(Ok(Some(3)));
        facts.numa_node = Some(Ok(Some(0)));
        facts.port = (kind == Kind::Nic).then(|| Ok(Some(port())));
        facts.rdma = (kind == Kind::Nic).then(|| Ok(vec![rdma_port()]));
        facts.ethtool = (kind == Kind::Nic).then(|| Ok(Some(ethtool())));
        Self {
            engine: Engine::new(settings),
            now,
            facts,
            serial: Some("a1".to_owned()),
            slot: None,
            interface: None,
            bdf: BDF,
            beats: true,
            kind,
        }
    }

    /// A look, a second after the last.
    pub fn look(&mut self) -> Vec<Transition> {
        self.now.uptime += Duration::from_secs(1);
        self.now.unix_ms += 1000;
        if self.beats
            && let Some(Ok(vitals)) = &mut self.facts.vitals
        {
            vitals.heartbeat = vitals.heartbeat.wrapping_add(10);
        }
        self.facts.at = self.now;
        let sample = self.sample();
        self.engine.observe(sample)
    }

    /// What a look at this moment sees.
    pub fn sample(&self) -> Sample {
        let identity = Identity {
            pci_id: "1ae5:a100".to_owned(),
            serial: self.serial.clone(),
            slot: self.slot.clone(),
            interface: self.interface.clone(),
            upstream: Some("0000:00:01.0".to_owned()),
        };
        Sample {
            bdf: self.bdf.into(),
            kind: self.kind,
            identity,
            facts: self.facts.clone(),
        }
    }

    /// What somebody orders, at the time of the last look.
    pub fn order(&mut self, order: Order) -> Result<(Done, Vec<Transition>), OrderError> {
        let author = Author {
            uid: 1000,
            name: Some("nora".to_owned()),
        };
        self.engine.order(self.now, &author, order)
    }

    pub fn hold(&mut self, seconds: Option<u64>) {
        let order = Order::Hold {
            component: BDF.to_owned(),
            reason: "reseating".to_owned(),
            seconds,
        };
        self.order(order).unwrap();
    }

    pub fn release(&mut self) {
        let (component, reason) = (BDF.to_owned(), None);
        self.order(Order::Release { component, reason }).unwrap();
    }

    pub fn clear(&mut self, check: Option<&str>) -> Result<(Done, Vec<Transition>), OrderError> {
        self.order(Order::Clear {
            component: BDF.to_owned(),
            check: check.map(str::to_owned),
            reason: "looked at it".to_owned(),
        })
    }

    pub fn switch(&mut self, check: &str, mode: Option<Mode>) {
        let order = Order::Switch {
            check: check.to_owned(),
            mode,
            reason: "too loud".to_owned(),
        };
        self.order(order).unwrap();
    }

    /// Time passes, with a look a minute.
    pub fn minutes(&mut self, minutes: u64) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for _ in 0..minutes {
            self.now.uptime += Duration::from_secs(59);
            self.now.unix_ms += 59_000;
            transitions.extend(self.look());
        }
        transitions
    }

    /// The chip fails its self-test, and passes the next.
    pub fn illness(&mut self) -> Vec<Transition> {
        self.vitals().self_test = SelfTest::Failed;
        let mut transitions = self.look();
        self.vitals().self_test = SelfTest::Passed;
        transitions.extend(self.look());
        transitions
    }

    /// The agent stops and starts again after a while, in the same boot or in another.
    pub fn restart(&mut self, away: Duration, same_boot: bool) {
        let saved = self.engine.saved(self.now, Some("one")).unwrap();
        let text = serde_json::to_string(&saved).unwrap();
        self.now.unix_ms += auk_health::time::millis(away);
        let boot = match same_boot {
            true => {
                self.now.uptime += away;
                "one"
            }
            false => {
                self.now.uptime = Duration::from_secs(20);
                "two"
            }
        };
        let saved = serde_json::from_str(&text).unwrap();
        let settings = Settings::default();
        self.engine = Engine::restored(settings, saved, self.now, Some(boot)).unwrap();
    }

    /// So many looks, a second apart.
    pub fn looks(&mut self, count: u32) -> Vec<Transition> {
        (0..count).flat_map(|_| self.look()).collect()
    }

    pub fn vitals(&mut self) -> &mut Vitals {
        self.facts.vitals.as_mut().unwrap().as_mut().unwrap()
    }

    pub fn port(&mut self) -> &mut Port {
        let port = self.facts.port.as_mut().unwrap().as_mut().unwrap();
        port.as_mut().unwrap()
    }

    pub fn ethtool(&mut self) -> &mut Ethtool {
        let ethtool = self.facts.ethtool.as_mut().unwrap().as_mut().unwrap();
        ethtool.as_mut().unwrap()
    }

    /// The driver's own counter of a name.
    pub fn counter(&mut self, pattern: &str) -> &mut u64 {
        self.ethtool().counters.get_mut(pattern).unwrap()
    }

    pub fn rdma(&mut self) -> &mut RdmaPort {
        let ports = self.facts.rdma.as_mut().unwrap().as_mut().unwrap();
        &mut ports[0]
    }

    /// The counters of the port above.
    pub fn aer_above(&mut self) -> &mut Aer {
        let aer = self.facts.aer_above.as_mut().unwrap().as_mut().unwrap();
        aer.as_mut().unwrap()
    }

    pub fn aer(&mut self) -> &mut Aer {
        let aer = self.facts.aer.as_mut().unwrap().as_mut().unwrap();
        aer.as_mut().unwrap()
    }

    pub fn link(&mut self) -> &mut Link {
        self.facts.link.as_mut().unwrap().as_mut().unwrap()
    }

    pub fn width(&mut self, lanes: u32) {
        self.link().current.as_mut().unwrap().width = lanes;
    }

    /// From now on nothing can be read.
    pub fn blind(&mut self) {
        let late = ProbeError::Late { deadline_ms: 500 };
        self.facts = Facts::blind(self.now, &FactKind::read_by(Class::Rare, self.kind), &late);
    }

    pub fn status(&self) -> ComponentStatus {
        self.engine.components(self.now).remove(0)
    }

    pub fn state(&self) -> HealthState {
        self.status().state
    }

    pub fn verdict(&self, check: &str) -> Verdict {
        self.status().verdict(check).unwrap().clone()
    }
}

pub fn vitals() -> Vitals {
    Vitals {
        state: State::Running,
        fault: None,
        generation: 1,
        last_fault: None,
        self_test: SelfTest::NotRun,
        self_test_generation: 0,
        die_temperature: 550,
        memory_temperature: 500,
        throttle_point: 950,
        shutdown_point: 1050,
        power: 60_000,
        power_limit: 90_000,
        throttle: Throttle::new(),
        ecc_ce: 12,
        ecc_ue: 0,
        retired_pages: 0,
        pcie_replays: 0,
        heartbeat: 1000,
        firmware: None,
    }
}

pub fn port() -> Port {
    Port {
        index: Some(2),
        admin_up: Some(true),
        carrier: Some(true),
        carrier_up: Some(1),
        carrier_down: Some(0),
        speed_mbit: Some(400_000),
        full_duplex: Some(true),
        errors: PortErrors {
            rx: Some(5),
            tx: Some(0),
            rx_crc: Some(2),
        },
        drops: PortDrops {
            rx_packets: Some(10_000),
            rx: Some(900),
            rx_missed: Some(3),
            tx_packets: Some(10_000),
            tx: Some(0),
        },
    }
}

pub fn ethtool() -> Ethtool {
    let counters = [
        ("rx_crc_errors_phy", 40),
        ("rx_discards_phy", 5_000_000),
        ("rx_prio#_pause", 7_000_000_000),
        ("tx_pause_storm_error_events", 3),
        ("tx#_recover", 1),
    ];
    Ethtool {
        driver: "mlx5_core".to_owned(),
        driver_version: "6.12.0".to_owned(),
        firmware: "22.41.1000 (MT_0000000436)".to_owned(),
        lanes: Some(4),
        fec: Some(Fec {
            active: Some("rs".to_owned()),
            corrected: Some(1_000_000),
            uncorrectable: Some(3),
        }),
        pause: None,
        counters: counters
            .map(|(name, count)| (name.to_owned(), count))
            .into(),
        unanswered: Default::default(),
    }
}

pub fn rdma_port() -> RdmaPort {
    RdmaPort {
        device: "mlx5_0".to_owned(),
        port: 1,
        link_layer: LinkLayer::Ethernet,
        state: RdmaState::Active,
        phys_state: "5: LinkUp".to_owned(),
        rate_mbit: Some(400_000),
        gids: 2,
        interface: None,
        counters: [("counters/symbol_error".to_owned(), 7)].into(),
    }
}
