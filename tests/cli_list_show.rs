//! `auk list` and `auk show` on a simulated host, and on roots that are none.

mod cli_support;

use auk_driver::pci::Host;
use auk_driver::{Device, OpenOptions};
use cli_support::tree::Tree;
use cli_support::{SimHost, auk, auk_at, command, eventually, run};
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn list_shows_chips_and_then_nics() {
    let host = SimHost::start(2, 1);
    let list = host.auk(&["list", "--json"]).expect_code(0).json();
    let devices = list["devices"].as_array().unwrap();
    let told: Vec<_> = devices
        .iter()
        .map(|device| {
            (
                device["address"].as_str().unwrap(),
                device["kind"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("0000:01:00.0", "accelerator"),
            ("0000:02:00.0", "accelerator"),
            ("0000:41:00.0", "nic"),
        ]
    );
    assert_eq!(devices[0]["model"], "A1");
    assert_eq!(devices[0]["driver"], "vfio-pci");
    assert_eq!(devices[0]["problems"], json!([]));
    assert_eq!(devices[2]["interfaces"], json!(["eth0"]));

    let text = host.auk(&["list"]).expect_code(0).stdout;
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(
        text.contains("Running") && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn the_root_can_come_from_the_environment() {
    let host = SimHost::start(1, 0);
    let outcome = run(command(&["list"]).env("AUK_ROOT", &host.root)).expect_code(0);
    assert!(outcome.stdout.contains("0000:01:00.0"), "{outcome:?}");
}

#[test]
fn a_wrong_root_is_told_with_what_to_do() {
    let parts = ["/nowhere/at/all", "hint:", "--root"];
    auk(&["list", "--root", "/nowhere/at/all"]).expect_error(3, &parts);
    auk(&["show", "01:00.0", "--root", "/nowhere/at/all"]).expect_error(3, &parts);
}

#[test]
fn a_host_without_devices_has_an_empty_list() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("sys/bus/pci/devices")).unwrap();
    let outcome = auk_at(directory.path(), &["list"]).expect_code(0);
    assert_eq!(outcome.stdout, "");
    assert!(
        outcome.stderr.contains("no accelerators or NICs"),
        "{outcome:?}"
    );
    let list = auk_at(directory.path(), &["list", "--json"]).json();
    assert_eq!(list["devices"], json!([]));
}

#[test]
fn show_tells_all_that_sysfs_does() {
    let host = SimHost::start(1, 1);
    let chip = host
        .auk(&["show", "01:00.0", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(chip["address"], "0000:01:00.0");
    assert_eq!(chip["vital_signs"]["state"], "Running");
    assert_eq!(chip["vital_signs"]["ecc_uncorrectable"], 0);
    assert_eq!(chip["link"]["degraded"], false);
    assert_eq!(
        chip["aer"],
        json!({"correctable": 0, "nonfatal": 0, "fatal": 0})
    );
    assert_eq!(chip["held_by"], json!(null));
    let bars: Vec<_> = chip["bars"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bar| &bar["number"])
        .collect();
    assert_eq!(bars, [0, 2, 4]);
    assert_eq!(chip.get("opened"), None);

    let text = host.auk(&["show", "0000:01:00.0"]).expect_code(0).stdout;
    for part in [
        "PCIe link",
        "Vital signs",
        "IOMMU group",
        "held by",
        "BAR4",
        "AER fatal",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let nic = host.auk(&["show", "41:00.0"]).expect_code(0).stdout;
    assert!(
        nic.contains("eth0") && !nic.contains("Vital signs"),
        "{nic}"
    );
}

#[test]
fn show_open_asks_the_chip_itself_and_lets_it_go() {
    let host = SimHost::start(1, 1);
    for _ in 0..2 {
        let chip = host
            .auk(&["show", "01:00.0", "--open", "--json"])
            .expect_code(0)
            .json();
        let opened = &chip["opened"];
        assert_eq!(opened["capabilities"]["io_queues"], 32);
        assert_eq!(opened["firmware_slots"][0]["booted_from"], true);
        assert!(opened["telemetry"]["uptime_ms"].as_u64().unwrap() > 0);
        assert_eq!(chip["held_by"], json!(null));
    }
    let text = host
        .auk(&["show", "01:00.0", "--open"])
        .expect_code(0)
        .stdout;
    for part in ["Capabilities", "Firmware slots", "Telemetry"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    host.auk(&["show", "41:00.0", "--open"])
        .expect_error(3, &["0000:41:00.0", "only an A1", "hint:"]);
}

#[test]
fn a_chip_that_is_held_is_shown_with_its_holder_and_not_opened() {
    let host = SimHost::start(1, 0);
    let address = "0000:01:00.0".parse().unwrap();
    let device = Device::open(&Host::at(&host.root), address, &OpenOptions::default()).unwrap();
    let pid = std::process::id();
    let chip = host
        .auk(&["show", "01:00.0", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(chip["held_by"]["pid"], pid);
    let list = host.auk(&["list"]).expect_code(0).stdout;
    assert!(list.contains(&format!("process {pid}")), "{list}");
    host.auk(&["show", "01:00.0", "--open"])
        .expect_error(3, &["in use by", &pid.to_string(), "hint:"]);
    device.check().unwrap();
    drop(device);
    host.auk(&["show", "01:00.0", "--open"]).expect_code(0);
}

#[test]
fn a_chip_whose_simulator_was_killed_is_told_as_that() {
    let host = SimHost::start(1, 0);
    let SimHost {
        running,
        root,
        directory: _directory,
        ..
    } = host;
    running.stop(Signal::SIGKILL);
    auk_at(&root, &["show", "01:00.0", "--open"]).expect_error(
        3,
        &[
            "0000:01:00.0",
            "connecting",
            "hint: is its simulator still running",
        ],
    );
}

#[test]
fn no_such_address_is_answered_with_those_there_are() {
    let host = SimHost::start(2, 1);
    host.auk(&["show", "0000:07:00.0"]).expect_error(
        3,
        &[
            "0000:07:00.0: no such PCI function",
            "hint: there are 0000:01:00.0, 0000:02:00.0, 0000:41:00.0",
        ],
    );
}

#[test]
fn what_is_no_address_ends_in_2() {
    for address in ["", "chip0", "01:00", "01:20.0", "1:2:3:4.0"] {
        auk(&["show", address]).expect_error(2, &["is not a PCI address", "0000:41:00.0"]);
    }
}

#[test]
fn a_file_with_nonsense_is_a_note_and_exit_code_1_and_the_rest_is_shown() {
    let host = SimHost::start(1, 0);
    let file = host.root.join("sys/bus/pci/devices/0000:01:00.0/numa_node");
    std::fs::write(file, "left\u{1b}[31m\n").unwrap();
    let outcome = host.auk(&["list"]).expect_code(1);
    assert!(outcome.stdout.contains("Running"), "{outcome:?}");
    assert!(
        outcome.stderr.contains("note: 0000:01:00.0") && outcome.stderr.contains("left"),
        "{outcome:?}"
    );
    assert!(!outcome.stderr.contains('\u{1b}'), "{outcome:?}");
    let chip = host
        .auk(&["show", "01:00.0", "--json"])
        .expect_code(1)
        .json();
    assert_eq!(chip["numa_node"], json!(null));
    assert_eq!(chip["problems"].as_array().unwrap().len(), 1);
}

#[test]
fn config_space_of_all_ones_is_a_chip_that_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let chip = directory.path().join("sys/bus/pci/devices/0000:01:00.0");
    std::fs::create_dir_all(&chip).unwrap();
    for (file, text) in [
        ("vendor", "0x1ae5"),
        ("device", "0xa100"),
        ("class", "0x120000"),
    ] {
        std::fs::write(chip.join(file), text).unwrap();
    }
    std::fs::write(chip.join("config"), [0xFF; 4096]).unwrap();
    let outcome = auk_at(directory.path(), &["list"]).expect_code(1);
    assert!(outcome.stdout.contains("unknown"), "{outcome:?}");
    assert!(outcome.stderr.contains("all ones"), "{outcome:?}");
}

#[test]
fn twenty_columns_are_enough() {
    let host = SimHost::start(1, 1);
    for args in [
        vec!["list"],
        vec!["show", "01:00.0"],
        vec!["show", "01:00.0", "--open"],
    ] {
        for columns in ["20", "1", "80"] {
            let outcome = run(command(&args)
                .arg("--root")
                .arg(&host.root)
                .env("COLUMNS", columns));
            let text = outcome.expect_code(0).stdout;
            assert!(text.contains("0000:01:00.0"), "{text}");
            if columns == "20" {
                // Headings and names are never broken; values are.
                let values = text.lines().filter(|line| line.starts_with("    "));
                assert!(
                    values.clone().all(|line| line.chars().count() <= 20),
                    "{text}"
                );
                assert!(values.count() > 0, "{text}");
            }
        }
    }
}

#[test]
fn a_link_that_trained_down_shows_what_it_could_be() {
    let host = SimHost::start(1, 0);
    host.auk(&[
        "sim",
        "inject",
        "link-width",
        "0000:01:00.0",
        "--lanes",
        "4",
    ])
    .expect_code(0);
    let chip = eventually("a narrow link", || {
        let chip = host.auk(&["show", "01:00.0", "--json"]).json();
        (chip["link"]["current_width"] == 4).then_some(chip)
    });
    assert_eq!(chip["link"]["degraded"], true);
    assert!(host.auk(&["list"]).stdout.contains("x4 of 32.0 GT/s x8"));
}

#[test]
fn a_group_is_shown_member_by_member() {
    let tree = Tree::new();
    tree.function("0000:01:00.0", "0x120000", "vfio-pci", 7);
    tree.function("0000:01:00.1", "0x040300", "snd_hda_intel", 7);
    let chip = auk_at(tree.root(), &["show", "01:00.0", "--json"]).json();
    assert_eq!(chip["group"]["viable"], false);
    assert_eq!(
        chip["group"]["members"][1],
        json!({"address": "0000:01:00.1", "driver": "snd_hda_intel", "bridge": false, "viable": false})
    );
    let text = auk_at(tree.root(), &["show", "01:00.0"]).stdout;
    for part in [
        "7, not viable",
        "Members of IOMMU group 7",
        "snd_hda_intel, which",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(
        auk_at(tree.root(), &["list"])
            .stdout
            .contains("7 not viable")
    );
}

#[test]
fn a_chip_without_an_iommu_and_the_kernels_taint_are_shown() {
    let tree = Tree::new();
    tree.function("0000:01:00.0", "0x120000", "vfio-pci", 0);
    tree.write("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
    tree.write("proc/sys/kernel/tainted", "64\n");
    let text = auk_at(tree.root(), &["show", "01:00.0"]).stdout;
    for part in ["NO IOMMU", "tainted by a user"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(auk_at(tree.root(), &["list"]).stdout.contains("0 no IOMMU"));
}

#[test]
fn a_process_that_has_a_chip_open_is_its_owner() {
    let tree = Tree::new();
    tree.function("0000:01:00.0", "0x120000", "vfio-pci", 7);
    tree.has_open("/dev/vfio/7");
    let chip = auk_at(tree.root(), &["show", "01:00.0", "--json"]).json();
    assert_eq!(
        chip["open_in"],
        json!([{"pid": 4711, "comm": "train", "node": "/dev/vfio/7"}])
    );
    let text = auk_at(tree.root(), &["list"]).stdout;
    assert!(text.contains("process 4711 (train)"), "{text}");
}
