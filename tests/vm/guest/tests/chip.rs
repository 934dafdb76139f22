//! Our chip through the kernel's VFIO: opening, working, closing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use auk_driver::bus::vfio::Vfio;
use auk_driver::bus::{Function, Region};
use auk_driver::{Command, Device, DmaSpace, Error, QueueOptions};
use auk_vm::Fault;

use crate::chip;
use crate::guest::Guest;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test(
        "it_opens_by_the_interface_asked_for",
        it_opens_by_the_interface_asked_for,
    ),
    test("every_check_of_a_chip_holds", every_check_of_a_chip_holds).within(300),
    test(
        "all_bars_answer_and_the_window_on_memory_can_be_mapped",
        all_bars_answer,
    ),
    test(
        "opening_a_warm_chip_boots_nothing",
        opening_a_warm_chip_boots_nothing,
    ),
    test(
        "counters_and_crash_log_outlive_close_and_open",
        counters_and_crash_log_outlive_close_and_open,
    ),
    test(
        "vital_signs_are_seen_while_a_job_has_the_chip",
        vital_signs_are_seen_while_a_job_has_the_chip,
    ),
    test(
        "a_second_process_is_told_who_has_the_chip",
        a_second_process_is_told_who_has_the_chip,
    ),
    test("the_demos_job_runs", the_demos_job_runs).within(180),
];

fn it_opens_by_the_interface_asked_for(guest: &Guest) -> Result<()> {
    for _ in 0..3 {
        let device = chip::open(guest)?;
        ensure!(
            device.firmware_version()?.is_some(),
            "the chip is in its loader"
        );
        device.check()?;
        let interrupts = device
            .create_queue(&QueueOptions::default())?
            .event_fd()
            .is_some();
        ensure!(interrupts, "the queue has no interrupt");
    }
    Ok(())
}

fn every_check_of_a_chip_holds(guest: &Guest) -> Result<()> {
    let mut failed = Vec::new();
    for check in auk_chip_checks::ALL {
        let device = chip::open(guest).with_context(|| format!("opening for {}", check.name))?;
        println!("{}", check.name);
        // The panic's words are printed by the hook that every program has.
        if catch_unwind(AssertUnwindSafe(|| (check.run)(&device))).is_err() {
            failed.push(check.name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn all_bars_answer(guest: &Guest) -> Result<()> {
    let bdf = chip::bound(guest, 0)?;
    let function = Vfio::open(&chip::host(), bdf, chip::access(guest), &DmaSpace::new())?;
    let mut word = [0; 4];
    for (region, writable) in [
        (Region::Bar0, true),
        (Region::Bar2, true),
        (Region::Bar4, true),
    ] {
        let info = function.region(region)?;
        ensure!(
            info.size >= 4096 && info.readable && info.writable == writable,
            "{region:?}: {info:?}"
        );
        function.read(region, 0, &mut word)?;
        let beyond = function.read(region, info.size, &mut word);
        ensure!(beyond.is_err(), "{region:?} can be read beyond its end");
    }
    for region in [Region::Bar1, Region::Bar3, Region::Bar5] {
        let missing = function.region(region);
        ensure!(
            missing.is_err(),
            "{region:?}, the upper half of another, says {missing:?}"
        );
    }
    // The window on device memory keeps what is written.
    let pattern = 0x0123_4567_89AB_CDEF_u64.to_le_bytes();
    function.write(Region::Bar4, 8, &pattern)?;
    let mut back = [0; 8];
    function.read(Region::Bar4, 8, &mut back)?;
    ensure!(back == pattern, "BAR 4 gave {back:x?}");
    Ok(())
}

/// The generation counts the firmware's boots.
pub(super) fn generation(device: &Device) -> Result<u32> {
    Ok(device.vitals()?.generation)
}

fn opening_a_warm_chip_boots_nothing(guest: &Guest) -> Result<()> {
    let before = generation(&chip::open(guest)?)?;
    for _ in 0..3 {
        let now = generation(&chip::open(guest)?)?;
        ensure!(now == before, "generation {before} became {now} by opening");
    }
    Ok(())
}

fn counters_and_crash_log_outlive_close_and_open(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    let before = device.vitals()?;
    guest.inject(0, Fault::EccCorrectable(7))?;
    guest.inject(0, Fault::FirmwareCrash)?;
    guest.wait_for("the chip to stop", || {
        Ok(matches!(device.check(), Err(Error::Faulted { .. })))
    })?;
    drop(device);

    // The fault is seen without opening, and opening says so instead of hiding it.
    let bdf = chip::bound(guest, 0)?;
    let vitals = chip::host().function(bdf)?.config()?.vitals()?;
    ensure!(vitals.fault.is_some(), "sysfs shows {vitals:?}");
    match Device::open(&chip::host(), bdf, &chip::options(guest)) {
        Err(Error::Faulted { .. }) => {}
        other => bail!("a chip that has crashed opens as {other:?}"),
    }
    let device = Device::open(
        &chip::host(),
        bdf,
        &chip::options(guest).restart_faulted(true),
    )?;
    ensure!(device.crash_log()?.is_some(), "the crash log is gone");
    let after = device.vitals()?;
    ensure!(
        after.ecc_ce == before.ecc_ce + 7 && after.generation > before.generation,
        "before: {before:?}, after: {after:?}"
    );
    device
        .create_queue(&QueueOptions::default())?
        .run(&Command::nop(), Duration::from_secs(10))?;
    Ok(())
}

fn vital_signs_are_seen_while_a_job_has_the_chip(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    let function = chip::host().function(chip::bound(guest, 0)?)?;
    let beat = || -> Result<u32> { Ok(function.config()?.vitals()?.heartbeat) };
    let first = beat()?;
    guest.wait_for("the heartbeat in sysfs to move on", || Ok(beat()? != first))?;
    device.check()?;
    Ok(())
}

fn a_second_process_is_told_who_has_the_chip(guest: &Guest) -> Result<()> {
    let bdf = chip::bound(guest, 0)?;
    let device = chip::open(guest)?;
    let me = std::process::id().to_string();
    // With the lease: any driver of ours.
    let refused = guest.auk(&["show", "--open", &bdf.to_string()]).err();
    let refused = refused
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    ensure!(
        refused.contains("in use") && refused.contains(&me),
        "auk says {refused:?}"
    );
    // Without it: whatever else comes by the kernel alone.
    match Vfio::open(&chip::host(), bdf, chip::access(guest), &DmaSpace::new()) {
        Err(error) => ensure!(
            error.to_string().contains("in use"),
            "the bus says: {error}"
        ),
        Ok(_) => bail!("the function was opened twice"),
    }
    device.check()?;
    Ok(())
}

fn the_demos_job_runs(guest: &Guest) -> Result<()> {
    let bdf = chip::bound(guest, 0)?.to_string();
    let summary = guest.auk(&["demo", "--on", &bdf, "--json"])?;
    let summary: serde_json::Value = serde_json::from_str(&summary)?;
    ensure!(
        summary["ok"] == true && summary["images"] == 1797 && summary["mismatches"] == 0,
        "{summary:#}"
    );
    Ok(())
}
