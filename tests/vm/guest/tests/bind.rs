//! `auk bind` and `auk unbind` on drivers of a real kernel.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use auk_driver::DmaSpace;
use auk_driver::bus::{Function, Interrupt};

use crate::eventfd::Vector;
use crate::guest::Guest;
use crate::pci::{self, E1000E, EDU, NVME};
use crate::registry::{Test, test};
use crate::vfio;

pub(crate) const TESTS: &[Test] = &[
    test(
        "a_device_goes_to_vfio_and_back_to_its_driver",
        a_device_goes_to_vfio_and_back_to_its_driver,
    ),
    test("a_bridge_is_refused", a_bridge_is_refused),
    test(
        "a_device_without_driver_goes_back_to_having_none",
        a_device_without_driver_goes_back_to_having_none,
    ),
    test(
        "an_interface_that_is_up_is_taken_by_force_only",
        an_interface_that_is_up_is_taken_by_force_only,
    ),
    test(
        "a_device_that_a_process_has_is_given_up_when_it_is_asked_to",
        a_device_that_a_process_has_is_given_up_when_it_is_asked_to,
    )
    .within(90),
];

fn driver(address: &str) -> Result<Option<String>> {
    pci::link_name(address, "driver")
}

fn a_device_goes_to_vfio_and_back_to_its_driver(guest: &Guest) -> Result<()> {
    for (kind, name) in [(NVME, "nvme"), (E1000E, "e1000e")] {
        let address = pci::only(kind)?;
        ensure!(driver(&address)?.as_deref() == Some(name));
        let said = guest.auk(&["bind", &address])?;
        ensure!(said.contains("vfio-pci"), "{said}");
        ensure!(driver(&address)?.as_deref() == Some("vfio-pci"), "{said}");
        // What is so already is left alone.
        guest.auk(&["bind", &address])?;
        let said = guest.auk(&["unbind", &address])?;
        ensure!(driver(&address)?.as_deref() == Some(name), "{said}");
        let left = pci::attribute(&address, "driver_override")?;
        ensure!(left == "(null)", "driver_override is {left:?}");
    }
    Ok(())
}

fn a_device_without_driver_goes_back_to_having_none(guest: &Guest) -> Result<()> {
    let address = pci::only(EDU)?;
    guest.auk(&["bind", &address])?;
    ensure!(driver(&address)?.as_deref() == Some("vfio-pci"));
    guest.auk(&["unbind", &address])?;
    ensure!(driver(&address)?.is_none());
    Ok(())
}

fn a_bridge_is_refused(guest: &Guest) -> Result<()> {
    let port = pci::port_of(&guest.chips()?[0])?;
    let before = driver(&port)?;
    let said = guest.auk_fails(&["bind", &port, "--force"])?;
    ensure!(said.contains("bridge"), "{said}");
    ensure!(driver(&port)? == before);
    Ok(())
}

fn an_interface_that_is_up_is_taken_by_force_only(guest: &Guest) -> Result<()> {
    /// `IFF_UP` of `<linux/if.h>`.
    const UP: u32 = 1;
    let address = pci::only(E1000E)?;
    let interface = pci::interface(&address)?;
    let flags = format!("/sys/class/net/{interface}/flags");
    let text = std::fs::read_to_string(&flags)?;
    let old = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16)
        .with_context(|| format!("{flags} is {text:?}"))?;
    std::fs::write(&flags, format!("{:#x}", old | UP))?;

    let said = guest.auk_fails(&["bind", &address])?;
    ensure!(said.contains(&interface), "{said}");
    ensure!(driver(&address)?.as_deref() == Some("e1000e"), "{said}");

    guest.auk(&["bind", &address, "--force"])?;
    ensure!(driver(&address)?.as_deref() == Some("vfio-pci"));
    guest.auk(&["unbind", &address])?;
    ensure!(driver(&address)?.as_deref() == Some("e1000e"));
    Ok(())
}

fn a_device_that_a_process_has_is_given_up_when_it_is_asked_to(guest: &Guest) -> Result<()> {
    let address = pci::only(EDU)?;
    let function = vfio::open(guest, &address, &DmaSpace::new())?;
    let asked = Vector::new("the request to let go")?;
    function.enable_interrupts(Interrupt::Request, &[asked.as_fd()])?;

    let said = guest.auk_fails(&["unbind", &address])?;
    let holder = format!("process {}", std::process::id());
    ensure!(said.contains(&holder), "no {holder} in {said}");
    ensure!(driver(&address)?.as_deref() == Some("vfio-pci"));
    asked.is_quiet()?;

    let mut unbinding = Command::new("/bin/auk")
        .args(["unbind", &address, "--force"])
        .stdout(Stdio::null())
        .spawn()?;
    asked.wait()?;
    ensure!(
        unbinding.try_wait()?.is_none(),
        "it was unbound while a process had it"
    );
    drop(function);
    ensure!(unbinding.wait()?.success());
    ensure!(driver(&address)?.is_none());
    Ok(())
}
