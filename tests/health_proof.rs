//! What the agent claims to have read on real kernels, held to the recordings of those kernels.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use auk_health::Config;
use auk_health::facts::{Class, FactKind, Facts, Kind, Link, PowerState, Presence, RdmaState};
use auk_health::probe::discover;
use auk_health::probe::target::Target;
use auk_health::proof::{self, KERNELS, Proof, Source};
use auk_vm::recording::{Entry, parse};
use cli_support::auk_at;
use tempfile::TempDir;

const VM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm");
const CHIP: &str = "0000:01:00.0";
const NIC: &str = "0000:02:00.0";

fn recording(kernel: &str, name: &str) -> BTreeMap<String, Entry> {
    let path = format!("{VM}/recordings/{kernel}/{name}.tsv");
    parse(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The bytes of a recorded file; `None` of one that could not be read.
fn bytes(entry: &Entry) -> Option<Vec<u8>> {
    if let Some(digits) = entry.contents.strip_prefix("hex") {
        let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        return Some((0..digits.len()).step_by(2).map(digit).collect());
    }
    entry.text().map(String::into_bytes)
}

/// Makes a directory as it was recorded.
fn play(recorded: &BTreeMap<String, Entry>, at: &Path) {
    fs::create_dir_all(at).unwrap();
    for (name, entry) in recorded {
        let path = at.join(name);
        match entry.kind.as_str() {
            "dir" => fs::create_dir_all(path).unwrap(),
            "link" => symlink(entry.text().unwrap(), path).unwrap(),
            _ => {
                if let Some(bytes) = bytes(entry) {
                    fs::write(path, bytes).unwrap();
                }
            }
        }
    }
}

/// A host of recordings: a chip and a NIC, each behind a port, and an RDMA device of software over the NIC's interface.
fn host(kernel: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let sys = root.path().join("sys");
    fs::create_dir_all(sys.join("bus/pci/devices")).unwrap();
    fs::create_dir_all(sys.join("class/net")).unwrap();
    for (port, bdf, name) in [
        ("0000:00:01.0", CHIP, "chip-vfio"),
        ("0000:00:02.0", NIC, "nic"),
    ] {
        let place = PathBuf::from("devices/pci0000:00").join(port);
        play(&recording(kernel, "root-port"), &sys.join(&place));
        play(&recording(kernel, name), &sys.join(&place).join(bdf));
        let link = |to: &Path| Path::new("../../..").join(to);
        symlink(link(&place), sys.join("bus/pci/devices").join(port)).unwrap();
        symlink(
            link(&place.join(bdf)),
            sys.join("bus/pci/devices").join(bdf),
        )
        .unwrap();
    }
    let interface = format!("../../devices/pci0000:00/0000:00:02.0/{NIC}/net/eth0");
    symlink(interface, sys.join("class/net/eth0")).unwrap();
    let rdma = sys.join("devices/virtual/infiniband/rxe0");
    play(&recording(kernel, "rdma"), &rdma);
    // It was made over another interface of that machine.
    fs::write(rdma.join("parent"), "eth0\n").unwrap();
    fs::create_dir_all(sys.join("class/infiniband")).unwrap();
    let link = sys.join("class/infiniband/rxe0");
    symlink("../../devices/virtual/infiniband/rxe0", link).unwrap();
    root
}

fn look(root: &TempDir, bdf: &str) -> (Kind, Facts) {
    let listed = discover::discover(root.path()).unwrap();
    let found = listed.into_iter().find(|found| found.bdf == bdf);
    let found = found.unwrap_or_else(|| panic!("{bdf} is not listed"));
    (
        found.kind,
        Target::new(root.path(), found).look(Class::Rare).facts,
    )
}

#[test]
fn the_kernels_that_are_claimed_are_those_with_recordings() {
    let mut lines: Vec<String> = fs::read_dir(format!("{VM}/recordings"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    lines.sort();
    assert_eq!(lines, KERNELS);
}

#[test]
fn what_is_claimed_of_the_recordings_is_what_the_probes_read_in_them_no_more_and_no_less() {
    for kernel in KERNELS {
        let root = host(kernel);
        for bdf in [CHIP, NIC] {
            let (kind, facts) = look(&root, bdf);
            for fact in FactKind::read_by(Class::Rare, kind) {
                let read = facts.outcome(fact).unwrap();
                let proof = Source::Fact(fact).proof();
                if matches!(proof, Proof::HostTest(_)) {
                    // No file has it, and a tree of files answers nothing.
                    continue;
                }
                let claimed = proof == Proof::Recordings;
                assert_eq!(read.is_ok(), claimed, "{kernel} {bdf} {fact:?}: {read:?}");
            }
        }
    }
}

#[test]
fn what_the_probes_read_in_the_recordings_is_what_is_written_there() {
    for kernel in KERNELS {
        let root = host(kernel);
        let (_, chip) = look(&root, CHIP);
        assert_eq!(chip.presence, Some(Ok(Presence::Present)));
        assert_eq!(chip.power_state, Some(Ok(PowerState::Asleep)), "{kernel}");
        assert_eq!(chip.driver, Some(Ok(Some("vfio-pci".to_owned()))));
        assert!(matches!(chip.iommu_group, Some(Ok(Some(_)))));
        let both = |link: Link| link.current.is_some() && link.max.is_some();
        assert!(chip.link.unwrap().is_ok_and(both), "{kernel}");
        assert!(
            chip.link_above
                .unwrap()
                .is_ok_and(|link| link.is_some_and(both))
        );
        assert!(chip.aer.unwrap().is_ok_and(|aer| aer.is_some()));
        assert!(chip.aer_above.unwrap().is_ok_and(|aer| aer.is_some()));
        let (_, nic) = look(&root, NIC);
        let port = nic.port.unwrap().unwrap().unwrap();
        assert_eq!(port.admin_up, Some(true));
        assert!(port.carrier_down.is_some() && port.errors.rx_crc.is_some());
        assert!(port.drops.rx.is_some() && port.drops.tx_packets.is_some());
        let rdma = nic.rdma.unwrap().unwrap();
        let [port] = &rdma[..] else {
            panic!("{kernel}: {rdma:?}");
        };
        assert_eq!(
            (port.name().as_str(), port.state),
            ("rxe0/1", RdmaState::Active)
        );
        assert_eq!((port.rate_mbit, port.gids), (Some(2500), 1), "{kernel}");
        assert!(port.counters.contains_key("hw_counters/link_downed"));
    }
}

#[test]
fn what_is_claimed_of_tests_on_kernels_has_such_a_test() {
    let read = |file| fs::read_to_string(format!("{VM}/guest/tests/{file}.rs")).unwrap();
    let tests = read("agent") + &read("agent_log");
    let host = concat!(env!("CARGO_MANIFEST_DIR"), "/health/tests/ethtool.rs");
    let host = fs::read_to_string(host).unwrap();
    let facts = FactKind::ALL.iter().copied().map(Source::Fact);
    for source in facts.chain([Source::Serial, Source::Slot, Source::Lease]) {
        if let Proof::HostTest(name) = source.proof() {
            assert!(
                host.contains(&format!("fn {name}()")),
                "{source}: no test {name}"
            );
        }
        if let Proof::KernelTest(name) = source.proof() {
            assert!(
                tests.contains(&format!("test(\"{name}\""))
                    || tests.contains(&format!("\"{name}\",")),
                "{source}: no test {name}"
            );
        }
    }
}

#[test]
fn a_check_that_rests_on_what_no_kernel_has_shown_fails_the_strict_check() {
    let root = tempfile::tempdir().unwrap();
    let strict = ["agent", "--check", "--strict"];
    auk_at(root.path(), &strict).expect_code(0);
    let file = root.path().join("etc/auk/agent.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let manifest = "[manifest.accelerator.left]\nslot = '3'\n";
    fs::write(&file, manifest).unwrap();
    let said = auk_at(root.path(), &strict).expect_code(1).stdout;
    assert!(
        said.starts_with("check identity reads /sys/bus/pci/slots/*/address, which was never read on a real kernel"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    auk_at(root.path(), &["agent", "--check"]).expect_code(0);
    fs::write(
        &file,
        format!("{manifest}[check.identity]\nshadow = true\n"),
    )
    .unwrap();
    auk_at(root.path(), &strict).expect_code(0);
}

#[test]
fn by_default_all_checks_rest_on_what_real_kernels_have_shown() {
    assert_eq!(proof::unproven(&Config::default()), []);
}
