//! Looking around on a simulated host, beside a job that holds a chip.

mod driver_support;

use std::time::Duration;

use auk_asic::State;
use auk_asic::config::{capability, extended};
use auk_driver::pci::{ConfigSpace, Host};
use auk_driver::{Command, Device, OpenOptions, QueueOptions};
use auk_sim::host::Host as Simulation;
use driver_support::*;

#[test]
fn a_host_shows_its_chips_and_what_sysfs_knows_of_them() {
    let root = tempfile::tempdir().unwrap();
    let chips = |serial| auk_sim::ChipProfile {
        serial,
        ..profile()
    };
    let simulation = Simulation::builder(root.path())
        .chip(chips(1))
        .chip(chips(2))
        .nics(1)
        .start()
        .unwrap();
    let host = Host::at(simulation.root());
    let found = host.accelerators().unwrap();
    let addresses: Vec<String> = found.iter().map(|f| f.bdf().to_string()).collect();
    assert_eq!(addresses, ["0000:01:00.0", "0000:02:00.0"]);
    assert!(host.functions().unwrap().len() > found.len());

    let chip = &found[0];
    assert_eq!(chip.class().unwrap(), auk_asic::ident::CLASS);
    assert_eq!(chip.driver().unwrap().as_deref(), Some("vfio-pci"));
    assert!(chip.iommu_group().unwrap().is_some());
    let link = chip.link().unwrap();
    assert_eq!((link.current_width, link.is_degraded()), (8, Some(false)));
    assert_eq!(chip.aer().unwrap().map(|aer| aer.fatal), Some(0));
    assert_eq!(chip.bar_sizes().unwrap()[0], auk_asic::bar0::SIZE);
    chip.numa_node().unwrap();

    let config = chip.config().unwrap();
    let ids: Vec<u8> = config
        .capabilities()
        .unwrap()
        .iter()
        .map(|c| c.id)
        .collect();
    for id in [capability::PM, capability::MSIX, capability::PCIE] {
        assert!(ids.contains(&id), "{ids:?}");
    }
    let list = config.extended_capabilities().unwrap();
    assert!(list.iter().any(|found| found.id == extended::AER));
    assert_eq!(config.serial_number().unwrap(), Some(1));
}

#[test]
fn vital_signs_are_read_from_sysfs_while_a_job_holds_the_chip() {
    let root = tempfile::tempdir().unwrap();
    let simulation = Simulation::builder(root.path())
        .chip(profile())
        .start()
        .unwrap();
    let host = Host::at(simulation.root());
    let device = Device::open(&host, bdf(), &OpenOptions::default()).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();

    let config = host.function(bdf()).unwrap().config().unwrap();
    let deadline = std::time::Instant::now() + SOON;
    let first = config.vitals().unwrap();
    assert_eq!(first.state, State::Running);
    // The descriptor that is held sees live values.
    while config.vitals().unwrap().heartbeat == first.heartbeat {
        assert!(
            std::time::Instant::now() < deadline,
            "the heartbeat stands still"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(device.vitals().unwrap().generation, first.generation);
}
