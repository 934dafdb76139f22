//! Process 1: brings the guest up, runs a test when the host says so, and switches the machine off.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use auk_vm::{FromGuest, FromHost, MODULE_DIRECTORY, Outcome, SETUP_FILE, Setup};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::port::Port;

/// What a test's process ends with when it cannot run here.
pub(crate) const SKIPPED: u8 = 77;

/// After this on its standard output, a test's process says why it failed or was skipped.
pub(crate) const LAST_WORD: &str = "\u{1e}";

/// Most that is kept of what a test printed: the port is slow.
const MOST_OUTPUT: u64 = 64 << 10;

pub(crate) fn main() -> ExitCode {
    if let Err(error) = serve() {
        // To the console, which the host keeps and shows.
        eprintln!("auk-vm-guest: {error:#}");
    }
    // What is unwritten is in memory only.
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("auk-vm-guest: cannot switch off: {error}");
    ExitCode::FAILURE
}

fn serve() -> Result<()> {
    bring_up()?;
    let mut port = Port::open()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("which kernel")?;
    port.send(&FromGuest::Ready {
        kernel: kernel.trim().to_owned(),
    })?;
    loop {
        match port.receive()? {
            FromHost::Run { test, seconds } => {
                let (outcome, output) = run(&test, Duration::from_secs(seconds))
                    .unwrap_or_else(|error| (Outcome::Failed(format!("{error:#}")), String::new()));
                port.send(&FromGuest::Done {
                    test,
                    outcome,
                    output,
                })?;
            }
            FromHost::PowerOff => return Ok(()),
            // To a test that was ended before it could read it.
            FromHost::Answer { .. } => {}
        }
    }
}

fn bring_up() -> Result<()> {
    for (kind, directory) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/run"),
        ("debugfs", "/sys/kernel/debug"),
    ] {
        mount(
            Some(kind),
            directory,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("mounting {kind} on {directory}"))?;
    }
    for (module, parameters) in &setup()?.modules {
        load(module, parameters)?;
    }
    Ok(())
}

fn setup() -> Result<Setup> {
    let setup = fs::read_to_string(SETUP_FILE).with_context(|| format!("reading {SETUP_FILE}"))?;
    serde_json::from_str(&setup).with_context(|| format!("in {SETUP_FILE}"))
}

/// Loads a module that a test has unloaded, by the name that the kernel has for it.
pub(crate) fn load_again(name: &str) -> Result<()> {
    let modules = setup()?.modules;
    let named = modules.iter().find(|(file, _)| {
        let stem = file.split('.').next().unwrap_or_default();
        stem.replace('-', "_") == name
    });
    let (file, parameters) = named.with_context(|| format!("{name} was never loaded"))?;
    load(file, parameters)
}

fn load(module: &str, parameters: &str) -> Result<()> {
    let path = Path::new(MODULE_DIRECTORY).join(module);
    let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let parameters = std::ffi::CString::new(parameters)?;
    finit_module(&file, &parameters, ModuleInitFlags::empty())
        .with_context(|| format!("loading {module}"))
}

/// Runs a test in a process of its own: how it went, and what it printed.
fn run(test: &str, limit: Duration) -> Result<(Outcome, String)> {
    let mut output = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open("/run/output")
        .context("making a file for what the test prints")?;
    let mut child = Command::new("/proc/self/exe")
        .args(["run", test])
        .env("PATH", "/bin")
        .env("RUST_BACKTRACE", "1")
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {test}"))?;
    let deadline = Instant::now() + limit;
    let ended = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // Also what a test has left behind.
    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    if ended.is_none() {
        child.wait()?;
    }
    // The end of it, if it is long: there it says why it failed.
    let length = output.metadata()?.len();
    output.seek(SeekFrom::Start(length.saturating_sub(MOST_OUTPUT)))?;
    let mut bytes = Vec::new();
    output.take(MOST_OUTPUT).read_to_end(&mut bytes)?;
    let printed = String::from_utf8_lossy(&bytes);
    let (printed, last_word) = printed.split_once(LAST_WORD).unwrap_or((&printed, ""));
    let outcome = outcome(ended, last_word, limit);
    Ok((outcome, printed.to_owned()))
}

fn outcome(ended: Option<ExitStatus>, last_word: &str, limit: Duration) -> Outcome {
    let Some(status) = ended else {
        return Outcome::Failed(format!("not done after {} s", limit.as_secs()));
    };
    match status.code() {
        Some(0) => Outcome::Passed,
        Some(code) if code == i32::from(SKIPPED) => Outcome::Skipped(last_word.to_owned()),
        _ if last_word.is_empty() => Outcome::Failed(format!("ended with {status}")),
        _ => Outcome::Failed(last_word.to_owned()),
    }
}
