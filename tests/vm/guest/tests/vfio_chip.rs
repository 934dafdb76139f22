//! The VFIO layer on one of our chips, which has what `edu` lacks: MSI-X, FLR, a bus of its own.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Result, ensure};
use auk_driver::bus::{AffectedFunction, BusError, Function, FunctionConfig, Interrupt, Region};
use auk_driver::pci::ConfigSpace;
use auk_driver::{Deadline, DmaSpace};

use crate::eventfd::Vector;
use crate::guest::Guest;
use crate::registry::{Test, test};
use crate::vfio::{self, Held};

pub(crate) const TESTS: &[Test] = &[
    test(
        "msix_vectors_have_vectors_of_their_own",
        msix_vectors_have_vectors_of_their_own,
    ),
    test(
        "vectors_are_added_where_the_kernel_can",
        vectors_are_added_where_the_kernel_can,
    ),
    test(
        "more_vectors_than_there_are_is_an_error",
        more_vectors_than_there_are_is_an_error,
    ),
    test("a_reset_clears_what_was_set", a_reset_clears_what_was_set),
    test(
        "a_reset_that_outlives_its_deadline_is_told",
        a_reset_that_outlives_its_deadline_is_told,
    ),
    test(
        "a_hot_reset_would_reset_nothing_else",
        a_hot_reset_would_reset_nothing_else,
    ),
    test(
        "a_function_sleeps_until_it_is_touched",
        a_function_sleeps_until_it_is_touched,
    ),
];

/// Resets of the simulated chip take 100 ms; this is for a machine that is busy.
fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn open(guest: &Guest) -> Result<Held> {
    vfio::open(guest, &guest.chips()?[0], &DmaSpace::new())
}

fn msix_vectors_have_vectors_of_their_own(guest: &Guest) -> Result<()> {
    let chip = open(guest)?;
    let vectors = [
        Vector::new("interrupt")?,
        Vector::new("interrupt")?,
        Vector::new("interrupt")?,
    ];
    chip.enable_interrupts(Interrupt::Msix, &vectors.each_ref().map(AsFd::as_fd))?;
    chip.trigger(Interrupt::Msix, 1..3)?;
    vectors[1].fires_once()?;
    vectors[2].fires_once()?;
    vectors[0].is_quiet()?;
    // Fewer are enabled afterwards: all are disabled in between, and none fires for it.
    chip.enable_interrupts(Interrupt::Msix, &[vectors[0].as_fd()])?;
    chip.disable_interrupts(Interrupt::Msix)?;
    for vector in &vectors {
        vector.is_quiet()?;
    }
    Ok(())
}

fn vectors_are_added_where_the_kernel_can(guest: &Guest) -> Result<()> {
    let chip = open(guest)?;
    let vectors = [Vector::new("interrupt")?, Vector::new("interrupt")?];
    chip.enable_interrupts(Interrupt::Msix, &[vectors[0].as_fd()])?;
    let added = chip.set_vector(Interrupt::Msix, 7, Some(vectors[1].as_fd()));
    if chip.interrupts(Interrupt::Msix)?.noresize {
        ensure!(
            matches!(added, Err(BusError::Unsupported { .. })),
            "{added:?}"
        );
        return Ok(());
    }
    added?;
    chip.trigger(Interrupt::Msix, 7..8)?;
    vectors[1].fires_once()?;
    Ok(())
}

fn more_vectors_than_there_are_is_an_error(guest: &Guest) -> Result<()> {
    let chip = open(guest)?;
    let count = chip.interrupts(Interrupt::Msix)?.count as usize;
    let vector = Vector::new("interrupt")?;
    let too_many = vec![vector.as_fd(); count + 1];
    let result = chip.enable_interrupts(Interrupt::Msix, &too_many);
    ensure!(result.is_err());
    chip.enable_interrupts(Interrupt::Msix, &too_many[1..])?;
    Ok(())
}

fn a_reset_clears_what_was_set(guest: &Guest) -> Result<()> {
    let chip = open(guest)?;
    vfio::enable(&chip)?;
    let mut before = [0; 4];
    chip.read(Region::Bar0, 0, &mut before)?;
    // Device memory is scrubbed by FLR.
    chip.write(Region::Bar4, 4096, &[0xA5; 8])?;
    chip.reset(soon())?;
    vfio::enable(&chip)?;
    let mut after = [0; 4];
    chip.read(Region::Bar0, 0, &mut after)?;
    ensure!(before == after, "{before:?} became {after:?}");
    guest.wait_for("scrubbed memory", || {
        let mut data = [0xA5; 8];
        chip.read(Region::Bar4, 4096, &mut data)?;
        Ok(data == [0; 8])
    })
}

fn a_reset_that_outlives_its_deadline_is_told(guest: &Guest) -> Result<()> {
    let chip = open(guest)?;
    let late = chip.reset(Deadline::after(Duration::ZERO));
    ensure!(matches!(late, Err(BusError::TimedOut { .. })), "{late:?}");
    let during = chip.read(Region::Config, 0, &mut [0; 4]);
    ensure!(
        matches!(during, Err(BusError::ResetRuns { .. })),
        "{during:?}"
    );
    guest.wait_for("the end of the reset", || {
        Ok(chip.read(Region::Config, 0, &mut [0; 4]).is_ok())
    })?;
    chip.reset(soon())?;
    Ok(())
}

fn a_hot_reset_would_reset_nothing_else(guest: &Guest) -> Result<()> {
    let chip = open(guest)?;
    let affected = chip.hot_reset_group()?;
    ensure!(
        matches!(affected[..], [AffectedFunction { bdf, .. }] if bdf == chip.bdf()),
        "{affected:?}"
    );
    Ok(())
}

fn a_function_sleeps_until_it_is_touched(guest: &Guest) -> Result<()> {
    let chip = open(guest)?;
    let wakeup = Vector::new("interrupt")?;
    chip.low_power(true)?;
    FunctionConfig(&*chip).identity()?;
    chip.low_power(false)?;
    chip.low_power_until_wakeup(wakeup.as_fd())?;
    FunctionConfig(&*chip).identity()?;
    chip.low_power(false)?;
    Ok(())
}
