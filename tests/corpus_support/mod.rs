//! What the corpus is recorded on: a simulated host, seen through a copy of its tree in which what the simulator has no
//! verb for can be changed, with a clock that is set by hand.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

pub mod tree;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use auk_asic::vitals::VitalSigns;
use auk_driver::{Device, OpenOptions};
use auk_health::facts::{Class, Facts, Heard, Holder, Identity, Kind, Reading};
use auk_health::kernel_log::follow::{Follower, Named};
use auk_health::kernel_log::source::Source;
use auk_health::operator::{Author, HOST, Order};
use auk_health::probe::ProbeError;
use auk_health::probe::discover::{Found, discover};
use auk_health::probe::target::{Sample, Target};
use auk_health::recording::{Entry, Header, Recorder, Start};
use auk_health::time::Moment;
use auk_health::{Config, Engine, Settings};
use auk_sim::host::{Host, SimulatedHost};
use auk_sim::inject::{Injection, Verb};
use auk_sim::{ChipProfile, Timing};
use serde_json::{Value, json};
use tempfile::TempDir;
use tree::{Edit, Edits};

pub const CHIP: &str = "0000:01:00.0";
pub const OTHER_CHIP: &str = "0000:02:00.0";
pub const NIC: &str = "0000:41:00.0";
/// Slow looks come this much rarer than fast ones, and rare ones this much.
const SLOW: u64 = 10;
const RARE: u64 = 30;
/// Longest wait for the next beat of a heart that beats ten times a second.
const BEAT: Duration = Duration::from_millis(200);

/// A host on which a scenario is played, and the recording of it.
pub struct Stage {
    host: SimulatedHost,
    _directory: TempDir,
    root: PathBuf,
    edits: Edits,
    targets: Vec<(String, Target)>,
    recorder: Recorder,
    /// What the agent would know, to take over a restart.
    engine: Engine,
    settings: Settings,
    now: Moment,
    count: u64,
    /// The kernel log of a host that has one.
    log: Option<Log>,
    /// The job that has all of it.
    job: Option<Holder>,
}

/// A kernel log, and how far it was heard.
struct Log {
    source: Source,
    follower: Follower,
    next: u64,
}

/// What a stage is to have.
#[derive(Clone, Copy, Default)]
pub struct Props {
    pub chips: u64,
    pub nics: usize,
    /// How long ago the host booted; long ago without.
    pub booted_ago: Option<Duration>,
    pub watchdog: Option<Duration>,
    /// Chips share the first one's port.
    pub one_port: bool,
}

/// A host with a chip.
pub const CHIP_ALONE: Props = Props {
    chips: 1,
    nics: 0,
    booted_ago: None,
    watchdog: None,
    one_port: false,
};
/// A host with a NIC.
pub const NIC_ALONE: Props = Props {
    chips: 0,
    nics: 1,
    ..CHIP_ALONE
};

impl Stage {
    pub fn new(file: &Path, scenario: Value, props: Props) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut builder = Host::builder(directory.path().join("host")).nics(props.nics);
        for serial in 1..=props.chips {
            let mut timing = Timing::default();
            timing.watchdog = props.watchdog.unwrap_or(timing.watchdog);
            builder = builder.chip(ChipProfile {
                memory: 1 << 20,
                timing,
                ..ChipProfile::silicon(0xA0 + serial)
            });
        }
        let host = builder.start().unwrap();
        let root = directory.path().join("seen");
        let edits = Edits::new(props.one_port);
        edits.copy(host.root(), &root);
        let found = discover(&root).unwrap();
        let targets = found
            .into_iter()
            .map(|found| (found.bdf.clone(), Target::new(&root, found)))
            .collect();
        let now = Moment {
            uptime: Duration::from_secs(100_000),
            unix_ms: 1_760_000_000_000,
        };
        let settings = Settings {
            booted: props.booted_ago.map(|ago| now.uptime - ago),
            ..Settings::default()
        };
        let engine = Engine::new(settings.clone());
        let _ = std::fs::remove_file(file);
        let mut recorder = Recorder::create(file, &Header::new(Some(scenario))).unwrap();
        let start = Start::of(&engine, &settings, now);
        recorder.put(&Entry::Start(Box::new(start)));
        Self {
            host,
            _directory: directory,
            root,
            edits,
            targets,
            recorder,
            engine,
            settings,
            now,
            count: 0,
            log: None,
            job: None,
        }
    }

    /// From now on the host has a kernel log, and the agent hears what is in it.
    pub fn with_log(mut self) -> Self {
        std::fs::create_dir_all(self.root.join("dev")).unwrap();
        std::fs::write(self.root.join("dev/kmsg"), "").unwrap();
        self.log = Some(Log {
            source: Source::open(&self.root).unwrap(),
            follower: Follower::after(None),
            next: 0,
        });
        self
    }

    /// With a manifest of the host, and what it reads of it: files by their path below the root.
    pub fn with_profile(mut self, manifest: &str, files: &[(&str, &str)]) -> Self {
        let config = Config::from_text(Path::new("scenario"), manifest).unwrap();
        self.settings.manifest = config.settings.manifest;
        self.engine.set_settings(self.settings.clone());
        let settings = Start::without_memory(&self.settings, self.now);
        self.recorder.put(&Entry::Settings(Box::new(settings)));
        for (file, text) in files {
            self.profile_file(file, text);
        }
        let host = Found::host(self.settings.manifest.host.asked());
        let host = (host.bdf.clone(), Target::new(&self.root, host));
        self.targets.push(host);
        self
    }

    /// From now on a file of the host's profile holds this.
    pub fn profile_file(&self, file: &str, text: &str) {
        let path = self.root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The kernel says this, at once.
    pub fn says(&mut self, lines: &[&str]) {
        self.written(3, lines);
    }

    /// A process writes this to the kernel log.
    pub fn process_writes(&mut self, lines: &[&str]) {
        self.written(12, lines);
    }

    fn written(&mut self, priority: u8, lines: &[&str]) {
        let log = self.log.as_mut().unwrap();
        let path = self.root.join("dev/kmsg");
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        let micros = self.now.uptime.as_micros();
        for line in lines {
            writeln!(file, "{priority},{},{micros},-;{line}", log.next).unwrap();
            log.next += 1;
        }
    }

    /// Hears what is in the log.
    fn listen(&mut self) {
        if let Some(log) = &mut self.log {
            let all = usize::MAX;
            let of_no_name = |_: Named<'_>| Vec::new();
            log.follower
                .read(&mut log.source, self.now, all, of_no_name)
                .unwrap();
        }
    }

    /// What was heard of a component.
    fn heard(&mut self, component: &str) -> Option<Reading<Vec<Heard>>> {
        let log = self.log.as_mut()?;
        Some(Ok(log.follower.take_heard(component)))
    }

    /// A job opens what there is.
    pub fn job_begins(&mut self) {
        self.job = Some(Holder {
            pid: 4242,
            comm: "train".to_owned(),
            since: self.now.unix_ms / 1000,
            cgroup: None,
        });
    }

    /// It ends, or dies.
    pub fn job_ends(&mut self) {
        self.job = None;
    }

    /// Time passes, on both clocks.
    pub fn pass(&mut self, time: Duration) {
        self.now.uptime += time;
        self.now.unix_ms += auk_health::time::millis(time);
    }

    /// The wall clock alone is set.
    pub fn set_wall_clock(&mut self, milliseconds: i64) {
        self.now.unix_ms = self.now.unix_ms.saturating_add_signed(milliseconds);
    }

    /// So many looks at everything, a second apart.
    pub fn looks(&mut self, count: u32) {
        for _ in 0..count {
            self.pass(Duration::from_secs(1));
            // As the agent does: of a growth it takes two.
            let class = if self.count < 2 || self.count.is_multiple_of(RARE) {
                Class::Rare
            } else if self.count.is_multiple_of(SLOW) {
                Class::Slow
            } else {
                Class::Fast
            };
            self.count += 1;
            self.look(class);
        }
    }

    /// So many minutes of a host on which nothing happens, with a look a minute.
    pub fn minutes(&mut self, count: u32) {
        for _ in 0..count {
            self.pass(Duration::from_secs(60));
            self.look(Class::Rare);
        }
    }

    fn look(&mut self, class: Class) {
        let before = self.edits.heartbeats(self.host.root());
        let start = Instant::now();
        while self.edits.heartbeats(self.host.root()) == before && start.elapsed() < BEAT {
            thread::sleep(Duration::from_millis(5));
        }
        self.edits.copy(self.host.root(), &self.root);
        self.listen();
        let mut targets = std::mem::take(&mut self.targets);
        let watched = targets.iter().any(|(name, _)| name == HOST);
        for (name, target) in &mut targets {
            let sample = target.look(class);
            let mut sample = without_root(&sample, &self.root);
            sample.facts.at = self.now;
            sample.facts.kernel_log = self.heard(name);
            sample.facts.holder.clone_from(&self.job);
            self.recorder.look(&sample);
            self.engine.observe(sample);
        }
        self.targets = targets;
        if !watched && self.log.is_some() {
            let sample = Sample {
                bdf: HOST.into(),
                kind: Kind::Host,
                identity: Identity::default(),
                facts: Facts {
                    kernel_log: self.heard(HOST),
                    ..Facts::none(self.now)
                },
            };
            self.recorder.look(&sample);
            self.engine.observe(sample);
        }
    }

    /// So many rounds in which no read of a component ends in time.
    pub fn late(&mut self, bdf: &str, rounds: u32) {
        for _ in 0..rounds {
            self.pass(Duration::from_secs(1));
            let error = ProbeError::Late { deadline_ms: 500 };
            let kind = Kind::Accelerator;
            let (at, class) = (self.now, Class::Fast);
            self.recorder.put(&Entry::Miss {
                bdf: bdf.to_owned(),
                kind,
                at,
                class,
                error: error.clone(),
            });
            self.engine.miss(bdf, kind, at, class, &error);
        }
    }

    pub fn order(&mut self, order: Order) {
        let author = Author {
            uid: 1000,
            name: Some("nora".to_owned()),
        };
        let (done, _) = self.engine.order(self.now, &author, order).unwrap();
        self.recorder.put(&Entry::Order {
            at: self.now,
            author,
            order: done.order,
        });
    }

    /// The agent stops, and after a while another goes on with what it knew.
    pub fn restart(&mut self, away: Duration) {
        self.pass(away);
        let start = Start::of(&self.engine, &self.settings, self.now);
        self.recorder.put(&Entry::Start(Box::new(start)));
        if let Some(log) = &mut self.log {
            log.follower = Follower::after(log.follower.seen());
            log.source = Source::open(&self.root).unwrap();
        }
        self.find_anew();
    }

    /// Nothing is held open any more, and each is known by what the list says of it now.
    fn find_anew(&mut self) {
        for found in discover(&self.root).unwrap() {
            let bdf = found.bdf.clone();
            let known = self.targets.iter_mut().find(|(known, _)| *known == bdf);
            known.unwrap().1 = Target::new(&self.root, found);
        }
    }

    /// The NIC's interface has another name from now on.
    pub fn rename(&mut self, to: &'static str) {
        let class = Path::new("sys/class/net/eth0").to_owned();
        self.edits.set(class, Edit::Renamed(to));
        let directory = self.function(NIC).join("net/eth0");
        self.edits.set(directory, Edit::Renamed(to));
        self.edits.copy(self.host.root(), &self.root);
        self.find_anew();
    }

    pub fn inject(&self, target: &str, verb: Verb) {
        let target = target.to_owned();
        self.host.inject(&Injection::new(target, verb)).unwrap();
    }

    pub fn open(&self, bdf: &str) -> Device {
        let host = auk_driver::pci::Host::at(self.host.root());
        Device::open(&host, bdf.parse().unwrap(), &OpenOptions::default()).unwrap()
    }

    /// From now on a file of a function holds this.
    pub fn write(&mut self, bdf: &str, file: &str, text: &str) {
        let path = self.function(bdf).join(file);
        self.edits.set(path, Edit::Text(format!("{text}\n")));
    }

    /// From now on a file or a directory is not there.
    pub fn remove(&mut self, bdf: &str, file: &str) {
        let path = self.function(bdf).join(file);
        self.edits.set(path, Edit::Gone);
    }

    /// A function is unplugged.
    pub fn unplug(&mut self, bdf: &str) {
        self.remove(bdf, "");
        let link = Path::new("sys/bus/pci/devices").join(bdf);
        self.edits.set(link, Edit::Gone);
    }

    /// From now on a function's config space is changed like this.
    pub fn config(&mut self, bdf: &str, change: impl Fn(&mut Vec<u8>) + 'static) {
        let path = self.function(bdf).join("config");
        self.edits.set(path, Edit::Bytes(Box::new(change)));
    }

    /// From now on all of config space reads as ones.
    pub fn all_ones(&mut self, bdf: &str) {
        self.config(bdf, |config| config.fill(0xFF));
    }

    /// From now on a chip's vital signs are changed like this.
    pub fn vitals(&mut self, bdf: &str, change: impl Fn(&mut VitalSigns) + 'static) {
        self.config(bdf, move |config| change(tree::vital_signs(config)));
    }

    /// From now on it is as the simulator has it.
    pub fn heal(&mut self) {
        self.edits.clear();
    }

    fn function(&self, bdf: &str) -> PathBuf {
        self.edits.function(self.host.root(), bdf)
    }
}

/// A look without the place where this host happens to be.
fn without_root(sample: &Sample, root: &Path) -> Sample {
    let text = serde_json::to_string(sample).unwrap();
    serde_json::from_str(&text.replace(&root.display().to_string(), "")).unwrap()
}

/// How a component is to be at the end.
pub fn end(state: &str, new_jobs: &str, action: &str, check: Option<&str>) -> Value {
    json!({ "state": state, "new_jobs": new_jobs, "action": action, "check": check })
}
