//! Readers against a tree built by hand: what they find, and what they make of nonsense.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use auk_asic::State;
use auk_asic::config::{SIZE, capability};
use auk_asic::vitals::{BODY, VitalSigns};
use auk_health::facts::{Class, Kind, PowerState, Presence};
use auk_health::probe::config::ConfigSpace;
use auk_health::probe::directory::Directory;
use auk_health::probe::discover::{discover, is_bdf};
use auk_health::probe::link::{parse_speed, parse_width};
use auk_health::probe::target::{Sample, Target};
use auk_health::probe::vitals::{VitalsProbe, serial_number};
use auk_health::probe::{ProbeError, aer, port};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tree::{CHIP, NIC, Tree, VITALS_AT, signs};
use zerocopy::IntoBytes;

fn config(tree: &Tree) -> ConfigSpace {
    ConfigSpace::open(&tree.device(CHIP)).unwrap()
}

fn directory(tree: &Tree, bdf: &str) -> Directory {
    Directory::open(&tree.device(bdf)).unwrap()
}

fn vitals_error(tree: &Tree) -> ProbeError {
    VitalsProbe::default().read(&config(tree)).unwrap_err()
}

fn look(tree: &Tree, bdf: &str) -> Sample {
    let found = discover(tree.root())
        .unwrap()
        .into_iter()
        .find(|found| found.bdf == bdf);
    Target::new(tree.root(), found.unwrap()).look(Class::Slow)
}

#[test]
fn a_host_has_the_accelerators_and_nics_that_its_tree_lists() {
    let tree = Tree::new();
    let found = discover(tree.root()).unwrap();
    let kinds: Vec<_> = found
        .iter()
        .map(|found| (found.bdf.as_str(), found.kind))
        .collect();
    assert_eq!(kinds, [(CHIP, Kind::Accelerator), (NIC, Kind::Nic)]);
    assert_eq!(found[1].interface.as_deref(), Some("eth0"));
}

#[test]
fn a_root_without_a_list_of_devices_is_an_error_and_one_with_an_empty_list_is_not() {
    let root = tempfile::tempdir().unwrap();
    let error = discover(root.path()).unwrap_err();
    assert!(matches!(error, ProbeError::NotFound { .. }), "{error}");
    fs::create_dir_all(root.path().join("sys/bus/pci/devices")).unwrap();
    assert_eq!(discover(root.path()), Ok(Vec::new()));
}

#[test]
fn a_nic_whose_interface_is_in_another_namespace_is_listed_and_one_that_vfio_has_is_not() {
    let tree = Tree::new();
    fs::remove_file(tree.root().join("sys/class/net/eth0")).unwrap();
    fs::remove_dir_all(tree.device(NIC).join("net/eth0")).unwrap();
    let found = discover(tree.root()).unwrap();
    assert_eq!((found[1].kind, &found[1].interface), (Kind::Nic, &None));
    assert_eq!(look(&tree, NIC).facts.port, Some(Ok(None)));
    fs::remove_dir(tree.device(NIC).join("net")).unwrap();
    assert_eq!(discover(tree.root()).unwrap().len(), 1);
}

#[test]
fn a_virtual_function_is_left_to_its_physical_one() {
    let tree = Tree::new();
    symlink("../0000:41:00.7", tree.device(NIC).join("physfn")).unwrap();
    assert_eq!(discover(tree.root()).unwrap().len(), 1);
}

#[test]
fn the_vital_signs_are_found_by_walking_the_list_past_other_capabilities() {
    let tree = Tree::new();
    let mut probe = VitalsProbe::default();
    let vitals = probe.read(&config(&tree)).unwrap();
    assert_eq!(probe.offset(), Some(VITALS_AT));
    assert_eq!(vitals.state, State::Running);
    assert_eq!((vitals.heartbeat, vitals.power_limit), (77, 90_000));
}

#[test]
fn a_look_at_a_known_chip_reads_sixteen_dwords_with_the_vendor_first() {
    let tree = Tree::new();
    let mut probe = VitalsProbe::default();
    probe.read(&config(&tree)).unwrap();
    let config = config(&tree);
    config.answer().unwrap();
    probe.read(&config).unwrap();
    assert_eq!(config.dwords_read(), 16);
}

#[test]
fn what_changes_with_the_firmware_is_read_again_when_the_firmware_starts_again() {
    let tree = Tree::new();
    let mut probe = VitalsProbe::default();
    probe.read(&config(&tree)).unwrap();
    tree.set_vitals(&VitalSigns {
        generation: 2,
        power_limit: 70_000,
        ..signs()
    });
    assert_eq!(probe.read(&config(&tree)).unwrap().power_limit, 70_000);
}

#[test]
fn a_block_that_is_being_changed_is_tried_three_times_and_then_unobservable() {
    let tree = Tree::new();
    tree.set_vitals(&VitalSigns {
        sequence: 5,
        ..signs()
    });
    assert!(matches!(
        vitals_error(&tree),
        ProbeError::Unsettled { tries: 3, .. }
    ));
}

#[test]
fn a_state_that_the_model_does_not_have_is_an_error() {
    let tree = Tree::new();
    tree.set_vitals(&VitalSigns {
        state: 99,
        ..signs()
    });
    let error = vitals_error(&tree);
    assert!(matches!(error, ProbeError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains("State 0x63"), "{error}");
}

#[test]
fn a_chip_that_reads_as_all_ones_is_asked_for_one_dword_only() {
    let tree = Tree::new();
    tree.poke(CHIP, 0, &[0xFF; SIZE]);
    let config = config(&tree);
    assert!(matches!(config.answer(), Err(ProbeError::AllOnes { .. })));
    assert_eq!(config.dwords_read(), 1);
    let sample = look(&tree, CHIP);
    assert_eq!(sample.facts.presence, Some(Ok(Presence::AllOnes)));
    assert!(sample.facts.vitals.unwrap().is_err());
}

#[test]
fn a_fast_look_costs_seventeen_dwords_and_sees_that_the_link_has_trained_to_less() {
    let tree = Tree::new();
    let found = discover(tree.root()).unwrap().remove(0);
    let mut target = Target::new(tree.root(), found);
    target.look(Class::Slow);
    let still = target.look(Class::Fast);
    assert_eq!((still.facts.link, target.dwords()), (None, 17));
    tree.train(4);
    let link = target.look(Class::Fast).facts.link.unwrap().unwrap();
    assert_eq!(link.current.unwrap().width, 4);
    assert_eq!(target.look(Class::Fast).facts.link, None);
}

#[test]
fn a_capability_list_of_the_header_that_runs_in_a_circle_is_no_news_of_the_link() {
    let tree = Tree::new();
    tree.poke(CHIP, 0x48, &[0x01, 0x48]);
    let found = discover(tree.root()).unwrap().remove(0);
    let mut target = Target::new(tree.root(), found);
    assert!(target.look(Class::Slow).facts.vitals.unwrap().is_ok());
    tree.train(4);
    assert_eq!(target.look(Class::Fast).facts.link, None);
    assert!(matches!(
        config(&tree).find(capability::PCIE),
        Err(ProbeError::Malformed { .. })
    ));
}

#[test]
fn a_link_lost_in_the_middle_of_a_look_gives_no_vital_signs() {
    let tree = Tree::new();
    let mut probe = VitalsProbe::default();
    probe.read(&config(&tree)).unwrap();
    tree.poke(CHIP, VITALS_AT + BODY, &[0xFF; VitalSigns::SIZE]);
    assert!(matches!(
        probe.read(&config(&tree)),
        Err(ProbeError::AllOnes { .. })
    ));
}

#[test]
fn config_space_of_64_bytes_names_the_privilege_that_lacks() {
    let tree = Tree::new();
    fs::File::options()
        .write(true)
        .open(tree.device(CHIP).join("config"))
        .unwrap()
        .set_len(64)
        .unwrap();
    let error = vitals_error(&tree);
    assert!(
        matches!(error, ProbeError::Short { found: 256, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
    assert_eq!(
        look(&tree, CHIP).facts.presence,
        Some(Ok(Presence::Present))
    );
}

#[test]
fn a_capability_list_that_runs_in_a_circle_ends_in_an_error() {
    let tree = Tree::new();
    tree.poke(
        CHIP,
        0x100,
        &(0x0003_u32 | 1 << 16 | 0x100 << 20).to_le_bytes(),
    );
    assert!(matches!(vitals_error(&tree), ProbeError::Malformed { .. }));
}

#[test]
fn a_chip_without_the_capability_has_no_vital_signs() {
    let tree = Tree::new();
    tree.poke(CHIP, 0x100, &[0; 4]);
    assert!(matches!(vitals_error(&tree), ProbeError::NoVitals { .. }));
}

#[test]
fn a_component_is_known_by_its_serial_number_and_by_the_port_above() {
    let tree = Tree::new();
    let serial = serial_number(&config(&tree)).unwrap();
    assert_eq!(serial.as_deref(), Some("a1-00-00-00-00-00-00-01"));
    let chip = look(&tree, CHIP).identity;
    assert_eq!(chip.serial, serial);
    assert_eq!(chip.upstream.as_deref(), Some("0000:00:01.0"));
    let nic = look(&tree, NIC).identity;
    assert_eq!(nic.serial.as_deref(), Some("02:a1:00:00:00:00"));
}

#[test]
fn the_slot_is_the_one_that_the_firmware_named() {
    let tree = Tree::new();
    let slot = tree.root().join("sys/bus/pci/slots/7");
    fs::create_dir_all(&slot).unwrap();
    fs::write(slot.join("address"), "0000:01:00\n").unwrap();
    assert_eq!(look(&tree, CHIP).identity.slot.as_deref(), Some("7"));
}

#[test]
fn a_function_that_was_removed_is_absent() {
    let tree = Tree::new();
    let found = discover(tree.root()).unwrap().remove(0);
    let mut target = Target::new(tree.root(), found);
    assert_eq!(
        target.look(Class::Slow).facts.presence,
        Some(Ok(Presence::Present))
    );
    tree.remove(CHIP);
    assert_eq!(
        target.look(Class::Slow).facts.presence,
        Some(Ok(Presence::Absent))
    );
}

#[test]
fn a_fast_card_in_a_slow_slot_is_measured_by_the_slot() {
    let tree = Tree::new();
    let port = fs::canonicalize(tree.device(CHIP))
        .unwrap()
        .parent()
        .unwrap()
        .to_owned();
    fs::write(port.join("max_link_speed"), "16.0 GT/s PCIe\n").unwrap();
    fs::write(port.join("max_link_width"), "4\n").unwrap();
    let max = || {
        let chip = discover(tree.root()).unwrap().remove(0);
        let facts = Target::new(tree.root(), chip).look(Class::Slow).facts;
        let max = facts.link.unwrap().unwrap().max.unwrap();
        (max.megatransfers, max.width)
    };
    assert_eq!(
        max(),
        (16_000, 4),
        "also where the port does not say how it is now"
    );
    for (file, text) in [
        ("current_link_speed", "16.0 GT/s PCIe\n"),
        ("current_link_width", "4\n"),
    ] {
        fs::write(port.join(file), text).unwrap();
    }
    assert_eq!(max(), (16_000, 4));
    fs::write(port.join("max_link_width"), "16\n").unwrap();
    assert_eq!(max(), (16_000, 8));
}

#[test]
fn a_power_state_is_read_anew_in_each_look_however_its_file_changes() {
    let tree = Tree::new();
    let chip = discover(tree.root()).unwrap().remove(0);
    let mut target = Target::new(tree.root(), chip);
    let file = tree.device(CHIP).join("power_state");
    let mut state = || target.look(Class::Fast).facts.power_state.unwrap();
    assert_eq!(state(), Ok(PowerState::D0));
    fs::write(&file, "D3hot\n").unwrap();
    assert_eq!(state(), Ok(PowerState::Asleep));
    let other = tree.device(CHIP).join("next");
    fs::write(&other, "D0\n").unwrap();
    fs::rename(other, &file).unwrap();
    assert_eq!(state(), Ok(PowerState::D0));
    fs::remove_file(&file).unwrap();
    assert!(state().is_err_and(|error| error.is_not_found()));
    fs::write(&file, "unknown\n").unwrap();
    assert_eq!(state(), Ok(PowerState::Unknown));
}

#[test]
fn speeds_are_as_the_kernel_writes_them() {
    assert_eq!(parse_speed("2.5 GT/s PCIe"), Some(Some(2500)));
    assert_eq!(parse_speed("64.0 GT/s PCIe"), Some(Some(64_000)));
    assert_eq!(parse_speed("8 GT/s"), Some(Some(8000)));
    assert_eq!(parse_speed("Unknown"), Some(None));
    assert_eq!(parse_speed("fast"), None);
    assert_eq!(parse_speed("-1.0 GT/s"), None);
    assert_eq!(parse_width("255"), Some(None));
    assert_eq!(parse_width("33"), None);
}

#[test]
fn a_port_is_down_by_hand_when_its_flags_say_so() {
    let tree = Tree::new();
    fs::write(tree.interface().join("flags"), "0x1002\n").unwrap();
    assert_eq!(
        port::read(&tree.interface()).unwrap().unwrap().admin_up,
        Some(false)
    );
}

#[test]
fn an_interface_that_moved_away_is_no_error() {
    let tree = Tree::new();
    let interface = tree.root().join("sys/class/net/eth1");
    assert_eq!(port::read(&interface), Ok(None));
}

#[test]
fn a_driver_that_says_minus_one_knows_no_speed() {
    let tree = Tree::new();
    fs::write(tree.interface().join("speed"), "-1\n").unwrap();
    assert_eq!(
        port::read(&tree.interface()).unwrap().unwrap().speed_mbit,
        None
    );
}

#[test]
fn a_function_without_aer_counters_has_none_and_half_of_them_are_an_error() {
    let tree = Tree::new();
    fs::remove_file(tree.device(CHIP).join("aer_dev_fatal")).unwrap();
    assert!(aer::read(&directory(&tree, CHIP)).is_err());
    fs::remove_file(tree.device(CHIP).join("aer_dev_correctable")).unwrap();
    assert_eq!(aer::read(&directory(&tree, CHIP)), Ok(None));
}

#[test]
fn a_file_without_end_is_refused() {
    let tree = Tree::new();
    fs::write(tree.interface().join("operstate"), "u".repeat(1 << 20)).unwrap();
    assert!(matches!(
        port::read(&tree.interface()),
        Err(ProbeError::Malformed { .. })
    ));
}

/// Runs a property on one tree: to build one for each case takes longer than all the rest. A
/// failure prints the smallest input that shows it.
fn on_one_tree<S: Strategy>(inputs: &S, property: impl Fn(&Tree, S::Value)) {
    let tree = Tree::new();
    let run = TestRunner::default().run(inputs, |input| {
        property(&tree, input);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn any_config_space_is_vital_signs_or_an_error() {
    let bytes = proptest::collection::vec(any::<u8>(), 0..SIZE);
    on_one_tree(&(bytes, 64..=SIZE), |tree, (bytes, end)| {
        let mut config = vec![0; SIZE];
        config[..2].copy_from_slice(&auk_asic::ident::VENDOR.to_le_bytes());
        for (old, new) in config[0x100..].iter_mut().zip(&bytes) {
            *old = *new;
        }
        config.truncate(end);
        fs::write(tree.device(CHIP).join("config"), config).unwrap();
        let _ = look(tree, CHIP);
    });
}

#[test]
fn any_block_is_vital_signs_or_an_error() {
    on_one_tree(&any::<[u8; VitalSigns::SIZE]>(), |tree, bytes| {
        tree.poke(CHIP, VITALS_AT + BODY, bytes.as_bytes());
        let _ = VitalsProbe::default().read(&config(tree));
    });
}

/// Every file of text in a tree, below a directory.
fn texts(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        } else if path.is_dir() {
            texts(&path, files);
        } else if path.file_name().is_some_and(|name| name != "config") {
            files.push(path);
        }
    }
}

#[test]
fn any_text_file_is_a_fact_or_an_error() {
    let inputs = (any::<Vec<u8>>(), any::<prop::sample::Index>());
    on_one_tree(&inputs, |tree, (contents, which)| {
        let mut files = Vec::new();
        texts(&tree.root().join("sys"), &mut files);
        assert!(files.len() > 30, "{files:?}");
        let path = which.get(&files);
        let before = fs::read(path).unwrap();
        let targets = discover(tree.root()).unwrap();
        fs::write(path, contents).unwrap();
        for found in targets {
            let _ = Target::new(tree.root(), found).look(Class::Slow);
        }
        let _ = discover(tree.root());
        fs::write(path, before).unwrap();
    });
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text: String) {
        let _ = parse_speed(&text);
        let _ = parse_width(&text);
        let _ = aer::parse_total(&text, "TOTAL_ERR_COR");
        let _ = is_bdf(&text);
    }
}
