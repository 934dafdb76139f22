//! Opening and losing a chip: paths, leases, simulators that die, many chips at once.

mod driver_support;

use std::os::unix::fs::symlink;
use std::time::Duration;

use auk_driver::bus::BusError;
use auk_driver::pci::PciError;
use auk_driver::{Command, Device, DmaSpace, Error, Lease, OpenOptions, QueueOptions, WaitMode};
use auk_sim::{Chip, ChipProfile};
use driver_support::*;

#[test]
fn a_chip_is_opened_by_its_address_under_a_root() {
    let (root, chip) = (tempfile::tempdir().unwrap(), chip());
    let (host, _serving) = host_with(root.path(), &chip);
    for _ in 0..3 {
        let device = Device::open(&host, bdf(), &OpenOptions::default()).unwrap();
        assert_eq!(device.name(), "0000:01:00.0");
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        queue.run(&Command::nop(), SOON).unwrap();
    }
    assert_strict(&chip);
}

#[test]
fn who_comes_second_learns_who_has_the_chip() {
    let (root, chip) = (tempfile::tempdir().unwrap(), chip());
    let (host, _serving) = host_with(root.path(), &chip);
    let device = Device::open(&host, bdf(), &OpenOptions::default()).unwrap();
    let Err(Error::Busy { holder, .. }) = Device::open(&host, bdf(), &OpenOptions::default())
    else {
        panic!("a chip was opened twice");
    };
    assert_eq!(holder.pid, std::process::id());
    assert_eq!(Lease::holder(&host, bdf()).unwrap(), Some(holder));
    device.check().unwrap();
    drop(device);
    assert_eq!(Lease::holder(&host, bdf()).unwrap(), None);
}

#[test]
fn a_function_without_a_simulator_and_without_vfio_is_told_to_be_bound() {
    let (root, chip) = (tempfile::tempdir().unwrap(), chip());
    let (host, serving) = host_with(root.path(), &chip);
    drop(serving);
    let function = root.path().join("sys/bus/pci/devices/0000:01:00.0");
    symlink(
        "../../../../kernel/iommu_groups/7",
        function.join("iommu_group"),
    )
    .unwrap();
    let error = Device::open(&host, bdf(), &OpenOptions::default()).unwrap_err();
    let Error::Bus { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(matches!(source, BusError::NotBound { .. }), "{error}");
    assert!(
        error.to_string().contains("auk bind 0000:01:00.0"),
        "{error}"
    );
    assert_eq!(Lease::holder(&host, bdf()).unwrap(), None);
}

#[test]
fn a_wrong_root_and_a_wrong_address_are_told_apart() {
    let (root, chip) = (tempfile::tempdir().unwrap(), chip());
    let (host, _serving) = host_with(root.path(), &chip);
    let other = "0000:02:00.0".parse().unwrap();
    let error = Device::open(&host, other, &OpenOptions::default()).unwrap_err();
    assert!(
        matches!(error, Error::Pci(PciError::NoSuchFunction { .. })),
        "{error}"
    );
    let nowhere = auk_driver::pci::Host::at(root.path().join("nowhere"));
    let error = Device::open(&nowhere, bdf(), &OpenOptions::default()).unwrap_err();
    assert!(
        matches!(error, Error::Pci(PciError::NoTree { .. })),
        "{error}"
    );
}

#[test]
fn a_socket_that_nobody_serves_is_an_error_in_time() {
    let (root, chip) = (tempfile::tempdir().unwrap(), chip());
    let (host, serving) = host_with(root.path(), &chip);
    drop(serving);
    let _listens = std::os::unix::net::UnixListener::bind(host.simulator_socket(bdf())).unwrap();
    let options = OpenOptions::default().timeout(Duration::from_millis(200));
    assert!(Device::open(&host, bdf(), &options).is_err());
    assert_eq!(Lease::holder(&host, bdf()).unwrap(), None);
}

#[test]
fn a_simulator_that_dies_mid_job_ends_every_command_as_disconnected() {
    let chip = chip();
    let opened = open(&chip);
    let device = opened.device.clone();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let tickets: Vec<_> = (0..3)
        .map(|_| queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap())
        .collect();
    drop(opened.serving);
    for ticket in &tickets {
        let error = queue.wait(*ticket, SOON).unwrap_err();
        assert!(
            matches!(error, Error::Disconnected { .. }) && error.is_fatal(),
            "{error}"
        );
        assert!(matches!(
            queue.wait(*ticket, SOON),
            Err(Error::UnknownTicket)
        ));
    }
    assert!(matches!(
        queue.submit(&Command::nop()),
        Err(Error::Disconnected { .. })
    ));
    assert!(matches!(device.check(), Err(Error::Disconnected { .. })));
    assert!(matches!(
        device.alloc(4096),
        Err(Error::Disconnected { .. })
    ));
    assert!(matches!(
        device.restart_firmware(),
        Err(Error::Disconnected { .. })
    ));
    assert!(matches!(
        device.next_event(SOON),
        Err(Error::Disconnected { .. } | Error::Resetting { .. })
    ));
}

#[test]
fn a_simulator_that_dies_wakes_who_sleeps_on_an_interrupt() {
    let chip = chip();
    let opened = open(&chip);
    let options = QueueOptions::default().wait_mode(WaitMode::Interrupt);
    let mut queue = opened.create_queue(&options).unwrap();
    let semaphore = opened.buffer(8).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    let waiter = std::thread::spawn(move || queue.wait(ticket, SOON).unwrap_err());
    std::thread::sleep(Duration::from_millis(20));
    drop(opened.serving);
    let error = waiter.join().unwrap();
    assert!(matches!(error, Error::Disconnected { .. }), "{error}");
}

#[test]
fn chips_of_one_space_reach_the_same_buffer() {
    let chips: Vec<Chip> = [1, 2, 3]
        .map(|serial| {
            Chip::new(ChipProfile {
                serial,
                ..profile()
            })
            .unwrap()
        })
        .into();
    let space = DmaSpace::new();
    let early = space.alloc(4096).unwrap();
    let options = OpenOptions::default().space(&space);
    let devices: Vec<_> = chips
        .iter()
        .map(|chip| try_open(chip, &options).unwrap())
        .collect();
    let late = space.alloc(3 << 20).unwrap();
    for (index, device) in devices.iter().enumerate() {
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        for buffer in [&early, &late] {
            let at = (index * 8) as u64;
            queue
                .run(&Command::fill((buffer, at), index as u64 + 1, 8), SOON)
                .unwrap();
        }
    }
    for buffer in [&early, &late] {
        assert_eq!(buffer.read_value::<[u64; 3]>(0).unwrap(), [1, 2, 3]);
    }
    drop(devices);
    assert_eq!(space.usage().mappings, 0);
    for chip in &chips {
        assert_strict(chip);
    }
}
