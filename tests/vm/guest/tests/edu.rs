//! The VFIO layer on a device that nobody here wrote: QEMU's `edu`.

use std::os::fd::AsFd;

use anyhow::{Result, ensure};
use auk_driver::DmaSpace;
use auk_driver::bus::{BusError, Function, Interrupt, Region};
use auk_driver::mmio::Window;

use crate::edu::{Edu, IDENTITY, LAST_ADDRESS};
use crate::eventfd::Vector;
use crate::guest::Guest;
use crate::pci::{self, EDU};
use crate::registry::{Test, test};
use crate::vfio::{self, KernelLog};

pub(crate) const TESTS: &[Test] = &[
    test(
        "registers_read_the_same_by_pread_and_mapped",
        registers_read_the_same_by_pread_and_mapped,
    ),
    test(
        "a_region_that_does_not_exist_is_an_error",
        a_region_that_does_not_exist_is_an_error,
    ),
    test(
        "msi_signals_its_eventfd_until_it_is_taken_back",
        msi_signals_its_eventfd_until_it_is_taken_back,
    ),
    test(
        "intx_masks_itself_until_it_is_unmasked",
        intx_masks_itself_until_it_is_unmasked,
    ),
    test(
        "disabling_interrupts_fires_none",
        disabling_interrupts_fires_none,
    ),
    test("memory_is_copied_both_ways", memory_is_copied_both_ways),
    test(
        "dma_after_unmap_is_a_fault_and_memory_is_untouched",
        dma_after_unmap_is_a_fault_and_memory_is_untouched,
    ),
    test(
        "a_function_without_a_reset_says_so",
        a_function_without_a_reset_says_so,
    ),
];

fn open(guest: &Guest, space: &DmaSpace) -> Result<Edu> {
    Edu::new(vfio::open(guest, &pci::only(EDU)?, space)?)
}

fn registers_read_the_same_by_pread_and_mapped(guest: &Guest) -> Result<()> {
    let edu = open(guest, &DmaSpace::new())?;
    ensure!(edu.0.access() == vfio::access(guest));
    edu.write(4, 0x1234_5678)?;
    let info = edu.0.region(Region::Bar0)?;
    let window = Window::map(0, &info, 0, 4096)?;
    ensure!(window.read_u32(0)? == IDENTITY);
    ensure!(
        window.read_u32(4)? == !0x1234_5678,
        "the liveness register inverts"
    );
    window.write_u32(4, 1)?;
    ensure!(edu.read(4)? == !1);
    Ok(())
}

fn a_region_that_does_not_exist_is_an_error(guest: &Guest) -> Result<()> {
    let edu = open(guest, &DmaSpace::new())?;
    ensure!(matches!(
        edu.0.region(Region::Bar3),
        Err(BusError::NoRegion { index: 3, .. })
    ));
    let beyond = edu.0.read(Region::Bar0, 1 << 20, &mut [0; 4]);
    ensure!(
        matches!(beyond, Err(BusError::NoRegion { index: 0, .. })),
        "{beyond:?}"
    );
    Ok(())
}

fn msi_signals_its_eventfd_until_it_is_taken_back(guest: &Guest) -> Result<()> {
    let edu = open(guest, &DmaSpace::new())?;
    ensure!(edu.0.interrupts(Interrupt::Msi)?.count == 1);
    let vector = Vector::new("interrupt")?;
    edu.0.enable_interrupts(Interrupt::Msi, &[vector.as_fd()])?;
    edu.raise_interrupt()?;
    vector.fires_once()?;
    edu.acknowledge()?;

    edu.0.set_vector(Interrupt::Msi, 0, None)?;
    edu.raise_interrupt()?;
    vector.is_quiet()?;
    edu.acknowledge()?;
    edu.0.set_vector(Interrupt::Msi, 0, Some(vector.as_fd()))?;
    edu.0.trigger(Interrupt::Msi, 0..1)?;
    vector.fires_once()?;

    let masked = edu.0.mask(Interrupt::Msi, 0..1);
    ensure!(
        matches!(masked, Err(BusError::Unsupported { .. })),
        "{masked:?}"
    );
    let second = edu.0.set_vector(Interrupt::Msi, 1, Some(vector.as_fd()));
    ensure!(
        matches!(second, Err(BusError::Unsupported { .. })),
        "{second:?}"
    );
    Ok(())
}

fn intx_masks_itself_until_it_is_unmasked(guest: &Guest) -> Result<()> {
    let edu = open(guest, &DmaSpace::new())?;
    let info = edu.0.interrupts(Interrupt::Intx)?;
    ensure!(
        info.count == 1 && info.maskable && info.automasked,
        "{info:?}"
    );
    let vector = Vector::new("interrupt")?;
    edu.0
        .enable_interrupts(Interrupt::Intx, &[vector.as_fd()])?;
    edu.raise_interrupt()?;
    vector.fires_once()?;
    // The line is still high, and the kernel has masked it.
    vector.is_quiet()?;
    edu.0.unmask(Interrupt::Intx, 0..1)?;
    vector.fires_once()?;
    edu.acknowledge()?;
    edu.0.unmask(Interrupt::Intx, 0..1)?;
    vector.is_quiet()?;
    Ok(())
}

fn disabling_interrupts_fires_none(guest: &Guest) -> Result<()> {
    let edu = open(guest, &DmaSpace::new())?;
    let vector = Vector::new("interrupt")?;
    edu.0.disable_interrupts(Interrupt::Msi)?;
    edu.0.enable_interrupts(Interrupt::Msi, &[vector.as_fd()])?;
    edu.0.disable_interrupts(Interrupt::Msi)?;
    vector.is_quiet()?;
    // Only one kind can be enabled; the one before is no longer.
    edu.0
        .enable_interrupts(Interrupt::Intx, &[vector.as_fd()])?;
    let both = edu.0.enable_interrupts(Interrupt::Msi, &[vector.as_fd()]);
    ensure!(both.is_err(), "INTx and MSI are both enabled");
    edu.0.disable_interrupts(Interrupt::Intx)?;
    Ok(())
}

fn memory_is_copied_both_ways(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let edu = open(guest, &space)?;
    let target = edu.0.dma();
    space.attach(target.clone(), LAST_ADDRESS)?;
    let sent: Vec<u8> = (0..4096u32).map(|i| (i * 7 + 3) as u8).collect();
    let buffer = space.alloc(2 * 4096)?;
    buffer.write(0, &sent)?;
    edu.fetch(buffer.iova(), 4096)?;
    edu.store(buffer.iova() + 4096, 4096)?;
    ensure!(buffer.to_vec(4096, 4096)? == sent);
    drop(buffer);
    space.detach(&target);
    ensure!(space.usage().leaked == 0, "{:?}", space.usage());
    Ok(())
}

fn dma_after_unmap_is_a_fault_and_memory_is_untouched(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let edu = open(guest, &space)?;
    let target = edu.0.dma();
    space.attach(target.clone(), LAST_ADDRESS)?;
    let buffer = space.alloc(4096)?;
    buffer.write(0, b"this must stay")?;
    edu.store(buffer.iova() + 2048, 16)?;

    // The memory stays, and is no longer mapped for anybody.
    space.detach(&target);
    let mut log = KernelLog::from_now()?;
    edu.store(buffer.iova(), 16)?;
    // VT-d and virtio-iommu name the address; of QEMU's AMD-Vi it is 0, and only the function is named.
    let address = format!("{:x}", buffer.iova());
    let function = pci::only(EDU)?;
    log.line("the fault", |line| {
        line.to_lowercase().contains("fault")
            && (line.contains(&address) || line.contains(&format!("{function}: AMD-Vi")))
    })?;
    ensure!(buffer.to_vec(0, 14)? == b"this must stay");
    Ok(())
}

fn a_function_without_a_reset_says_so(guest: &Guest) -> Result<()> {
    let edu = open(guest, &DmaSpace::new())?;
    ensure!(!edu.0.is_resettable());
    let deadline = std::time::Duration::from_secs(5).into();
    for refused in [edu.0.reset(deadline), edu.0.hot_reset(&[], deadline)] {
        ensure!(
            matches!(refused, Err(BusError::Unsupported { .. })),
            "{refused:?}"
        );
    }
    Ok(())
}
