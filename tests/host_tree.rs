//! The tree of a simulated host: its shape, its texts, and how it follows what happens.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod host_support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use auk_sim::inject::{Injection, Verb};
use host_support::{names, read, scratch, shape, small_host, wait_for};

const DEVICES: &str = "sys/bus/pci/devices";

fn inject(host: &auk_sim::host::SimulatedHost, target: &str, verb: Verb) {
    let target = target.to_owned();
    host.inject(&Injection::new(target, verb)).unwrap();
}

#[test]
fn a_host_that_has_started_has_chips_that_have_booted() {
    let root = scratch();
    let _host = small_host(root.path(), 8, 0);
    let functions = auk_driver::pci::Host::at(root.path())
        .accelerators()
        .unwrap();
    assert_eq!(functions.len(), 8);
    for function in functions {
        let vitals = function.config().unwrap().vitals().unwrap();
        assert_eq!(vitals.state, auk_asic::State::Running, "{}", function.bdf());
    }
}

#[test]
fn devices_hang_below_ports_and_every_link_leads_somewhere() {
    let root = scratch();
    let _host = small_host(root.path(), 2, 2);
    assert_eq!(
        names(&root.path().join(DEVICES)),
        [
            "0000:00:01.0",
            "0000:00:01.1",
            "0000:00:10.0",
            "0000:00:10.1",
            "0000:01:00.0",
            "0000:02:00.0",
            "0000:41:00.0",
            "0000:42:00.0"
        ]
    );
    let chip = fs::canonicalize(root.path().join(DEVICES).join("0000:02:00.0")).unwrap();
    assert!(chip.ends_with("sys/devices/pci0000:00/0000:00:01.1/0000:02:00.0"));
    let nic = fs::canonicalize(root.path().join("sys/class/net/eth1")).unwrap();
    assert!(nic.ends_with("0000:00:10.1/0000:42:00.0/net/eth1"));
    assert_eq!(
        fs::canonicalize(nic.join("device")).unwrap(),
        nic.ancestors().nth(2).unwrap()
    );
    let target = fs::read_link(nic.join("device")).unwrap();
    assert_eq!(target.file_name().unwrap(), "0000:42:00.0");
    assert_eq!(follow_all_links(root.path()), 8 * 6 + 2 * 4);
}

/// Checks that each link below a directory leads to a file inside of it; how many there are.
fn follow_all_links(root: &Path) -> usize {
    let top = fs::canonicalize(root).unwrap();
    let mut directories = vec![root.to_owned()];
    let mut links = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_symlink() {
                let path = entry.path();
                let target = fs::canonicalize(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert!(target.starts_with(&top), "{}", path.display());
                links += 1;
            }
        }
    }
    links
}

#[test]
fn texts_are_those_of_a_kernel() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 1);
    let chip = |name: &str| read(root.path(), &format!("{DEVICES}/0000:01:00.0/{name}"));
    for (name, text) in [
        ("vendor", "0x1ae5\n"),
        ("device", "0xa100\n"),
        ("class", "0x120000\n"),
        ("revision", "0x01\n"),
        ("current_link_speed", "32.0 GT/s PCIe\n"),
        ("max_link_speed", "32.0 GT/s PCIe\n"),
        ("current_link_width", "8\n"),
        ("max_link_width", "8\n"),
        ("power_state", "D0\n"),
        ("power/runtime_status", "active\n"),
        ("numa_node", "0\n"),
        ("irq", "0\n"),
        ("driver_override", "vfio-pci\n"),
        ("reset_method", "flr bus\n"),
        (
            "modalias",
            "pci:v00001AE5d0000A100sv00001AE5sd00000001bc12sc00i00\n",
        ),
        (
            "uevent",
            "DRIVER=vfio-pci\nPCI_CLASS=120000\nPCI_ID=1AE5:A100\nPCI_SUBSYS_ID=1AE5:0001\n\
             PCI_SLOT_NAME=0000:01:00.0\nMODALIAS=pci:v00001AE5d0000A100sv00001AE5sd00000001bc12sc00i00\n",
        ),
        (
            "aer_dev_correctable",
            "RxErr 0\nBadTLP 0\nBadDLLP 0\nRollover 0\nTimeout 0\nNonFatalErr 0\nCorrIntErr 0\nHeaderOF 0\n\
             TOTAL_ERR_COR 0\n",
        ),
    ] {
        assert_eq!(chip(name), text, "{name}");
    }
    let resource = chip("resource");
    let lines: Vec<&str> = resource.lines().collect();
    assert_eq!(lines.len(), 13);
    assert!(lines.iter().all(|line| line.len() == 3 * 18 + 2));
    assert!(lines[0].ends_with(" 0x0000000000140204"), "{resource}");
    assert!(lines[4].ends_with(" 0x000000000014220c"), "{resource}");
    assert_eq!(
        lines[1],
        "0x0000000000000000 0x0000000000000000 0x0000000000000000"
    );
    let port = |name: &str| read(root.path(), &format!("{DEVICES}/0000:00:01.0/{name}"));
    assert_eq!(port("resource").lines().count(), 17);
    assert_eq!(port("secondary_bus_number"), "1\n");
    assert_eq!(port("class"), "0x060400\n");
    assert_eq!(port("aer_rootport_total_err_fatal"), "0\n");
    assert_eq!(
        read(root.path(), "sys/bus/pci/slots/1/address"),
        "0000:01:00\n"
    );
    let nic = |name: &str| read(root.path(), &format!("sys/class/net/eth0/{name}"));
    for (name, text) in [
        ("operstate", "up\n"),
        ("carrier", "1\n"),
        ("carrier_changes", "1\n"),
        ("speed", "400000\n"),
        ("duplex", "full\n"),
        ("address", "02:a1:00:00:00:00\n"),
        ("uevent", "INTERFACE=eth0\nIFINDEX=2\n"),
        ("statistics/rx_crc_errors", "0\n"),
    ] {
        assert_eq!(nic(name), text, "{name}");
    }
    assert_eq!(
        names(&root.path().join("sys/class/net/eth0/statistics")).len(),
        24
    );
}

/// The machine that the tests run on is a real kernel: whatever its functions and interfaces have in common with
/// ours has the same form there.
#[test]
fn files_have_the_form_that_this_machines_kernel_gives_them() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 1);
    let mut compared = 0;
    for (ours, theirs) in [
        ("sys/bus/pci/devices/0000:01:00.0", "/sys/bus/pci/devices"),
        ("sys/class/net/eth0", "/sys/class/net"),
        ("sys/class/net/eth0/statistics", "/sys/class/net/lo/.."),
    ] {
        let ours = root.path().join(ours);
        for name in names(&ours) {
            let Ok(text) = fs::read_to_string(ours.join(&name)) else {
                continue;
            };
            let Ok(devices) = fs::read_dir(theirs) else {
                continue;
            };
            for device in devices.flatten() {
                let path = device.path().join(&name);
                let path = if ours.ends_with("statistics") {
                    device.path().join("statistics").join(&name)
                } else {
                    path
                };
                // Not there, write-only, or EINVAL of an interface that is down.
                let Ok(real) = fs::read_to_string(&path) else {
                    continue;
                };
                assert_eq!(
                    shape(&name, &text),
                    shape(&name, &real),
                    "{}: {text:?} against {real:?}",
                    path.display()
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 0, "this machine shows no sysfs to compare with");
    eprintln!("{compared} files compared with this machine's kernel");
}

#[test]
fn modes_are_those_of_sysfs() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    for (name, mode) in [
        ("vendor", 0o444),
        ("config", 0o644),
        ("current_link_width", 0o444),
        ("reset", 0o200),
        ("remove", 0o220),
    ] {
        let path = root.path().join(DEVICES).join("0000:01:00.0").join(name);
        let found = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[test]
fn a_narrower_link_shows_at_both_ends_and_heals() {
    let root = scratch();
    let host = small_host(root.path(), 1, 1);
    for (target, port, lanes, most) in [
        ("0000:01:00.0", "0000:00:01.0", 2, 8),
        ("0000:41:00.0", "0000:00:10.0", 4, 16),
    ] {
        let width = |bdf: &str| read(root.path(), &format!("{DEVICES}/{bdf}/current_link_width"));
        inject(&host, target, Verb::LinkWidth { lanes });
        assert_eq!(
            (width(target), width(port)),
            (format!("{lanes}\n"), format!("{lanes}\n"))
        );
        let most_text = read(root.path(), &format!("{DEVICES}/{target}/max_link_width"));
        assert_eq!(most_text, format!("{most}\n"));
        inject(&host, target, Verb::LinkWidth { lanes: most });
        assert_eq!(width(target), format!("{most}\n"));
        for lanes in [0, 3, most * 2] {
            let injection = Injection::new(target, Verb::LinkWidth { lanes });
            host.inject(&injection).unwrap_err();
        }
    }
}

#[test]
fn a_carrier_that_flaps_is_counted_each_time() {
    let root = scratch();
    let host = small_host(root.path(), 0, 2);
    let nic = |name: &str| read(root.path(), &format!("sys/class/net/eth1/{name}"));
    let flap = |count, down_ms| Verb::CarrierFlap { count, down_ms };
    inject(&host, "eth1", flap(1, 3_600_000));
    assert_eq!(
        (nic("carrier"), nic("operstate")),
        ("0\n".into(), "down\n".into())
    );
    assert_eq!(
        (nic("speed"), nic("duplex")),
        ("-1\n".into(), "unknown\n".into())
    );
    assert_eq!(nic("carrier_down_count"), "1\n");

    let host_2 = scratch();
    let second = small_host(host_2.path(), 0, 1);
    inject(&second, "0000:41:00.0", flap(3, 1));
    let nic = |name: &str| read(host_2.path(), &format!("sys/class/net/eth0/{name}"));
    // The files change one after the other, the state last.
    wait_for("three flaps", || {
        nic("carrier_changes") == "7\n" && nic("operstate") == "up\n"
    });
    assert_eq!(
        (nic("carrier_up_count"), nic("carrier_down_count")),
        ("4\n".into(), "3\n".into())
    );
    assert_eq!(
        (nic("carrier"), nic("speed")),
        ("1\n".into(), "400000\n".into())
    );
    assert_eq!(
        read(root.path(), "sys/class/net/eth0/carrier_changes"),
        "1\n"
    );
}

#[test]
fn what_a_nic_suffers_is_in_its_files_until_its_driver_is_loaded_anew() {
    let root = scratch();
    let host = small_host(root.path(), 0, 1);
    let net = |name: &str| read(root.path(), &format!("sys/class/net/eth0/{name}"));
    let rdma = |name: &str| {
        let port = "sys/class/infiniband/mlx5_0/ports/1";
        read(root.path(), &format!("{port}/{name}"))
    };
    inject(&host, "eth0", Verb::PortErrors { count: 7 });
    inject(&host, "eth0", Verb::PortDrops { count: 5 });
    inject(&host, "eth0", Verb::PortSpeed { mbit: 100_000 });
    assert_eq!(net("statistics/rx_crc_errors"), "7\n");
    assert_eq!(net("statistics/rx_errors"), "7\n");
    assert_eq!(net("statistics/rx_dropped"), "5\n");
    assert_eq!(net("speed"), "100000\n");
    inject(&host, "eth0", Verb::RdmaPort { up: false });
    assert_eq!(
        (rdma("state"), net("carrier")),
        ("1: DOWN\n".into(), "1\n".into())
    );
    assert_eq!(rdma("hw_counters/link_downed"), "1\n");
    inject(&host, "eth0", Verb::RdmaPort { up: true });
    assert_eq!(rdma("state"), "4: ACTIVE\n");
    inject(&host, "eth0", Verb::DriverReload);
    assert_eq!(net("statistics/rx_crc_errors"), "0\n");
    assert_eq!(
        (net("carrier_up_count"), net("carrier_down_count")),
        ("1\n".into(), "0\n".into())
    );
    assert_eq!(rdma("hw_counters/link_downed"), "0\n");
}

#[test]
fn sockets_are_where_the_contract_says() {
    let root = scratch();
    let host = small_host(root.path(), 2, 0);
    for name in ["0000:01:00.0.sock", "0000:02:00.0.sock", "control.sock"] {
        let path = root.path().join("run/auk/sim").join(name);
        assert!(
            fs::metadata(path).unwrap().file_type().is_socket(),
            "{name}"
        );
    }
    assert_eq!(
        host.chips()[1].socket,
        root.path().join("run/auk/sim/0000:02:00.0.sock")
    );
    assert!(root.path().join("run/auk/lease").is_dir());
}

#[test]
fn sixty_four_chips_and_nics_have_addresses_of_their_own() {
    let root = scratch();
    let host = small_host(root.path(), 64, 64);
    let functions = names(&root.path().join(DEVICES));
    assert_eq!(functions.len(), 256);
    assert_eq!(names(&root.path().join("sys/class/net")).len(), 64);
    assert_eq!(host.chips()[63].bdf.to_string(), "0000:40:00.0");
    assert_eq!(host.nics()[63].bdf.to_string(), "0000:80:00.0");
    // Of a device with several functions, function 0 says so in its header type.
    for function in functions
        .iter()
        .filter(|bdf| bdf.starts_with("0000:00:") && bdf.ends_with(".0"))
    {
        let config = fs::read(root.path().join(DEVICES).join(function).join("config")).unwrap();
        assert_eq!(config[0x0E], 0x81, "{function}");
    }
    assert_eq!(follow_all_links(root.path()), 256 * 6 + 64 * 4);
}

const MANUAL: &str = include_str!("../docs/simulator.md");

/// The words in backticks in the first column of the table after a marker.
fn first_column(marker: &str) -> Vec<&'static str> {
    let after = MANUAL.split(&format!("<!-- {marker} -->")).nth(1).unwrap();
    let rows = after.trim_start().lines().skip(2);
    rows.take_while(|row| row.starts_with('|'))
        .map(|row| row.split('|').nth(1).unwrap())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn the_manual_names_each_file_of_a_chip_and_no_other() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 0);
    let directory = root.path().join(DEVICES).join("0000:01:00.0");
    let mut found = names(&directory);
    found.retain(|name| name != "power");
    let power = names(&directory.join("power"));
    found.extend(power.iter().map(|name| format!("power/{name}")));
    found.sort_unstable();
    let mut named = first_column("files of a chip");
    named.sort_unstable();
    assert_eq!(found, named);
}

#[test]
fn the_manual_names_places_that_exist() {
    let root = scratch();
    let _host = small_host(root.path(), 1, 1);
    for place in first_column("tree") {
        let path = place
            .replace("PORT", "0000:00:01.0")
            .replace("BDF", "0000:01:00.0");
        assert!(root.path().join(&path).exists(), "{path}");
    }
}
