//! Chips that go away while nobody has them open, and come back.

use anyhow::{Result, ensure};
use auk_vm::Request;
use serde_json::json;

use crate::guest::Guest;
use crate::pci;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test(
        "a_removed_chip_is_found_again_by_a_rescan",
        a_removed_chip_is_found_again_by_a_rescan,
    ),
    test(
        "the_config_space_of_a_chip_whose_simulator_died_is_all_ones",
        the_config_space_of_a_chip_whose_simulator_died_is_all_ones,
    ),
    test(
        "a_chip_is_plugged_into_an_empty_port",
        a_chip_is_plugged_into_an_empty_port,
    ),
];

fn a_removed_chip_is_found_again_by_a_rescan(guest: &Guest) -> Result<()> {
    let chip = guest.chips()?[0].clone();
    pci::set_attribute(&chip, "remove", "1")?;
    ensure!(guest.chips()?.is_empty(), "{chip} is still there");
    std::fs::write("/sys/bus/pci/rescan", "1")?;
    ensure!(
        guest.chips()? == [chip.as_str()],
        "there are {:?}",
        guest.chips()?
    );
    let shown = guest.auk(&["show", &chip])?;
    ensure!(shown.contains("Running"), "{shown}");
    Ok(())
}

fn the_config_space_of_a_chip_whose_simulator_died_is_all_ones(guest: &Guest) -> Result<()> {
    let chip = guest.chips()?[0].clone();
    guest.ask(Request::KillSimulator(0))?;
    guest.wait_for("all ones", || {
        let config = std::fs::read(format!("/sys/bus/pci/devices/{chip}/config"))?;
        // The vital signs; QEMU answers for the header itself.
        Ok(config[0x16C..0x1A0].iter().all(|&byte| byte == 0xFF))
    })
}

fn a_chip_is_plugged_into_an_empty_port(guest: &Guest) -> Result<()> {
    let before = guest.chips()?;
    guest.ask(Request::StartSimulator(0))?;
    let socket = guest.ask(Request::SimulatorSocket(0))?;
    let arguments = json!({
        "driver": "vfio-user-pci",
        "id": "plugged-in",
        "bus": "empty",
        "socket": { "type": "unix", "path": socket },
    });
    guest.ask(Request::Qmp {
        execute: "device_add".to_owned(),
        arguments: arguments.to_string(),
    })?;
    guest.wait_for("one more chip", || Ok(guest.chips()?.len() > before.len()))?;
    let mut chips = guest.chips()?;
    chips.retain(|chip| !before.contains(chip));
    let shown = guest.auk(&["show", &chips[0]])?;
    ensure!(shown.contains("Running"), "{shown}");
    Ok(())
}
