//! What befalls a chip while a program has it open, as the kernel tells it.

use std::fs;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use auk_driver::pci::{AerCounters, Bdf};
use auk_driver::{Command, Device, DeviceEvent, Error, QueueOptions};

use crate::chip;
use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};
use crate::tests::aer::{COMPLETION_TIMEOUT, DATA_LINK_PROTOCOL_ERROR, RECEIVER_ERROR, inject};

pub(crate) const TESTS: &[Test] = &[
    test(
        "memory_decoding_switched_off_is_an_error_and_a_reset_mends_it",
        memory_decoding_switched_off_is_an_error_and_a_reset_mends_it,
    ),
    test(
        "a_correctable_error_is_counted_and_stops_nothing",
        a_correctable_error_is_counted_and_stops_nothing,
    ),
    test(
        "a_nonfatal_error_is_told_and_counted",
        a_nonfatal_error_is_told_and_counted,
    ),
    test(
        "an_unbind_asks_for_the_chip_and_waits",
        an_unbind_asks_for_the_chip_and_waits,
    ),
    test(
        "a_removal_asks_for_the_chip_and_a_rescan_brings_it_back",
        a_removal_asks_for_the_chip_and_a_rescan_brings_it_back,
    ),
    // The recovery resets the link above, and the chip's fate is QEMU's: last.
    test("a_fatal_error_is_told", a_fatal_error_is_told).within(120),
];

/// Longest wait for an event.
const SOON: Duration = Duration::from_secs(20);

/// Waits for an event of the bus; what the chip says meanwhile is not of interest.
fn bus_event(device: &Device) -> Result<DeviceEvent> {
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        match device.next_event(SOON)? {
            Some(DeviceEvent::Chip(_)) => {}
            Some(event) => return Ok(event),
            None => break,
        }
    }
    bail!("no event of the bus within {SOON:?}")
}

/// COMMAND and its memory enable bit, PCI Express Base Specification 6.0, section 7.5.1.1.3.
const COMMAND: usize = 4;
const MEMORY: u16 = 1 << 1;

fn memory_decoding_switched_off_is_an_error_and_a_reset_mends_it(guest: &Guest) -> Result<()> {
    use std::os::unix::fs::FileExt;

    auk_driver::install_sigbus_handler()?;
    let device = chip::open(guest)?;
    let mut queue = device.create_queue(&QueueOptions::default())?;
    queue.run(&Command::nop(), SOON)?;
    // As root can, behind everybody's back.
    let bdf = chip::bound(guest, 0)?;
    let config = chip::host().function(bdf)?.path().join("config");
    let config = fs::File::options().read(true).write(true).open(config)?;
    let mut command = [0; 2];
    config.read_exact_at(&mut command, COMMAND as u64)?;
    let off = u16::from_le_bytes(command) & !MEMORY;
    config.write_all_at(&off.to_le_bytes(), COMMAND as u64)?;

    let ended = queue.run(&Command::nop(), Duration::from_secs(2));
    let Err(error) = ended else {
        bail!("a command ended well on a chip whose BARs are off");
    };
    println!("the job is told: {error}");
    config.write_all_at(&command, COMMAND as u64)?;
    drop(queue);
    device.reset(auk_driver::ResetKind::Flr)?;
    device
        .create_queue(&QueueOptions::default())?
        .run(&Command::nop(), SOON)?;
    Ok(())
}

fn counters(bdf: Bdf) -> Result<AerCounters> {
    let counters = chip::host().function(bdf)?.aer()?;
    counters.with_context(|| format!("{bdf} has no AER counters"))
}

fn a_correctable_error_is_counted_and_stops_nothing(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    let bdf = chip::bound(guest, 0)?;
    let before = counters(bdf)?;
    inject(&bdf.to_string(), 0, RECEIVER_ERROR)?;
    guest.wait_for("the kernel to count it", || {
        Ok(counters(bdf)?.correctable > before.correctable)
    })?;
    device
        .create_queue(&QueueOptions::default())?
        .run(&Command::nop(), SOON)?;
    Ok(())
}

fn a_nonfatal_error_is_told_and_counted(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    let bdf = chip::bound(guest, 0)?;
    let before = counters(bdf)?;
    inject(&bdf.to_string(), COMPLETION_TIMEOUT, 0)?;
    let event = bus_event(&device)?;
    ensure!(event == DeviceEvent::BusError, "the device says {event:?}");
    guest.wait_for("the kernel to count it", || {
        Ok(counters(bdf)?.nonfatal > before.nonfatal)
    })?;
    device.reset(auk_driver::ResetKind::Flr)?;
    device
        .create_queue(&QueueOptions::default())?
        .run(&Command::nop(), SOON)?;
    Ok(())
}

/// The kernel reads no status of an endpoint whose link it thinks broken (`aer_get_device_error_info` of
/// `drivers/pci/pcie/aer.c`), so `aer_dev_fatal` need not count it: the event is all there is.
fn a_fatal_error_is_told(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    let bdf = chip::bound(guest, 0)?;
    inject(&bdf.to_string(), DATA_LINK_PROTOCOL_ERROR, 0)?;
    let event = bus_event(&device)?;
    ensure!(event == DeviceEvent::BusError, "the device says {event:?}");
    println!("the kernel counts {:?}", counters(bdf)?);
    Ok(())
}

/// Does in another thread what the kernel only finishes when the chip is closed.
fn meanwhile(work: impl FnOnce() -> Result<()> + Send + 'static) -> JoinHandle<Result<()>> {
    thread::spawn(work)
}

/// Waits until the host wants the chip back, and gives it.
fn give_back(device: Device, host: JoinHandle<Result<()>>) -> Result<()> {
    let event = bus_event(&device)?;
    ensure!(
        event == DeviceEvent::RemovalRequested,
        "the device says {event:?}"
    );
    ensure!(!host.is_finished(), "the host did not wait for the chip");
    // A job that cleans up may still use it.
    device
        .create_queue(&QueueOptions::default())?
        .run(&Command::nop(), SOON)?;
    drop(device);
    match host.join() {
        Ok(result) => result,
        Err(_) => bail!("the other thread panicked"),
    }
}

fn an_unbind_asks_for_the_chip_and_waits(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    let address = chip::bound(guest, 0)?.to_string();
    let host = meanwhile({
        let address = address.clone();
        move || pci::unbind_vfio(&address)
    });
    give_back(device, host)?;
    let driver = pci::link_name(&address, "driver")?;
    ensure!(
        driver.as_deref() != Some("vfio-pci"),
        "{address} is still bound"
    );
    chip::open(guest)?.check()?;
    Ok(())
}

fn a_removal_asks_for_the_chip_and_a_rescan_brings_it_back(guest: &Guest) -> Result<()> {
    let device = chip::open(guest)?;
    let address = chip::bound(guest, 0)?.to_string();
    let host = meanwhile({
        let address = address.clone();
        move || pci::set_attribute(&address, "remove", "1")
    });
    give_back(device, host)?;
    let gone = chip::host().function(address.parse()?);
    ensure!(gone.is_err(), "{address} is still listed");
    fs::write("/sys/bus/pci/rescan", "1").context("rescanning")?;
    guest.wait_for("the chip to come back", || {
        Ok(guest.chips()?.contains(&address))
    })?;
    let device = chip::open(guest)?;
    ensure!(
        !matches!(device.check(), Err(Error::Gone { .. })),
        "the chip is gone"
    );
    device.check()?;
    Ok(())
}
