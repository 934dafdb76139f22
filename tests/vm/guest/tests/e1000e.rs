//! Intel's 82574L as QEMU has it: registers mapped and trapped, its resets, and each kind of interrupt.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use auk_driver::bus::{Function, Interrupt};
use auk_driver::mmio::Window;
use auk_vm::{E1000E_MAC, Request};

use crate::eventfd::Vector;
use crate::function::Opened;
use crate::guest::Guest;
use crate::pci::E1000E;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test(
        "registers_are_the_same_mapped_and_trapped",
        registers_are_the_same_mapped_and_trapped,
    ),
    test(
        "the_address_is_that_of_the_command_line",
        the_address_is_that_of_the_command_line,
    ),
    test(
        "its_own_reset_brings_the_address_back",
        its_own_reset_brings_the_address_back,
    ),
    test(
        "a_hot_reset_brings_the_address_back",
        a_hot_reset_brings_the_address_back,
    ),
    test("intx_waits_to_be_unmasked", intx_waits_to_be_unmasked),
    test(
        "msi_fires_for_what_is_enabled",
        msi_fires_for_what_is_enabled,
    ),
    test(
        "msix_fires_the_vector_it_is_routed_to",
        msix_fires_the_vector_it_is_routed_to,
    ),
    test(
        "a_link_that_goes_down_and_up_interrupts",
        a_link_that_goes_down_and_up_interrupts,
    ),
];

/// Registers of the Intel 82574 GbE Controller Family, chapter 10 of its datasheet, revision 3.4 (order number 317694).
mod register {
    /// Device Control, and in it Device Reset and Set Link Up.
    pub(super) const CTRL: usize = 0x0000;
    pub(super) const CTRL_RST: u32 = 1 << 26;
    pub(super) const CTRL_SLU: u32 = 1 << 6;
    /// Device Status, and in it Link Up.
    pub(super) const STATUS: usize = 0x0008;
    pub(super) const STATUS_LU: u32 = 1 << 1;
    /// EEPROM Read: start, done, a word's address from bit 2 on, its data from bit 16 on.
    pub(super) const EERD: usize = 0x0014;
    pub(super) const EERD_START: u32 = 1;
    pub(super) const EERD_DONE: u32 = 1 << 1;
    /// Interrupt Cause Read: a cause is cleared by writing it.
    pub(super) const ICR: usize = 0x00C0;
    /// Interrupt Cause Set.
    pub(super) const ICS: usize = 0x00C8;
    /// Interrupt Mask Set.
    pub(super) const IMS: usize = 0x00D0;
    /// Interrupt Vector Allocation: four bits a cause, the highest of them says that it is valid.
    pub(super) const IVAR: usize = 0x00E4;
    pub(super) const IVAR_VALID: u32 = 1 << 3;
    /// Receive Address 0, and Receive Address 1.
    pub(super) const RAL0: usize = 0x5400;
    pub(super) const RAH0: usize = 0x5404;
    pub(super) const RAL1: usize = 0x5408;

    /// Causes: link status change, access to the PHY has completed.
    pub(super) const LSC: u32 = 1 << 2;
    pub(super) const MDAC: u32 = 1 << 9;
    /// Causes with MSI-X, in the order of their places in IVAR: receive queues 0 and 1, transmit queues 0 and 1, other.
    pub(super) const ROUTED: [u32; 5] = [1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24];

    /// What is mapped: all of BAR 0.
    pub(super) const BYTES: u64 = 0x2_0000;
}
use register::*;

fn registers_are_the_same_mapped_and_trapped(guest: &Guest) -> Result<()> {
    let nic = Opened::only(guest, E1000E)?;
    let window = nic.map(BYTES)?;
    for offset in [CTRL, STATUS, IMS, RAL0, RAH0] {
        let (mapped, trapped) = (window.read_u32(offset)?, nic.read(offset)?);
        ensure!(
            mapped == trapped,
            "the register at {offset:#x} is {mapped:#x} mapped and {trapped:#x} trapped"
        );
    }
    window.write_u32(RAL1, 0x1234_5678)?;
    let trapped = nic.read(RAL1)?;
    ensure!(
        trapped == 0x1234_5678,
        "written mapped, it reads {trapped:#x}"
    );
    nic.write(RAL1, 0x9ABC_DEF0)?;
    let mapped = window.read_u32(RAL1)?;
    ensure!(
        mapped == 0x9ABC_DEF0,
        "written trapped, it reads {mapped:#x}"
    );
    Ok(())
}

fn the_address_is_that_of_the_command_line(guest: &Guest) -> Result<()> {
    let nic = Opened::only(guest, E1000E)?;
    let mut stored = [0; 6];
    for (word, bytes) in stored.chunks_exact_mut(2).enumerate() {
        nic.write(EERD, EERD_START | (word as u32) << 2)?;
        let mut read = 0;
        guest.wait_for("a word of the EEPROM", || {
            read = nic.read(EERD)?;
            Ok(read & EERD_DONE != 0)
        })?;
        bytes.copy_from_slice(&((read >> 16) as u16).to_le_bytes());
    }
    ensure!(stored == E1000E_MAC, "the EEPROM has {stored:02x?}");
    let window = nic.map(BYTES)?;
    let loaded = address(&window)?;
    ensure!(loaded == E1000E_MAC, "its receive address is {loaded:02x?}");
    Ok(())
}

fn its_own_reset_brings_the_address_back(guest: &Guest) -> Result<()> {
    let nic = Opened::only(guest, E1000E)?;
    let window = nic.map(BYTES)?;
    is_reset_by(&window, || {
        let control = window.read_u32(CTRL)?;
        window.write_u32(CTRL, control | CTRL_RST)?;
        guest.wait_for("the end of its reset", || {
            Ok(window.read_u32(CTRL)? & CTRL_RST == 0)
        })
    })
}

/// Not by `VFIO_DEVICE_RESET`: the kernel sends the function to D3hot and back for that, and QEMU keeps all registers.
fn a_hot_reset_brings_the_address_back(guest: &Guest) -> Result<()> {
    let nic = Opened::only(guest, E1000E)?;
    let window = nic.map(BYTES)?;
    let affected = nic.vfio.hot_reset_group()?;
    ensure!(
        affected.len() == 1 && affected[0].bdf == nic.vfio.bdf(),
        "alone behind its port, and a hot reset affects {affected:?}"
    );
    is_reset_by(&window, || nic.hot_reset())
}

fn is_reset_by(window: &Window, reset: impl FnOnce() -> Result<()>) -> Result<()> {
    window.write_u32(RAL0, 0)?;
    window.write_u32(IMS, MDAC)?;
    let before = address(window)?;
    ensure!(
        before != E1000E_MAC,
        "the receive address cannot be changed"
    );
    reset()?;
    let (after, mask) = (address(window)?, window.read_u32(IMS)?);
    ensure!(
        after == E1000E_MAC && mask == 0,
        "after the reset its receive address is {after:02x?} and IMS {mask:#x}"
    );
    Ok(())
}

fn intx_waits_to_be_unmasked(guest: &Guest) -> Result<()> {
    let nic = Opened::only(guest, E1000E)?;
    let line = Vector::new("INTx")?;
    nic.vfio
        .enable_interrupts(Interrupt::Intx, &[line.as_fd()])?;
    let cause = |cause| nic.write(ICS, cause);
    let clear = |cause| nic.write(ICR, cause);
    nic.write(IMS, MDAC)?;

    cause(MDAC)?;
    line.wait()?;
    // The kernel has masked it, and it is asserted still.
    line.is_quiet()?;
    nic.vfio.unmask(Interrupt::Intx, 0..1)?;
    line.wait()?;
    clear(MDAC)?;
    nic.vfio.unmask(Interrupt::Intx, 0..1)?;
    line.is_quiet()?;

    nic.vfio.mask(Interrupt::Intx, 0..1)?;
    cause(MDAC)?;
    line.is_quiet()?;
    nic.vfio.unmask(Interrupt::Intx, 0..1)?;
    line.wait()?;

    nic.vfio.disable_interrupts(Interrupt::Intx)?;
    clear(MDAC)?;
    cause(MDAC)?;
    line.is_quiet()
}

fn msi_fires_for_what_is_enabled(guest: &Guest) -> Result<()> {
    let nic = Opened::only(guest, E1000E)?;
    let vector = Vector::new("MSI")?;
    nic.vfio
        .enable_interrupts(Interrupt::Msi, &[vector.as_fd()])?;
    nic.write(ICS, MDAC)?;
    vector.is_quiet()?;
    nic.write(IMS, MDAC)?;
    vector.wait()?;
    nic.write(ICR, MDAC)?;
    nic.write(ICS, MDAC)?;
    vector.wait()?;
    nic.vfio.disable_interrupts(Interrupt::Msi)?;
    vector.take()?;
    nic.write(ICR, MDAC)?;
    nic.write(ICS, MDAC)?;
    vector.is_quiet()
}

fn msix_fires_the_vector_it_is_routed_to(guest: &Guest) -> Result<()> {
    let nic = Opened::only(guest, E1000E)?;
    let vectors = [
        Vector::new("MSI-X vector 0")?,
        Vector::new("MSI-X vector 1")?,
        Vector::new("MSI-X vector 2")?,
        Vector::new("MSI-X vector 3")?,
        Vector::new("MSI-X vector 4")?,
    ];
    let there = nic.vfio.interrupts(Interrupt::Msix)?.count;
    ensure!(there as usize == vectors.len(), "there are {there} vectors");
    let fds = vectors.each_ref().map(Vector::as_fd);
    nic.vfio.enable_interrupts(Interrupt::Msix, &fds)?;
    // The first cause to the last vector, and so on.
    let routes = (0..ROUTED.len()).map(|place| {
        let vector = ROUTED.len() - 1 - place;
        (vector as u32 | IVAR_VALID) << (4 * place)
    });
    nic.write(IVAR, routes.sum())?;
    nic.write(IMS, ROUTED.iter().sum())?;
    for (place, cause) in ROUTED.into_iter().enumerate() {
        let (unused, used) = vectors.split_at(ROUTED.len() - 1 - place);
        nic.write(ICS, cause)?;
        used[0].wait()?;
        // Those that were used before may fire again: QEMU repeats an interrupt when its throttling timer ends. So may vector
        // 0, which all other causes have: the link comes up whenever it likes.
        for vector in unused.iter().skip(1) {
            let count = vector.take()?;
            ensure!(count == 0, "cause {cause:#x} fires {}", vector.name());
        }
        nic.write(ICR, cause)?;
    }
    Ok(())
}

fn a_link_that_goes_down_and_up_interrupts(guest: &Guest) -> Result<()> {
    let nic = Opened::only(guest, E1000E)?;
    let vector = Vector::new("MSI")?;
    nic.vfio
        .enable_interrupts(Interrupt::Msi, &[vector.as_fd()])?;
    nic.write(CTRL, nic.read(CTRL)? | CTRL_SLU)?;
    let is_up = || -> Result<bool> { Ok(nic.read(STATUS)? & STATUS_LU != 0) };
    guest.wait_for("the link", is_up)?;
    nic.write(ICR, LSC)?;
    nic.write(IMS, LSC)?;
    vector.take()?;
    for (state, up) in [("off", false), ("on", true)] {
        guest.ask(Request::Monitor(format!("set_link e1000e {state}")))?;
        vector.wait()?;
        ensure!(
            is_up()? == up,
            "set to {state}, STATUS is {:#x}",
            nic.read(STATUS)?
        );
        nic.write(ICR, LSC)?;
    }
    Ok(())
}

/// Receive Address 0: RAL has the first four bytes, RAH the others.
fn address(window: &Window) -> Result<[u8; 6]> {
    let [a, b, c, d] = window.read_u32(RAL0)?.to_le_bytes();
    let [e, f, _, _] = window.read_u32(RAH0)?.to_le_bytes();
    Ok([a, b, c, d, e, f])
}
