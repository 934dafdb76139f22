//! RDMA ports in a tree built by hand: what is read of them, and what of nonsense.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::fs;
use std::os::unix::fs::symlink;

use auk_health::facts::{Class, Kind, LinkLayer, RdmaPort, RdmaState};
use auk_health::probe::ProbeError;
use auk_health::probe::discover::discover;
use auk_health::probe::rdma::{parse_rate, parse_state};
use auk_health::probe::target::Target;
use proptest::prelude::*;
use tree::{NIC, Tree};

fn read(tree: &Tree) -> Result<Vec<RdmaPort>, ProbeError> {
    let found = discover(tree.root()).unwrap();
    let found = found.into_iter().find(|found| found.bdf == NIC).unwrap();
    let facts = Target::new(tree.root(), found).look(Class::Rare).facts;
    facts.rdma.unwrap()
}

#[test]
fn a_port_is_read_with_the_counters_that_its_driver_has() {
    let tree = Tree::new();
    let _ = tree.rdma(NIC, "mlx5_0");
    let ports = read(&tree).unwrap();
    let [port] = &ports[..] else {
        panic!("{ports:?}");
    };
    assert_eq!(port.name(), "mlx5_0/1");
    assert_eq!(port.state, RdmaState::Active);
    assert_eq!(port.phys_state, "5: LinkUp");
    assert_eq!(port.link_layer, LinkLayer::Ethernet);
    assert_eq!((port.rate_mbit, port.gids), (Some(400_000), 1));
    assert_eq!(port.interface, None);
    let counters: Vec<_> = port.counters.iter().collect();
    let named = |name: &str| name.to_owned();
    assert_eq!(
        counters,
        [
            (&named("counters/symbol_error"), &3),
            (&named("hw_counters/out_of_sequence"), &12)
        ],
        "one that says N/A is not counted"
    );
}

#[test]
fn a_port_names_the_interface_of_its_first_address() {
    let tree = Tree::new();
    let names = tree.rdma(NIC, "mlx5_0").join("gid_attrs/ndevs");
    fs::create_dir_all(&names).unwrap();
    fs::write(names.join("0"), "eth0\n").unwrap();
    let ports = read(&tree).unwrap();
    assert_eq!(ports[0].interface.as_deref(), Some("eth0"));
}

#[test]
fn a_function_without_an_rdma_device_has_no_ports() {
    assert_eq!(read(&Tree::new()), Ok(Vec::new()));
}

#[test]
fn a_device_of_software_is_found_by_the_interface_that_it_was_made_over() {
    let tree = Tree::new();
    let port = tree.rdma(NIC, "rxe0");
    let device = port.ancestors().nth(2).unwrap();
    let virtual_ = tree.root().join("sys/devices/virtual/infiniband");
    fs::create_dir_all(&virtual_).unwrap();
    fs::rename(device, virtual_.join("rxe0")).unwrap();
    fs::write(virtual_.join("rxe0/parent"), "eth0\n").unwrap();
    let class = tree.root().join("sys/class/infiniband");
    fs::create_dir_all(&class).unwrap();
    symlink("../../devices/virtual/infiniband/rxe0", class.join("rxe0")).unwrap();
    assert_eq!(read(&tree).unwrap()[0].name(), "rxe0/1");
    fs::write(virtual_.join("rxe0/parent"), "eth1\n").unwrap();
    assert_eq!(read(&tree), Ok(Vec::new()));
}

#[test]
fn a_device_of_infiniband_without_an_interface_is_found_and_read() {
    const HCA: &str = "0000:42:00.0";
    let tree = Tree::new();
    let _ = tree.infiniband(HCA, "0000:00:11.0", "mlx5_1");
    let found = discover(tree.root()).unwrap();
    let found = found.into_iter().find(|found| found.bdf == HCA).unwrap();
    assert_eq!((found.kind, &found.interface), (Kind::Nic, &None));
    let facts = Target::new(tree.root(), found).look(Class::Rare).facts;
    assert_eq!(facts.port, Some(Ok(None)));
    let ports = facts.rdma.unwrap().unwrap();
    assert_eq!(ports[0].name(), "mlx5_1/1");
    assert_eq!(ports[0].link_layer, LinkLayer::InfiniBand);
}

#[test]
fn a_port_whose_state_is_nonsense_is_an_error_with_the_file() {
    let tree = Tree::new();
    let port = tree.rdma(NIC, "mlx5_0");
    fs::write(port.join("state"), "ACTIVE\n").unwrap();
    let error = read(&tree).unwrap_err();
    assert!(matches!(error, ProbeError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains("ports/1/state"), "{error}");
}

#[test]
fn rates_and_states_are_as_the_kernel_writes_them() {
    assert_eq!(parse_rate("2.5 Gb/sec (1X SDR)"), Some(2500));
    assert_eq!(parse_rate("200 Gb/sec (4X HDR)"), Some(200_000));
    for none in [
        "",
        "0 Gb/sec",
        "Gb/sec",
        "1.25 Gb/sec",
        "99999999999999999999 Gb/sec",
    ] {
        assert_eq!(parse_rate(none), None, "{none:?}");
    }
    assert_eq!(parse_state("5: ACTIVE_DEFER"), Some(RdmaState::ActiveDefer));
    assert_eq!(parse_state("6: LATER"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_files_hold_there_are_ports_or_an_error(
        file in prop::sample::select(vec!["state", "phys_state", "rate", "link_layer", "gids/0", "counters/symbol_error"]),
        bytes: Vec<u8>,
    ) {
        let tree = Tree::new();
        let port = tree.rdma(NIC, "mlx5_0");
        fs::write(port.join(file), bytes).unwrap();
        let _ = read(&tree);
    }
}
