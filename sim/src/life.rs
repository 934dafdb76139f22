//! The life of the control core: its state, its faults, its heartbeat, and what of them outlives it.

use std::time::{Duration, Instant};

use auk_asic::firmware::FirmwareVersion;
use auk_asic::vitals::HEARTBEAT_HZ;
use auk_asic::{Fault, SelfTest, State};

/// Counts while it runs.
#[derive(Debug, Default)]
struct Stopwatch {
    before: Duration,
    since: Option<Instant>,
}

impl Stopwatch {
    fn read(&self, now: Instant) -> Duration {
        let running = self.since.map(|since| now.saturating_duration_since(since));
        self.before + running.unwrap_or_default()
    }

    fn run(&mut self, run: bool, now: Instant) {
        match (run, self.since) {
            (true, None) => self.since = Some(now),
            (false, Some(_)) => {
                self.before = self.read(now);
                self.since = None;
            }
            _ => {}
        }
    }
}

/// What the control core does and did.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) state: State,
    pub(crate) fault: Option<Fault>,
    pub(crate) generation: u32,
    pub(crate) last_fault: Option<(Fault, u32)>,
    pub(crate) self_test: SelfTest,
    pub(crate) self_test_generation: u32,
    pub(crate) version: Option<FirmwareVersion>,
    pub(crate) ecc_ce: u32,
    pub(crate) ecc_ue: u32,
    pub(crate) retired_pages: u32,
    pub(crate) pcie_replays: u32,
    /// Pages that the next start retires.
    pub(crate) condemned_pages: u32,
    /// When the boot under way ends.
    pub(crate) boot_ends: Option<Instant>,
    /// When the watchdog sees that the runtime hangs.
    pub(crate) watchdog_bites: Option<Instant>,
    pub(crate) started: Instant,
    heartbeat: Stopwatch,
}

impl Life {
    /// Power-on: the first boot begins.
    pub(crate) fn new(now: Instant, boot: Duration) -> Self {
        Self {
            state: State::Booting,
            fault: None,
            generation: 0,
            last_fault: None,
            self_test: SelfTest::NotRun,
            self_test_generation: 0,
            version: None,
            ecc_ce: 0,
            ecc_ue: 0,
            retired_pages: 0,
            pcie_replays: 0,
            condemned_pages: 0,
            boot_ends: Some(now + boot),
            watchdog_bites: None,
            started: now,
            heartbeat: Stopwatch::default(),
        }
    }

    /// A restart: the next boot begins, and what was wrong is forgotten.
    pub(crate) fn restart(&mut self, now: Instant, boot: Duration) {
        self.state = State::Booting;
        self.fault = None;
        self.version = None;
        self.watchdog_bites = None;
        self.boot_ends = Some(now + boot);
    }

    /// The runtime starts.
    pub(crate) fn start(&mut self, version: FirmwareVersion, now: Instant) {
        self.state = State::Running;
        self.generation = self.generation.wrapping_add(1);
        self.version = Some(version);
        self.started = now;
        self.retired_pages = self.retired_pages.saturating_add(self.condemned_pages);
        self.condemned_pages = 0;
    }

    /// The chip stops on a fault, or for [`Fault::ImageRejected`] stays in the loader.
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.state = match fault {
            Fault::ImageRejected => State::Loader,
            _ => State::Faulted,
        };
        self.fault = Some(fault);
        self.last_fault = Some((fault, self.generation));
        self.watchdog_bites = None;
        self.boot_ends = None;
    }

    /// Whether the runtime stands still without knowing.
    pub(crate) fn hangs(&self) -> bool {
        self.watchdog_bites.is_some()
    }

    /// Power is cut and comes back: what is kept without power stays.
    pub(crate) fn power_cycle(&mut self, now: Instant, boot: Duration) {
        *self = Self {
            ecc_ce: self.ecc_ce,
            ecc_ue: self.ecc_ue,
            retired_pages: self.retired_pages,
            condemned_pages: self.condemned_pages,
            ..Self::new(now, boot)
        };
    }

    /// Lets the heartbeat run or stand, as the state and the power state have it.
    pub(crate) fn update_heartbeat(&mut self, in_d0: bool, now: Instant) {
        let beats = in_d0 && self.state == State::Running && !self.hangs();
        self.heartbeat.run(beats, now);
    }

    /// The heartbeat's count.
    pub(crate) fn heartbeat(&self, now: Instant) -> u32 {
        let tick = Duration::from_secs(1) / HEARTBEAT_HZ;
        // Modulo 2^32, as the register counts.
        (self.heartbeat.read(now).as_millis() / tick.as_millis()) as u32
    }
}
