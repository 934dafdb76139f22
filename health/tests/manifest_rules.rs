//! What the manifest wants, and what is held against a component that is otherwise.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::path::Path;

use auk_asic::firmware::FirmwareVersion;
use auk_health::facts::{Kind, Link, LinkRate, Presence};
use auk_health::verdict::{Action, Admit, HealthState};
use auk_health::{Config, Settings};
use support::{BDF, Bench, GEN5_X8};

fn settings(manifest: &str) -> Settings {
    Config::from_text(Path::new("agent.toml"), manifest)
        .unwrap()
        .settings
}

fn bench(manifest: &str) -> Bench {
    Bench::new(Kind::Accelerator, settings(manifest))
}

/// Looks often enough for any rule here.
fn settled(mut bench: Bench) -> Bench {
    bench.looks(6);
    bench
}

#[test]
fn without_a_manifest_nothing_is_held_against_anybody() {
    let mut bench = Bench::accelerator();
    bench.facts.driver = Some(Ok(None));
    bench.facts.iommu_group = Some(Ok(None));
    bench.facts.numa_node = Some(Ok(None));
    let bench = settled(bench);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(bench.status().admission.answer, Admit::Yes);
    for check in [
        "identity",
        "driver",
        "iommu_group",
        "numa_node",
        "firmware_version",
    ] {
        let verdict = bench.verdict(check);
        assert_eq!(verdict.state, HealthState::Unobservable, "{check}");
        assert!(!verdict.counts, "{check}");
    }
}

#[test]
fn the_card_that_the_manifest_names_is_healthy_in_whichever_case_its_serial_number_is_written() {
    let mut bench = bench("[manifest.accelerator.left]\nslot = '3'\nserial = 'A1'");
    bench.slot = Some("3".to_owned());
    let bench = settled(bench);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(bench.verdict("identity").reason, "left in the manifest");
}

#[test]
fn another_card_in_its_place_is_told_with_both_serial_numbers() {
    let bench = settled(bench(&format!(
        "[manifest.accelerator.left]\naddress = '{BDF}'\nserial = 'b2'"
    )));
    let verdict = bench.verdict("identity");
    assert_eq!(verdict.state, HealthState::Degraded);
    let evidence = &verdict.evidence[0];
    assert_eq!((&*evidence.found, &*evidence.limit), ("a1", "b2"));
}

#[test]
fn a_card_in_another_slot_than_its_own_is_told() {
    let mut bench = bench("[manifest.accelerator.left]\nslot = '3'\nserial = 'a1'");
    bench.slot = Some("4".to_owned());
    let bench = settled(bench);
    assert_eq!(
        bench.verdict("identity").reason,
        "slot 4, and left in the manifest has 3"
    );
}

#[test]
fn a_serial_number_that_cannot_be_read_is_not_the_right_one() {
    let mut bench = bench(&format!(
        "[manifest.accelerator.left]\naddress = '{BDF}'\nserial = 'a1'"
    ));
    bench.serial = None;
    let bench = settled(bench);
    assert_eq!(bench.state(), HealthState::Unobservable);
    assert_eq!(bench.verdict("identity").state, HealthState::Unobservable);
}

#[test]
fn what_is_expected_and_never_answers_is_unhealthy_after_three_looks() {
    let mut bench = bench(&format!("[manifest.accelerator.left]\naddress = '{BDF}'"));
    bench.facts.presence = Some(Ok(Presence::AllOnes));
    bench.looks(2);
    assert_eq!(bench.verdict("presence").state, HealthState::Unobservable);
    bench.look();
    let verdict = bench.verdict("presence");
    assert_eq!(verdict.state, HealthState::Unhealthy);
    assert!(verdict.reason.starts_with("left in the manifest"));
}

#[test]
fn an_entry_that_no_listed_component_can_be_is_missing() {
    let manifest = "[manifest.accelerator.by_serial]\nserial = 'b2'\n[manifest.accelerator.by_slot]\nslot = '7'\n\
                    [manifest.accelerator.by_address]\naddress = '0000:09:00.0'\n\
                    [manifest.accelerator.here]\nserial = 'A1'";
    let mut bench = bench(manifest);
    bench.slot = Some("3".to_owned());
    bench.look();
    let missing = bench.engine.missing(&[(Kind::Accelerator, BDF)]);
    let names: Vec<&str> = missing.iter().map(|missing| &*missing.name).collect();
    assert_eq!(names, ["0000:09:00.0", "by_serial", "by_slot"]);
    for _ in 0..3 {
        bench.now.uptime += std::time::Duration::from_secs(1);
        for missing in &missing {
            bench.engine.observe(missing.sample(bench.now));
        }
    }
    let components = bench.engine.components(bench.now);
    let lost = components
        .iter()
        .find(|one| one.bdf == "by_serial")
        .unwrap();
    assert_eq!(lost.state, HealthState::Unhealthy);
    assert_eq!(lost.admission.answer, Admit::No);
    let evidence = &lost.verdict("presence").unwrap().evidence[0];
    assert_eq!(evidence.source, "manifest, by_serial: serial number b2");
}

#[test]
fn a_component_that_cannot_be_told_from_an_entry_may_be_it() {
    let mut bench = bench(
        "[manifest.accelerator.by_serial]\nserial = 'b2'\n[manifest.accelerator.by_slot]\nslot = '7'\n\
         [manifest.nic.port]\nmac = '02:a1:00:00:00:00'",
    );
    bench.serial = None;
    bench.look();
    let listed = [(Kind::Accelerator, BDF), (Kind::Nic, "0000:02:00.0")];
    assert_eq!(bench.engine.missing(&listed), []);
    // Listed, and not looked at yet.
    let fresh = auk_health::Engine::new(settings("[manifest.accelerator.a]\nserial = 'b2'"));
    assert_eq!(fresh.missing(&[(Kind::Accelerator, BDF)]), []);
    assert_eq!(fresh.missing(&[]).len(), 1);
}

#[test]
fn a_link_that_is_as_good_as_its_ends_and_worse_than_the_manifest_wants_is_degraded() {
    let gen5_x4 = LinkRate {
        width: 4,
        ..GEN5_X8
    };
    let slow = Link {
        current: Some(gen5_x4),
        max: Some(gen5_x4),
    };
    let mut bench = bench("[manifest.every_accelerator]\nlink_width = 8\nlink_gigatransfers = 32");
    bench.facts.link = Some(Ok(slow));
    bench.facts.link_above = Some(Ok(Some(slow)));
    let bench = settled(bench);
    let verdict = bench.verdict("link");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert!(
        verdict
            .reason
            .ends_with("and the manifest wants x8 at 32.0 GT/s"),
        "{}",
        verdict.reason
    );
}

#[test]
fn a_chip_that_has_not_the_driver_of_the_manifest_takes_no_new_job() {
    let mut bench = settled(bench("manifest.every_accelerator.driver = 'vfio-pci'"));
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.facts.driver = Some(Ok(None));
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.looks(1);
    assert_eq!(bench.state(), HealthState::Degraded);
    let status = bench.status();
    assert_eq!(status.admission.answer, Admit::Hold);
    assert_eq!(bench.verdict("driver").evidence[0].found, "none");
    bench.facts.driver = Some(Ok(Some("vfio-pci".to_owned())));
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn an_iommu_that_the_manifest_wants_and_the_host_does_not_use_is_told() {
    let mut bench = bench("manifest.every_accelerator.iommu = true");
    bench.facts.iommu_group = Some(Ok(None));
    let bench = settled(bench);
    assert_eq!(bench.state(), HealthState::Degraded);
    assert_eq!(bench.verdict("iommu_group").action, Action::Reboot);
}

#[test]
fn a_numa_node_other_than_the_manifests_is_told_and_an_entry_stands_above_all() {
    let manifest = format!(
        "manifest.every_accelerator.numa_node = 1\n[manifest.accelerator.left]\naddress = '{BDF}'\nnuma_node = 0"
    );
    assert_eq!(settled(bench(&manifest)).state(), HealthState::Healthy);
    let bench = settled(bench("manifest.every_accelerator.numa_node = 1"));
    assert_eq!(
        bench.verdict("numa_node").reason,
        "NUMA node 0, and the manifest has 1"
    );
}

#[test]
fn firmware_outside_of_the_manifests_range_is_degraded_until_it_is_replaced() {
    let mut bench =
        bench("[manifest.every_accelerator]\nfirmware_from = '1.4.0'\nfirmware_to = '1.6.9'");
    for (version, state) in [
        (FirmwareVersion::of(1, 3, 9), HealthState::Degraded),
        (FirmwareVersion::of(1, 4, 0), HealthState::Healthy),
        (FirmwareVersion::of(1, 7, 0), HealthState::Degraded),
        (FirmwareVersion::of(1, 6, 9), HealthState::Healthy),
    ] {
        bench.vitals().firmware = Some(version);
        bench.looks(2);
        assert_eq!(bench.state(), state, "{version}");
    }
    bench.vitals().firmware = None;
    bench.look();
    assert!(!bench.verdict("firmware_version").counts);
}
