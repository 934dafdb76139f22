//! The health agent while the kernel holds a config read: a chip that is dead is reset, which older kernels wait a minute for, and
//! whoever reads its config space meanwhile sleeps without hearing signals.

use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, Result, ensure};
use auk_vm::Request;

use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};
use crate::tests::agent::{Agent, agent_log, component, state};
use crate::tests::agent_log::events;

pub(crate) const TESTS: &[Test] = &[test(
    "a_config_read_that_sleeps_in_the_kernel_holds_up_nobody",
    a_config_read_that_sleeps_in_the_kernel_holds_up_nobody,
)
.within(300)];

const CONFIG: &str = "[judgement]\nboot_grace = \"0 s\"\n";
/// It aims at a quarter of a second.
const AT_ONCE: Duration = Duration::from_secs(5);

fn a_config_read_that_sleeps_in_the_kernel_holds_up_nobody(guest: &Guest) -> Result<()> {
    let [dead, other] = &guest.chips()?[..] else {
        anyhow::bail!("there are {:?}, and two were expected", guest.chips()?);
    };
    // The kernel looks for tasks that hang each so many seconds.
    fs::write("/proc/sys/kernel/hung_task_timeout_secs", "10\n")?;
    let agent = Agent::launch(CONFIG)?;
    both_healthy(guest, dead, other)?;

    guest.ask(Request::KillSimulator(0))?;
    let reset = {
        let dead = dead.clone();
        thread::spawn(move || {
            let started = Instant::now();
            let written = pci::set_attribute(&dead, "reset", "1");
            (started.elapsed(), written)
        })
    };
    let started = Instant::now();
    guest
        .wait_for(
            "the dead chip to be seen no more, and a reader to sleep",
            || {
                Ok(sleeping_readers()?.len() == 1
                    && ["unobservable", "degraded", "unhealthy"]
                        .contains(&state(guest, dead)?.as_str()))
            },
        )
        .with_context(agent_log)?;
    println!(
        "measured: of a chip whose config reads sleep the agent says {} after {:.1} s",
        state(guest, dead)?,
        started.elapsed().as_secs_f64()
    );
    still_watched(guest, other)?;

    let sleeping = sleeping_readers()?;
    let took = agent.stop(guest)?;
    println!(
        "measured: the agent ended after {:.2} s, while its reader slept",
        took.as_secs_f64()
    );
    ensure!(took < AT_ONCE, "it took {took:?}");
    ensure!(
        sleeping_readers()? == sleeping,
        "{sleeping:?} slept, now {:?}",
        sleeping_readers()?
    );

    let started = Instant::now();
    let agent = Agent::launch(CONFIG)?;
    guest
        .wait_for("the next agent to look at the other chip", || {
            Ok(state(guest, other)? == "healthy")
        })
        .with_context(agent_log)?;
    println!(
        "measured: the next agent calls the other chip healthy after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    still_watched(guest, other)?;
    ensure!(
        !reset.is_finished(),
        "the reset was over before the test was"
    );

    let (took, written) = reset
        .join()
        .map_err(|_| anyhow::anyhow!("the reset panicked"))?;
    println!(
        "the reset ended after {:.1} s with {written:?}",
        took.as_secs_f64()
    );
    guest.wait_for("no reader to sleep", || Ok(sleeping_readers()?.is_empty()))?;
    let said = state(guest, dead)?;
    println!("measured: after the reset the agent says {said}");
    ensure!(said != "healthy", "a dead chip is called {said}");
    let heard = events(guest, "kernel_log")?;
    let hung = heard
        .iter()
        .find(|event| event["details"]["rule"] == "hung_task");
    let hung = hung.with_context(|| format!("no task that hangs was heard of: {heard:#?}"))?;
    println!("measured: the agent heard {}", hung["summary"]);
    ensure!(
        component(guest, "host")?["state"] == "degraded",
        "{:#}",
        component(guest, "host")?
    );
    agent.stop(guest)?;
    Ok(())
}

fn both_healthy(guest: &Guest, one: &str, other: &str) -> Result<()> {
    guest
        .wait_for("both chips to be healthy", || {
            Ok(state(guest, one)? == "healthy" && state(guest, other)? == "healthy")
        })
        .with_context(agent_log)
}

/// The component is healthy, and is looked at as before for a few seconds.
fn still_watched(guest: &Guest, address: &str) -> Result<()> {
    let mut oldest = 0;
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(300));
        let found = component(guest, address)?;
        ensure!(found["state"] == "healthy", "{found:#}");
        let age = found["sample_age_ms"].as_u64();
        oldest = oldest.max(age.with_context(|| format!("no look in {found:#}"))?);
    }
    println!("measured: the other chip's last look was {oldest} ms old at most");
    // It looks each second; the machine is slow.
    ensure!(oldest < 5_000, "{oldest} ms");
    Ok(())
}

/// The agents' readers that no signal wakes.
fn sleeping_readers() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else {
            continue;
        };
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) if stat.contains("(auk-reader) D ") => found.push(pid),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // It has just ended.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
