//! Resets of our chip through the kernel's VFIO, by the driver and by its ladder.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use auk_driver::{Command, Device, Error, QueueOptions, ResetKind, Step};
use auk_vm::Fault;

use crate::chip;
use crate::guest::Guest;
use crate::registry::{Test, test};
use crate::tests::chip::generation;

pub(crate) const TESTS: &[Test] = &[
    test(
        "every_kind_of_reset_ends_what_was_made_and_the_chip_works_again",
        every_kind_of_reset_ends_what_was_made_and_the_chip_works_again,
    )
    .within(120),
    test(
        "the_ladder_gets_over_a_firmware_that_hangs",
        the_ladder_gets_over_a_firmware_that_hangs,
    )
    .within(120),
];

/// A machine that is emulated is slow.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a copy through device memory, and looks at what comes back.
fn works(device: &Device) -> Result<()> {
    const BYTES: usize = 64 << 10;
    let mut queue = device.create_queue(&QueueOptions::default())?;
    let host = device.buffer(BYTES)?;
    let local = device.alloc(BYTES as u64)?;
    let data: Vec<u8> = (0..BYTES).map(|index| (index * 7) as u8).collect();
    host.write(0, &data)?;
    queue.run(&Command::copy(&local, &host, BYTES as u64), PATIENCE)?;
    host.zero();
    queue.run(&Command::copy(&host, &local, BYTES as u64), PATIENCE)?;
    ensure!(host.to_vec(0, BYTES)? == data, "other bytes came back");
    Ok(())
}

fn every_kind_of_reset_ends_what_was_made_and_the_chip_works_again(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    for kind in [
        ResetKind::FirmwareRestart,
        ResetKind::Flr,
        ResetKind::HotReset,
    ] {
        let mut queue = device.create_queue(&QueueOptions::default())?;
        let before = generation(&device)?;
        let started = Instant::now();
        device.reset(kind).with_context(|| format!("{kind:?}"))?;
        println!(
            "measured: {kind:?} took {:.0} ms",
            started.elapsed().as_secs_f64() * 1e3
        );
        let stale = queue.run(&Command::nop(), PATIENCE);
        ensure!(
            matches!(stale, Err(Error::Stale { .. })),
            "after {kind:?}: {stale:?}"
        );
        let restarted = generation(&device)? > before;
        ensure!(
            restarted == (kind == ResetKind::FirmwareRestart),
            "{kind:?}"
        );
        works(&device).with_context(|| format!("after {kind:?}"))?;
    }
    Ok(())
}

fn the_ladder_gets_over_a_firmware_that_hangs(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    guest.inject(0, Fault::FirmwareHang)?;
    let started = Instant::now();
    let recovery = device.recover(Step::HotReset)?;
    println!(
        "measured: {:?} brought it back in {:.1} s",
        recovery.steps,
        started.elapsed().as_secs_f64()
    );
    works(&device)
}
