//! What happens outside of the guest is seen inside.

use anyhow::{Result, ensure};
use auk_vm::{Fault, Request};

use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test(
        "a_link_that_trains_down_is_seen_in_sysfs",
        a_link_that_trains_down_is_seen_in_sysfs,
    ),
    test("memory_errors_are_counted", memory_errors_are_counted),
    test(
        "what_the_host_cannot_do_is_an_error",
        what_the_host_cannot_do_is_an_error,
    ),
];

fn a_link_that_trains_down_is_seen_in_sysfs(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    let width = || pci::attribute(chip, "current_link_width");
    let speed = || pci::attribute(chip, "current_link_speed");
    ensure!(width()? == "8" && speed()? == "32.0 GT/s PCIe");
    guest.inject(0, Fault::Link { speed: 3, width: 4 })?;
    ensure!(
        width()? == "4" && speed()? == "8.0 GT/s PCIe",
        "the link is {} x{}",
        speed()?,
        width()?
    );
    guest.inject(0, Fault::Link { speed: 5, width: 8 })?;
    ensure!(width()? == "8" && speed()? == "32.0 GT/s PCIe");
    Ok(())
}

fn memory_errors_are_counted(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    let count = || -> Result<_> {
        let shown: serde_json::Value =
            serde_json::from_str(&guest.auk(&["show", chip, "--json"])?)?;
        Ok(shown["vital_signs"]["ecc_correctable"].as_u64())
    };
    let before = count()?;
    guest.inject(0, Fault::EccCorrectable(3))?;
    guest.wait_for("three more", || {
        Ok(count()? == before.map(|count| count + 3))
    })
}

fn what_the_host_cannot_do_is_an_error(guest: &Guest) -> Result<()> {
    let refused = guest.ask(Request::KillSimulator(99));
    let said = refused.map_err(|error| error.to_string());
    ensure!(
        said.as_ref()
            .is_err_and(|error| error.contains("no chip 99")),
        "{said:?}"
    );
    Ok(())
}
