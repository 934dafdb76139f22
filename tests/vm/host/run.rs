//! One boot: a machine is started, its tests run one after the other, and it is switched off.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use auk_vm::{
    FromGuest, FromHost, MODULE_DIRECTORY, Outcome, Request, SETUP_FILE, Setup, TestInfo,
};
use tempfile::TempDir;

use crate::chips::Simulated;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::machine::{DISK, Machine};
use crate::plan::Planned;
use crate::port::{self, Port};
use crate::programs::Programs;
use crate::qemu::{Qemu, Running};
use crate::recordings::Recordings;

/// A boot takes 4 to 9 s on a quiet machine.
const BOOT: Duration = Duration::from_secs(180);
/// What the guest gets on top of a test's own deadline, which it sees to itself.
const MARGIN: Duration = Duration::from_secs(30);

/// The pseudo-test that a chip was only asked for what hardware defines.
const STRICT: &str = "simulator::nothing_undefined_was_done_to_a_chip";

/// A boot that is to be run.
pub(crate) struct Job<'a> {
    pub(crate) planned: &'a Planned<'a>,
    pub(crate) kernel: &'a Kernel,
    /// Where its logs go.
    pub(crate) logs: &'a Path,
    pub(crate) recordings: &'a Recordings,
}

/// How a test went.
pub(crate) struct Finished {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    pub(crate) output: String,
    pub(crate) took: Duration,
}

impl Finished {
    /// A test that failed before it could run.
    pub(crate) fn failed(test: &TestInfo, why: String) -> Self {
        Self {
            test: test.name.clone(),
            outcome: Outcome::Failed(why),
            output: String::new(),
            took: Duration::ZERO,
        }
    }
}

/// Runs a boot; `told` is called as each test ends.
pub(crate) fn run(job: &Job<'_>, qemu: &Qemu, programs: &Programs, told: &mut dyn FnMut(Finished)) {
    let mut session = match Session::start(job, qemu, programs) {
        Ok(session) => session,
        Err(error) => {
            for test in &job.planned.tests {
                told(Finished::failed(test, format!("no machine: {error:#}")));
            }
            return;
        }
    };
    let mut tests = job.planned.tests.iter();
    for test in tests.by_ref() {
        let started = Instant::now();
        let ended = session.test(test);
        let broken = ended.as_ref().err().map(|error| format!("{error:#}"));
        let (outcome, output) =
            ended.unwrap_or_else(|error| (Outcome::Failed(format!("{error:#}")), String::new()));
        told(Finished {
            test: test.name.clone(),
            outcome,
            output,
            took: started.elapsed(),
        });
        if let Some(broken) = broken {
            for test in tests {
                let why = format!("not run, because before it {broken}");
                told(Finished::failed(test, why));
            }
            return;
        }
    }
    session.power_off();
    let violations = session.violations();
    if !violations.is_empty() {
        told(Finished {
            test: STRICT.to_owned(),
            outcome: Outcome::Failed(violations.join("\n")),
            output: String::new(),
            took: Duration::ZERO,
        });
    }
}

fn archive(job: &Job<'_>, programs: &Programs) -> Result<Vec<u8>> {
    let mut archive = Initramfs::new();
    for (path, contents) in &programs.files {
        archive.file(path, contents);
    }
    let wanted = job.planned.boot.all_modules(job.planned.mode);
    let mut modules = Vec::new();
    for (name, contents) in job.kernel.load_order(&wanted)? {
        let place = format!("{}/{name}", MODULE_DIRECTORY.trim_start_matches('/'));
        archive.file(&place, &contents);
        let parameters = job.planned.boot.parameters(&name).to_owned();
        modules.push((name, parameters));
    }
    let setup = Setup {
        boot: job.planned.boot.name.to_owned(),
        mode: job.planned.mode,
        modules,
        chips: job.planned.boot.chips,
    };
    let setup = serde_json::to_vec_pretty(&setup)?;
    archive.file(SETUP_FILE.trim_start_matches('/'), &setup);
    Ok(archive.finish())
}

/// A machine that runs. What comes first goes first: QEMU before the chips that it is connected to.
struct Session<'a> {
    qemu: Running,
    port: Port,
    chips: Vec<Simulated>,
    recordings: &'a Recordings,
    _directory: TempDir,
}

impl<'a> Session<'a> {
    /// Boots a machine.
    fn start(job: &Job<'a>, qemu: &Qemu, programs: &Programs) -> Result<Self> {
        let boot = job.planned.boot;
        let directory = tempfile::tempdir().context("making a folder for sockets")?;
        let chips: Vec<_> = (0..boot.chips)
            .map(|number| Simulated::start(number, directory.path()))
            .collect::<Result<_>>()?;
        let sockets: Vec<_> = chips.iter().map(|chip| chip.socket().to_owned()).collect();
        let initramfs = directory.path().join("initramfs");
        fs::write(&initramfs, archive(job, programs)?)?;
        let disk = directory.path().join("disk");
        File::create(&disk)?.set_len(DISK)?;
        let machine = Machine {
            boot,
            kernel: &job.kernel.image,
            initramfs: &initramfs,
            run: directory.path(),
            chips: &sockets,
            disk: &disk,
            console: &job.logs.join("console.log"),
            log: &job.logs.join("qemu.log"),
        };
        let listener = port::listen(&machine.port())?;
        let mut qemu = qemu.start(&machine)?;
        let port = Port::accept(&listener, &mut qemu, BOOT)?;
        match port.receive(&mut qemu, BOOT).context("booting")? {
            FromGuest::Ready { .. } => {}
            other => anyhow::bail!("the guest began with {other:?}"),
        }
        Ok(Self {
            qemu,
            port,
            chips,
            recordings: job.recordings,
            _directory: directory,
        })
    }

    /// Runs a test: how it went, and what it printed. After an error nothing can be said to the guest any more.
    fn test(&mut self, test: &TestInfo) -> Result<(Outcome, String)> {
        self.port.send(&FromHost::Run {
            test: test.name.clone(),
            seconds: test.seconds,
        })?;
        let limit = Duration::from_secs(test.seconds) + MARGIN;
        loop {
            match self.port.receive(&mut self.qemu, limit)? {
                FromGuest::Done {
                    test: ended,
                    outcome,
                    output,
                } if ended == test.name => return Ok((outcome, output)),
                FromGuest::Ask { number, request } => {
                    let result = self.answer(request).map_err(|error| format!("{error:#}"));
                    self.port.send(&FromHost::Answer { number, result })?;
                }
                other => anyhow::bail!("during {} the guest said {other:?}", test.name),
            }
        }
    }

    fn answer(&mut self, request: Request) -> Result<String> {
        let mut done = String::new();
        match request {
            Request::Monitor(command) => done = self.qemu.human_monitor(&command)?,
            Request::Qmp { execute, arguments } => {
                let arguments = serde_json::from_str(&arguments)?;
                done = self.qemu.qmp(&execute, &arguments)?.to_string();
            }
            Request::KillSimulator(chip) => self.chip(chip)?.kill(),
            Request::StartSimulator(chip) => self.chip(chip)?.serve()?,
            Request::SimulatorSocket(chip) => {
                done = self.chip(chip)?.socket().display().to_string();
            }
            Request::Inject { chip, fault } => self.chip(chip)?.inject(fault)?,
            Request::TakeViolations(chip) => done = self.chip(chip)?.take_violations().join("\n"),
            Request::Record { name, text } => self.recordings.take(&name, &text)?,
        }
        Ok(done)
    }

    fn chip(&mut self, number: usize) -> Result<&mut Simulated> {
        let there = self.chips.len();
        self.chips
            .get_mut(number)
            .with_context(|| format!("there is no chip {number}, there are {there}"))
    }

    /// Lets the guest switch itself off; a guest that does not is killed.
    fn power_off(&mut self) {
        let deadline = Instant::now() + MARGIN;
        if self.port.send(&FromHost::PowerOff).is_ok() {
            while !self.qemu.has_ended() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// What the chips saw that silicon leaves undefined, and no test has taken.
    fn violations(&mut self) -> Vec<String> {
        let chips = self.chips.iter_mut();
        chips.flat_map(Simulated::take_violations).collect()
    }
}
