//! A simulated host under the agent's judgement, with a clock that is set by hand: a look is a second, and takes a tenth.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

pub mod page;

use std::fs;
use std::io::Read as _;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use auk_asic::config::dvsec;
use auk_asic::program::{Activation, Gemm, Precision, Program};
use auk_asic::vitals::{BODY, VitalSigns};
use auk_driver::{
    Command, Device, DeviceMemory, IoQueue, OpenOptions, QueueOptions, ResetKind, WaitMode,
};
use auk_health::facts::{Class, Facts, Heard, Identity, Kind, Reading};
use auk_health::kernel_log::follow::{Follower, Named};
use auk_health::kernel_log::source::Source;
use auk_health::operator::HOST;
use auk_health::probe::discover::{Found, discover};
use auk_health::probe::target::{Sample, Target};
use auk_health::time::Moment;
use auk_health::verdict::{HealthState, Transition};
use auk_health::{Engine, Settings};
use auk_sim::ChipProfile;
use auk_sim::host::{Host, SimulatedHost};
use auk_sim::inject::{self, CONTROL_SOCKET, Injection, Verb};
use tempfile::TempDir;

pub const CHIP: &str = "0000:01:00.0";
const OTHER_CHIP: &str = "0000:02:00.0";
pub const NIC: &str = "0000:41:00.0";
/// Looks of which one is slow, and rare, as the agent has it.
const SLOW: u64 = 10;
const RARE: u64 = 30;
/// Longest wait for the host.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for a command that a fault may have befallen.
const SHORT: Duration = Duration::from_millis(100);

/// What a driver does, so that a fault has its occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Nothing,
    Nops,
    /// A command that takes long enough for its waiter to sleep.
    Sleep,
    Copy,
    Product,
    Restart,
    Reset,
}

/// Where a host is to begin that runs in a process of its own.
const ROOT: &str = "AUK_TEST_ROOT";

/// Who runs the simulated host.
enum Runs {
    Here(Box<SimulatedHost>),
    /// A process that can be killed; it ends when its standard input does.
    Child(Child),
}

/// A host of two chips and a NIC, the first chip in use, and the agent's engine.
pub struct Ward {
    job: Job,
    runs: Runs,
    /// Nobody's heart beats any more.
    dead: bool,
    root: PathBuf,
    _directory: TempDir,
    targets: Vec<(Found, Target)>,
    engine: Engine,
    log: Source,
    follower: Follower,
    now: Moment,
    count: u64,
    changes: Vec<(Duration, Transition)>,
}

impl Ward {
    pub fn new() -> Self {
        let directory = scratch();
        let root = directory.path().join("host");
        let host = Box::new(host_at(&root));
        Self::of(directory, root, Runs::Here(host))
    }

    /// The same, in a process of its own.
    pub fn in_a_process() -> Self {
        let directory = scratch();
        let root = directory.path().join("host");
        let child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_host_for_another_process", "--ignored"])
            .env(ROOT, &root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let begun = Instant::now();
        while !root.join(CONTROL_SOCKET).exists() {
            assert!(begun.elapsed() < PATIENCE, "the host does not start");
            thread::sleep(Duration::from_millis(5));
        }
        Self::of(directory, root, Runs::Child(child.unwrap()))
    }

    fn of(directory: TempDir, root: PathBuf, runs: Runs) -> Self {
        let mut ward = Self {
            job: Job::start(&root),
            runs,
            dead: false,
            targets: Vec::new(),
            engine: Engine::new(Settings::default()),
            log: Source::open(&root).unwrap(),
            follower: Follower::after(None),
            now: Moment::now(),
            count: 0,
            changes: Vec::new(),
            root,
            _directory: directory,
        };
        ward.looks(11);
        let components = ward.engine.components(ward.now);
        let mut devices = components.iter().filter(|found| found.bdf != HOST);
        assert!(
            devices.all(|found| found.state == HealthState::Healthy),
            "{components:#?}"
        );
        ward.forget();
        ward
    }

    /// What changed so far is of no interest.
    pub fn forget(&mut self) {
        self.changes.clear();
    }

    pub fn inject(&mut self, injection: &Injection) {
        inject::send(&self.root, injection, PATIENCE).unwrap();
        self.dead |= injection.verb == Verb::ProcessKill;
    }

    /// How often a fault has befallen the first chip.
    pub fn befell(&self, fault: &str) -> u64 {
        match &self.runs {
            Runs::Here(host) => {
                let faults = host.chips()[0].chip.faults();
                faults.get(fault).copied().unwrap_or(0)
            }
            Runs::Child(_) => 0,
        }
    }

    /// Where its tree is, as evidence names it.
    pub fn root(&self) -> String {
        self.root.display().to_string()
    }

    pub fn work(&mut self, work: Work) {
        self.job.work(work);
    }

    pub fn now(&self) -> Duration {
        self.now.uptime
    }

    /// What changed since all was well, and when.
    pub fn changes(&self) -> &[(Duration, Transition)] {
        &self.changes
    }

    pub fn component(&self, bdf: &str) -> auk_health::status::ComponentStatus {
        let components = self.engine.components(self.now);
        let found = components.into_iter().find(|found| found.bdf == bdf);
        found.unwrap()
    }

    /// So many looks at everything, a second apart.
    pub fn looks(&mut self, count: u32) {
        for _ in 0..count {
            let class = if self.count < 2 || self.count.is_multiple_of(RARE) {
                Class::Rare
            } else if self.count.is_multiple_of(SLOW) {
                Class::Slow
            } else {
                Class::Fast
            };
            self.count += 1;
            self.look(Duration::from_secs(1), class);
        }
    }

    /// A minute passes, and all is looked at.
    pub fn minute(&mut self) {
        self.look(Duration::from_secs(60), Class::Rare);
    }

    fn look(&mut self, later: Duration, class: Class) {
        self.now.uptime += later;
        self.now.unix_ms += auk_health::time::millis(later);
        // The hearts of both chips are shown in one go.
        let before = heartbeat(&self.root);
        let begun = Instant::now();
        while !self.dead && heartbeat(&self.root) == before && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        self.find();
        let of_no_name = |_: Named<'_>| Vec::new();
        let read = self
            .follower
            .read(&mut self.log, self.now, usize::MAX, of_no_name);
        read.unwrap();
        let mut targets = std::mem::take(&mut self.targets);
        for (found, target) in &mut targets {
            let mut sample = target.look(class);
            sample.facts.at = self.now;
            sample.facts.kernel_log = self.heard(&found.bdf);
            self.observe(sample);
        }
        self.targets = targets;
        let facts = Facts {
            kernel_log: self.heard(HOST),
            ..Facts::none(self.now)
        };
        self.observe(Sample {
            bdf: HOST.into(),
            kind: Kind::Host,
            identity: Identity::default(),
            facts,
        });
    }

    fn heard(&mut self, component: &str) -> Option<Reading<Vec<Heard>>> {
        Some(Ok(self.follower.take_heard(component)))
    }

    fn observe(&mut self, sample: Sample) {
        let at = self.now.uptime;
        let changes = self.engine.observe(sample).into_iter();
        self.changes.extend(changes.map(|change| (at, change)));
    }

    /// What is listed, as the agent lists it in each round; what is listed no more it goes on to miss.
    fn find(&mut self) {
        for found in discover(&self.root).unwrap() {
            let known = self
                .targets
                .iter()
                .position(|(known, _)| known.bdf == found.bdf);
            let target = || Target::new(&self.root, found.clone());
            match known {
                None => self.targets.push((found.clone(), target())),
                Some(at) if self.targets[at].0 != found => {
                    self.targets[at] = (found.clone(), target());
                }
                Some(_) => {}
            }
        }
    }

    /// The host goes first: a driver that closes a dead chip has nobody to wait for.
    pub fn end(self) {
        match self.runs {
            Runs::Here(host) => host.stop(),
            Runs::Child(mut child) => {
                drop(child.stdin.take());
                child.wait().unwrap();
            }
        }
        drop(self.job);
    }
}

fn scratch() -> TempDir {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    directory.unwrap()
}

fn host_at(root: &Path) -> SimulatedHost {
    let mut builder = Host::builder(root).nics(1);
    for serial in [0xA1, 0xA2] {
        builder = builder.chip(ChipProfile {
            memory: 1 << 20,
            ..ChipProfile::silicon(serial)
        });
    }
    builder.start().unwrap()
}

/// Runs a host for the process that has this one's standard input, until that ends.
pub fn run_for_another() {
    if let Some(root) = std::env::var_os(ROOT) {
        let host = host_at(Path::new(&root));
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        host.stop();
    }
}

fn heartbeat(root: &Path) -> Option<[u8; 4]> {
    let config = root
        .join("sys/bus/pci/devices")
        .join(OTHER_CHIP)
        .join("config");
    let bytes = fs::read(config).ok()?;
    let at = usize::from(dvsec::OFFSET + BODY) + offset_of!(VitalSigns, heartbeat);
    bytes.get(at..at + 4)?.try_into().ok()
}

/// A job on the first chip.
struct Job {
    device: Device,
    queue: IoQueue,
    memory: DeviceMemory,
}

impl Job {
    fn start(root: &Path) -> Self {
        let options = OpenOptions::default().longest_timeout(PATIENCE);
        let found = auk_driver::pci::Host::at(root);
        let device = Device::open(&found, CHIP.parse().unwrap(), &options).unwrap();
        let options = QueueOptions::default().wait_mode(WaitMode::Interrupt);
        let queue = device.create_queue(&options).unwrap();
        let memory = device.alloc(4096).unwrap();
        Self {
            device,
            queue,
            memory,
        }
    }

    /// What comes of it is the driver's to say, and of no interest here.
    fn work(&mut self, work: Work) {
        let Self {
            device,
            queue,
            memory,
        } = self;
        match work {
            Work::Nothing => {}
            Work::Nops => {
                for _ in 0..3 {
                    let _ = queue.run(&Command::nop(), SHORT);
                }
            }
            Work::Sleep => {
                if let Ok(semaphore) = device.buffer(8) {
                    let _ = queue.run(&Command::wait(&semaphore, 1, 20), 10 * SHORT);
                }
            }
            Work::Copy => {
                let _ = queue.upload(memory, 0, &[7; 64], SHORT);
            }
            Work::Product => {
                let _ = product(device, queue, memory);
            }
            Work::Restart => {
                let _ = device.restart_firmware();
            }
            Work::Reset => {
                let _ = device.reset(ResetKind::Flr);
            }
        }
    }
}

fn product(
    device: &Device,
    queue: &mut IoQueue,
    memory: &DeviceMemory,
) -> Result<(), auk_driver::Error> {
    let gemm = Gemm {
        precision: Precision::F32,
        inner: 4,
        columns: 4,
        bias: false,
        activation: Activation::None,
    };
    let program = device.load(&Program::Gemm(gemm))?;
    let (input, output) = (device.buffer(64)?, device.buffer(64)?);
    let command = Command::gemm(&program, 4, &output, &input, memory);
    queue.run(&command, SHORT).map(drop)
}

/// Verbs by name, for what is written in a table.
pub fn at_once(verb: Verb) -> Injection {
    let nic = verb.entry().target == inject::Target::Nic;
    Injection::new(if nic { NIC } else { CHIP }, verb)
}
