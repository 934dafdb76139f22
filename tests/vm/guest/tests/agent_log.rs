//! The health agent and what a real kernel says and shows of its host.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use auk_driver::bus::Function;
use auk_driver::dma::DmaSpace;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::edu::{Edu, LAST_ADDRESS};
use crate::guest::Guest;
use crate::pci::{self, EDU};
use crate::registry::{Test, test};
use crate::tests::aer::{RECEIVER_ERROR, inject};
use crate::tests::agent::{Agent, DEFAULT, agent_log, component, first, see};
use crate::vfio;

pub(crate) const TESTS: &[Test] = &[
    test(
        "it_hears_an_iommu_fault_and_blames_the_function",
        it_hears_an_iommu_fault_and_blames_the_function,
    )
    .within(120),
    test(
        "by_default_it_counts_a_correctable_error_within_two_seconds",
        by_default_it_counts_a_correctable_error_within_two_seconds,
    )
    .within(120),
    test(
        "a_hundred_thousand_lines_at_once_are_a_gap_and_it_listens_on",
        a_hundred_thousand_lines_at_once_are_a_gap_and_it_listens_on,
    )
    .within(240),
    test(
        "a_line_of_a_process_is_none_of_the_kernels",
        a_line_of_a_process_is_none_of_the_kernels,
    )
    .within(120),
    test(
        "it_holds_the_host_against_the_manifest",
        it_holds_the_host_against_the_manifest,
    )
    .within(120),
];

/// The events of a kind, the oldest first.
pub(super) fn events(guest: &Guest, kind: &str) -> Result<Vec<Value>> {
    let printed = guest.auk_whatever(&["events", "--all", "-n", "1000", "--json"])?;
    let events = printed
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    Ok(events
        .filter(|event: &Value| event["kind"] == kind)
        .collect())
}

/// Makes an IOMMU fault and waits until it is told, which must be of the function that made it.
fn hear_a_fault(guest: &Guest) -> Result<Value> {
    // A new agent tells those of earlier tests as well.
    let faults = || -> Result<Vec<Value>> {
        let mut events = events(guest, "kernel_log")?;
        events.retain(|event| event["details"]["rule"] == "iommu_fault");
        Ok(events)
    };
    let before = faults()?.len();
    let address = fault(guest)?;
    guest
        .wait_for("an event of the fault", || Ok(faults()?.len() > before))
        .with_context(agent_log)?;
    let event = faults()?.pop().context("it is gone")?;
    ensure!(
        event["component"] == address.as_str() && event["stored"] == true,
        "{event:#}"
    );
    Ok(event)
}

/// Has the teaching device write to memory that is mapped for it no more.
fn fault(guest: &Guest) -> Result<String> {
    let address = pci::only(EDU)?;
    let space = DmaSpace::new();
    let edu = Edu::new(vfio::open(guest, &address, &space)?)?;
    let target = edu.0.dma();
    space.attach(target.clone(), LAST_ADDRESS)?;
    let buffer = space.alloc(4096)?;
    space.detach(&target);
    edu.store(buffer.iova(), 16)?;
    Ok(address)
}

fn it_hears_an_iommu_fault_and_blames_the_function(guest: &Guest) -> Result<()> {
    let _agent = Agent::start_with(guest, DEFAULT)?;
    let started = Instant::now();
    let event = hear_a_fault(guest)?;
    println!(
        "measured: a fault was told after {:.1} s: {}",
        started.elapsed().as_secs_f64(),
        event["summary"]
    );
    let chip = component(guest, &first(guest)?)?;
    ensure!(chip["state"] == "healthy", "the chip is blamed: {chip:#}");
    Ok(())
}

fn by_default_it_counts_a_correctable_error_within_two_seconds(guest: &Guest) -> Result<()> {
    let _agent = Agent::start_with(guest, DEFAULT)?;
    let chip = first(guest)?;
    let count = || -> Result<u64> {
        Ok(component(guest, &chip)?["aer"]["correctable"]
            .as_u64()
            .unwrap_or(0))
    };
    // Past the looks that are thorough because the agent is new.
    std::thread::sleep(Duration::from_secs(12));
    let before = count()?;
    let started = Instant::now();
    inject(&chip, 0, RECEIVER_ERROR)?;
    guest
        .wait_for("the error to be counted", || Ok(count()? > before))
        .with_context(agent_log)?;
    let took = started.elapsed();
    println!(
        "measured: a correctable error was seen after {:.1} s",
        took.as_secs_f64()
    );
    ensure!(took < Duration::from_secs(5), "it took {took:?}");
    Ok(())
}

fn a_hundred_thousand_lines_at_once_are_a_gap_and_it_listens_on(guest: &Guest) -> Result<()> {
    let agent = Agent::start_with(guest, DEFAULT)?;
    // What processes write is limited unless one says otherwise, and overwrites what the kernel said all the same.
    fs::write("/proc/sys/kernel/printk_devkmsg", "on\n")?;
    let mut log = fs::File::options().write(true).open("/dev/kmsg")?;
    // While the agent stands still, so that it cannot keep up on any machine.
    kill(agent.pid()?, Signal::SIGSTOP)?;
    for number in 0..100_000 {
        log.write_all(format!("a line of a storm, number {number}").as_bytes())?;
    }
    kill(agent.pid()?, Signal::SIGCONT)?;
    guest
        .wait_for("a gap", || Ok(!events(guest, "kernel_log_gap")?.is_empty()))
        .with_context(agent_log)?;
    let lost: u64 = events(guest, "kernel_log_gap")?
        .iter()
        .filter_map(|gap| gap["details"]["count"].as_u64())
        .sum();
    println!("measured: of 100,000 lines {lost} were overwritten, and told so");
    ensure!((1..=100_000).contains(&lost));
    hear_a_fault(guest)?;
    Ok(())
}

fn a_line_of_a_process_is_none_of_the_kernels(guest: &Guest) -> Result<()> {
    let _agent = Agent::start_with(guest, DEFAULT)?;
    let forged = "<3>watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [forged:1]";
    fs::write("/dev/kmsg", forged)?;
    // The fault comes after it, so by then it was read.
    hear_a_fault(guest)?;
    let lines = events(guest, "kernel_log")?;
    ensure!(
        lines
            .iter()
            .all(|event| event["details"]["rule"] != "soft_lockup"),
        "{lines:#?}"
    );
    Ok(())
}

fn it_holds_the_host_against_the_manifest(guest: &Guest) -> Result<()> {
    let manifest = "[manifest.host]\nkernel_from = \"6.1\"\niommu = true\nmodules = [\"vfio_pci\"]\nhuge_pages_2m = 100000\n";
    let _agent = Agent::start_with(guest, &format!("{DEFAULT}{manifest}"))?;
    see(guest, "host", "huge_pages", &["degraded"])?;
    for check in ["kernel_version", "iommu", "modules"] {
        see(guest, "host", check, &["healthy"])?;
    }
    Ok(())
}
