//! `auk bind` and `auk unbind`: on a simulated host, whose plain files nobody acts on, and on trees made by hand. What a
//! kernel does with them is tested in `tests/vm`.

mod cli_support;

use auk_driver::pci::Host;
use auk_driver::{Device, OpenOptions};
use cli_support::tree::Tree;
use cli_support::{SimHost, auk, auk_at};

#[test]
fn a_simulated_chip_has_vfio_pci_already() {
    let host = SimHost::start(1, 0);
    let outcome = host.auk(&["bind", "01:00.0"]).expect_code(0);
    assert_eq!(outcome.stdout, "0000:01:00.0: vfio-pci, as before\n");
    let done = host
        .auk(&["bind", "01:00.0", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(done["devices"][0]["now"], "vfio-pci");
    assert_eq!(done["devices"][0]["error"], serde_json::json!(null));
}

#[test]
fn plain_files_move_no_device_and_that_is_told() {
    let tree = Tree::new();
    tree.function("0000:02:00.0", "0x010802", "nvme", 7);
    auk_at(tree.root(), &["bind", "02:00.0"]).expect_error(3, &["plain files", "as it was before"]);
    assert!(!tree.root().join("run/auk/bind/0000:02:00.0").exists());
}

#[test]
fn a_chip_that_a_job_holds_is_refused_with_the_job() {
    let host = SimHost::start(1, 0);
    let address = "0000:01:00.0".parse().unwrap();
    let _device = Device::open(&Host::at(&host.root), address, &OpenOptions::default()).unwrap();
    let pid = std::process::id().to_string();
    for verb in ["bind", "unbind"] {
        host.auk(&[verb, "01:00.0"])
            .expect_error(3, &["in use by", &pid, "hint:", "--force"]);
    }
}

#[test]
fn a_function_that_a_process_has_open_is_refused_with_the_process() {
    let tree = Tree::new();
    tree.function("0000:02:00.0", "0x010802", "vfio-pci", 7);
    tree.has_open("/dev/vfio/7");
    auk_at(tree.root(), &["unbind", "02:00.0"])
        .expect_error(3, &["process 4711 (train) has /dev/vfio/7 open", "--force"]);
}

#[test]
fn a_bridge_is_refused_also_when_forced() {
    let tree = Tree::new();
    tree.function("0000:02:00.0", "0x060400", "pcieport", 7);
    for args in [
        vec!["bind", "02:00.0"],
        vec!["bind", "02:00.0", "--force"],
        vec!["unbind", "02:00.0", "--force"],
    ] {
        auk_at(tree.root(), &args).expect_error(3, &["a bridge is never given away"]);
    }
}

#[test]
fn a_driver_that_is_not_loaded_is_told_with_how_to_load_it() {
    let tree = Tree::new();
    tree.function("0000:02:00.0", "0x010802", "nvme", 7);
    auk_at(
        tree.root(),
        &["bind", "02:00.0", "--driver", "mlx5-vfio-pci"],
    )
    .expect_error(3, &["no driver mlx5-vfio-pci", "modprobe mlx5-vfio-pci"]);
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let host = SimHost::start(2, 0);
    let outcome = host
        .auk(&["bind", "01:00.0", "07:00.0", "02:00.0", "--json"])
        .expect_code(3);
    assert!(outcome.stderr.contains("0000:07:00.0"), "{outcome:?}");
    let done = outcome.json();
    let errors: Vec<bool> = done["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["error"].is_string())
        .collect();
    assert_eq!(errors, [false, true, false]);
}

#[test]
fn what_is_no_address_ends_in_2() {
    for args in [
        vec!["bind"],
        vec!["bind", "chip0"],
        vec!["unbind", "1:2:3:4.0"],
    ] {
        auk(&args).expect_code(2);
    }
}
