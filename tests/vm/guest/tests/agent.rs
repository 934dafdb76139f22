//! The health agent on a real kernel's sysfs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use anyhow::{Context, Result, ensure};
use auk_vm::Fault;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};
use crate::tests::aer::{COMPLETION_TIMEOUT, inject};

pub(crate) const TESTS: &[Test] = &[
    test("it_calls_a_chip_healthy", it_calls_a_chip_healthy).within(120),
    test("it_sees_an_error_of_the_bus", it_sees_an_error_of_the_bus).within(120),
    test(
        "by_default_it_sees_an_error_of_the_bus_when_the_kernel_tells_of_it",
        by_default_it_sees_an_error_of_the_bus_when_the_kernel_tells_of_it,
    )
    .within(120),
    test(
        "by_default_it_sees_a_removal_and_the_return_at_once",
        by_default_it_sees_a_removal_and_the_return_at_once,
    )
    .within(120),
    test("it_sees_a_narrow_link", it_sees_a_narrow_link).within(120),
    test(
        "by_default_it_sees_a_narrow_link_though_the_kernel_tells_of_none",
        by_default_it_sees_a_narrow_link_though_the_kernel_tells_of_none,
    )
    .within(120),
    test(
        "it_sees_a_removal_and_the_return",
        it_sees_a_removal_and_the_return,
    )
    .within(120),
    test(
        "it_sees_a_memory_error_while_a_job_has_the_chip",
        it_sees_a_memory_error_while_a_job_has_the_chip,
    )
    .within(120),
];

/// A guest has only just booted, and is not to be let off for that.
pub(super) const DEFAULT: &str = "[judgement]\nboot_grace = \"0 s\"\n";
/// What is read every ten seconds is read every second.
const EACH_SECOND: &str = "[agent]\nslow_interval = \"1 s\"\n[judgement]\nboot_grace = \"0 s\"\n";
/// Half of the ten seconds after which it would have looked anyhow; it aims at two.
const NOTICED: Duration = Duration::from_secs(5);

/// An agent, until it is dropped.
pub(super) struct Agent(Child);

impl Agent {
    /// Starts one, which sees the first chip to be healthy.
    fn start(guest: &Guest) -> Result<Self> {
        Self::start_with(guest, EACH_SECOND)
    }

    pub(super) fn start_with(guest: &Guest, config: &str) -> Result<Self> {
        // What an earlier test did to the chip is not held against it.
        match fs::remove_dir_all("/var/lib/auk") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let agent = Self::launch(config)?;
        let chip = &first(guest)?;
        guest
            .wait_for("the agent to call the chip healthy", || {
                Ok(state(guest, chip)? == "healthy")
            })
            .with_context(agent_log)?;
        Ok(agent)
    }

    /// Starts one and waits for nothing.
    pub(super) fn launch(config: &str) -> Result<Self> {
        fs::create_dir_all("/etc/auk")?;
        fs::write("/etc/auk/agent.toml", config)?;
        let log = fs::File::create("/run/agent.log")?;
        let agent = Command::new("/bin/auk")
            .arg("agent")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting auk agent")?;
        Ok(Self(agent))
    }

    /// Its process.
    pub(super) fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(self.0.id().try_into()?))
    }

    /// Has it end by itself, and says how long that took.
    pub(super) fn stop(mut self, guest: &Guest) -> Result<Duration> {
        let started = Instant::now();
        kill(self.pid()?, Signal::SIGTERM)?;
        guest.wait_for("the agent to end", || Ok(self.0.try_wait()?.is_some()))?;
        Ok(started.elapsed())
    }
}

pub(super) fn first(guest: &Guest) -> Result<String> {
    guest
        .chips()?
        .into_iter()
        .next()
        .context("there is no chip")
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn agent_log() -> String {
    fs::read_to_string("/run/agent.log").unwrap_or_default()
}

/// What the agent says of a component; nothing while it does not know it.
pub(super) fn component(guest: &Guest, address: &str) -> Result<Value> {
    // It answers with 1 while something is not well.
    let Ok(status) = guest.auk_whatever(&["status", "--json"]) else {
        return Ok(Value::Null);
    };
    let status: Value = serde_json::from_str(&status).unwrap_or_default();
    let components = status["components"].as_array().cloned().unwrap_or_default();
    Ok(components
        .into_iter()
        .find(|component| component["bdf"] == address)
        .unwrap_or_default())
}

pub(super) fn state(guest: &Guest, address: &str) -> Result<String> {
    Ok(component(guest, address)?["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Waits until a check of a component is in a state, and tells how long that took: until it was seen here, and until the
/// agent said so by its own clock, as to ask takes its time in an emulated machine.
pub(super) fn see(guest: &Guest, address: &str, check: &str, wanted: &[&str]) -> Result<Duration> {
    let started = Instant::now();
    let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let mut said = Duration::ZERO;
    guest
        .wait_for(&format!("{check} of {address} to be {wanted:?}"), || {
            let component = component(guest, address)?;
            let verdicts = component["verdicts"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let verdict = verdicts.iter().find(|verdict| {
                verdict["check"] == check && wanted.iter().any(|state| verdict["state"] == *state)
            });
            let since = verdict.and_then(|verdict| verdict["since_unix_ms"].as_u64());
            said = Duration::from_millis(since.unwrap_or_default());
            Ok(verdict.is_some())
        })
        .with_context(agent_log)?;
    println!(
        "measured: {check} said so after {:.1} s, by the agent's clock after {:.1} s",
        started.elapsed().as_secs_f64(),
        said.saturating_sub(begun).as_secs_f64()
    );
    Ok(started.elapsed())
}

fn it_calls_a_chip_healthy(guest: &Guest) -> Result<()> {
    let _agent = Agent::start(guest)?;
    let chip = &first(guest)?;
    let found = component(guest, chip)?;
    ensure!(
        found["vitals"]["state"].is_string() && found["identity"]["serial"].is_string(),
        "{found:#}"
    );
    Ok(())
}

fn it_sees_an_error_of_the_bus(guest: &Guest) -> Result<()> {
    let _agent = Agent::start(guest)?;
    let chip = &first(guest)?;
    inject(chip, COMPLETION_TIMEOUT, 0)?;
    see(guest, chip, "aer_uncorrectable", &["degraded", "unhealthy"])?;
    Ok(())
}

fn by_default_it_sees_an_error_of_the_bus_when_the_kernel_tells_of_it(guest: &Guest) -> Result<()> {
    let _agent = Agent::start_with(guest, DEFAULT)?;
    let chip = &first(guest)?;
    inject(chip, COMPLETION_TIMEOUT, 0)?;
    let took = see(guest, chip, "aer_uncorrectable", &["degraded", "unhealthy"])?;
    ensure!(took < NOTICED, "it took {took:?}");
    Ok(())
}

fn by_default_it_sees_a_removal_and_the_return_at_once(guest: &Guest) -> Result<()> {
    let _agent = Agent::start_with(guest, DEFAULT)?;
    let chip = first(guest)?;
    pci::set_attribute(&chip, "remove", "1")?;
    let gone = see(guest, &chip, "presence", &["unhealthy"]);
    fs::write("/sys/bus/pci/rescan", "1")?;
    gone?;
    see(guest, &chip, "presence", &["healthy"])?;
    Ok(())
}

fn it_sees_a_narrow_link(guest: &Guest) -> Result<()> {
    narrow(guest, EACH_SECOND)?;
    Ok(())
}

fn by_default_it_sees_a_narrow_link_though_the_kernel_tells_of_none(guest: &Guest) -> Result<()> {
    let took = narrow(guest, DEFAULT)?;
    ensure!(took < NOTICED, "it took {took:?}");
    Ok(())
}

/// How long it takes to be told of a link that trains to less: first the fact, then the verdict of three samples.
fn narrow(guest: &Guest, config: &str) -> Result<Duration> {
    let _agent = Agent::start_with(guest, config)?;
    let chip = &first(guest)?;
    guest.inject(0, Fault::Link { speed: 5, width: 4 })?;
    let started = Instant::now();
    let shown = guest.wait_for("the status to show four lanes", || {
        Ok(component(guest, chip)?["link"]["current"]["width"] == 4)
    });
    let took = started.elapsed();
    println!(
        "measured: the status showed four lanes after {:.1} s",
        took.as_secs_f64()
    );
    let seen = see(guest, chip, "link", &["degraded"]);
    guest.inject(0, Fault::Link { speed: 5, width: 8 })?;
    shown.with_context(agent_log)?;
    seen?;
    Ok(took)
}

fn it_sees_a_removal_and_the_return(guest: &Guest) -> Result<()> {
    let _agent = Agent::start(guest)?;
    let chip = first(guest)?;
    pci::set_attribute(&chip, "remove", "1")?;
    let gone = see(guest, &chip, "presence", &["unhealthy"]);
    fs::write("/sys/bus/pci/rescan", "1")?;
    gone?;
    see(guest, &chip, "presence", &["healthy"])?;
    Ok(())
}

fn it_sees_a_memory_error_while_a_job_has_the_chip(guest: &Guest) -> Result<()> {
    let _agent = Agent::start(guest)?;
    let device = crate::chip::open(guest)?;
    let chip = crate::chip::bound(guest, 0)?.to_string();
    guest.inject(0, Fault::EccUncorrectable)?;
    see(guest, &chip, "ecc_ue", &["unhealthy"])?;
    let holder = component(guest, &chip)?["holder"]["pid"].as_u64();
    ensure!(
        holder == Some(u64::from(std::process::id())),
        "the agent says that {holder:?} has the chip"
    );
    drop(device);
    Ok(())
}
