//! One boot: a machine is started, its tests run one after the other, and it is switched off.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use auk_vm::{
    FromGuest, FromHost, MODULE_DIRECTORY, Mode, Outcome, Request, SETUP_FILE, Setup, TestInfo,
};

use crate::boots::Boot;
use crate::chips::Simulated;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::machine::{DISK, Machine};
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
    pub(crate) boot: &'a Boot,
    pub(crate) mode: Mode,
    pub(crate) line: &'static str,
    pub(crate) kernel: &'a Kernel,
    pub(crate) tests: Vec<&'a TestInfo>,
    /// Where its logs go.
    pub(crate) logs: PathBuf,
    pub(crate) recordings: &'a Recordings,
}

/// How a test went.
pub(crate) struct Finished {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    pub(crate) output: String,
    pub(crate) took: Duration,
}

/// Runs a boot; `told` is called as each test ends.
pub(crate) fn run(
    job: &Job<'_>,
    qemu: &Qemu,
    programs: &Programs,
    told: &mut dyn FnMut(Finished),
) -> Result<()> {
    let directory = tempfile::tempdir().context("making a folder for sockets")?;
    fs::create_dir_all(&job.logs).with_context(|| format!("making {}", job.logs.display()))?;
    let chips: Vec<_> = (0..job.boot.chips)
        .map(|number| Simulated::start(number, directory.path()))
        .collect::<Result<_>>()?;
    let sockets: Vec<_> = chips.iter().map(|chip| chip.socket().to_owned()).collect();
    let initramfs = directory.path().join("initramfs");
    fs::write(&initramfs, archive(job, programs)?)?;
    let disk = directory.path().join("disk");
    File::create(&disk)?.set_len(DISK)?;
    let machine = Machine {
        boot: job.boot,
        kernel: &job.kernel.image,
        initramfs: &initramfs,
        run: directory.path(),
        chips: &sockets,
        disk: &disk,
        console: &job.logs.join("console.log"),
        log: &job.logs.join("qemu.log"),
    };
    let listener = port::listen(&machine.port())?;
    let mut session = Session {
        recordings: job.recordings,
        chips,
        qemu: qemu.start(&machine)?,
    };
    let mut port = Port::accept(&listener, &mut session.qemu, BOOT);
    let mut broken = match &mut port {
        Ok(port) => session.wait_until_ready(port).err(),
        Err(_) => None,
    };
    for test in &job.tests {
        let started = Instant::now();
        let ended = match (&mut port, &broken) {
            (Err(error), _) => Err(format!("no machine: {error:#}")),
            (Ok(_), Some(error)) => Err(format!("not run, because before it {error:#}")),
            (Ok(port), None) => session.test(port, test).map_err(|error| {
                let said = format!("{error:#}");
                broken = Some(error);
                said
            }),
        };
        let (outcome, output) =
            ended.unwrap_or_else(|error| (Outcome::Failed(error), String::new()));
        told(Finished {
            test: test.name.clone(),
            outcome,
            output,
            took: started.elapsed(),
        });
    }
    if let (Ok(port), None) = (&mut port, &broken) {
        session.power_off(port);
    }
    let violations: Vec<_> = session
        .chips
        .iter_mut()
        .flat_map(Simulated::take_violations)
        .collect();
    if !violations.is_empty() {
        told(Finished {
            test: STRICT.to_owned(),
            outcome: Outcome::Failed(violations.join("; ")),
            output: String::new(),
            took: Duration::ZERO,
        });
    }
    Ok(())
}

fn archive(job: &Job<'_>, programs: &Programs) -> Result<Vec<u8>> {
    let mut archive = Initramfs::new();
    for (path, contents) in &programs.files {
        archive.file(path, contents);
    }
    let wanted = job.boot.all_modules(job.mode);
    let mut modules = Vec::new();
    for (name, contents) in job.kernel.load_order(&wanted)? {
        let place = format!("{}/{name}", MODULE_DIRECTORY.trim_start_matches('/'));
        archive.file(&place, &contents);
        let parameters = job.boot.parameters(&name).to_owned();
        modules.push((name, parameters));
    }
    let setup = Setup {
        boot: job.boot.name.to_owned(),
        mode: job.mode,
        modules,
        chips: job.boot.chips,
    };
    let setup = serde_json::to_vec_pretty(&setup)?;
    archive.file(SETUP_FILE.trim_start_matches('/'), &setup);
    Ok(archive.finish())
}

struct Session<'a> {
    recordings: &'a Recordings,
    // QEMU goes before the chips that it is connected to.
    qemu: Running,
    chips: Vec<Simulated>,
}

impl Session<'_> {
    fn wait_until_ready(&mut self, port: &Port) -> Result<()> {
        match port.receive(&mut self.qemu, BOOT).context("booting")? {
            FromGuest::Ready { .. } => Ok(()),
            other => anyhow::bail!("the guest began with {other:?}"),
        }
    }

    fn test(&mut self, port: &mut Port, test: &TestInfo) -> Result<(Outcome, String)> {
        port.send(&FromHost::Run {
            test: test.name.clone(),
            seconds: test.seconds,
        })?;
        let limit = Duration::from_secs(test.seconds) + MARGIN;
        loop {
            match port.receive(&mut self.qemu, limit)? {
                FromGuest::Done {
                    test: ended,
                    outcome,
                    output,
                } if ended == test.name => return Ok((outcome, output)),
                FromGuest::Ask { number, request } => {
                    let result = self.answer(request).map_err(|error| format!("{error:#}"));
                    port.send(&FromHost::Answer { number, result })?;
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
    fn power_off(&mut self, port: &mut Port) {
        let deadline = Instant::now() + MARGIN;
        if port.send(&FromHost::PowerOff).is_ok() {
            while !self.qemu.has_ended() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
