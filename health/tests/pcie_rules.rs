//! Links and PCIe errors, of a function and of the port above it, judged with time set by hand.

mod support;

use auk_asic::SelfTest;
use auk_health::facts::{Kind, LinkRate};
use auk_health::probe::ProbeError;
use auk_health::verdict::{Admit, HealthState};
use support::{Bench, GEN5_X8};

#[test]
fn one_lone_bad_link_sample_is_nothing_and_three_of_five_are_degraded() {
    let mut bench = Bench::running();
    bench.width(4);
    bench.look();
    bench.width(8);
    bench.looks(10);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.width(4);
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Degraded);
    assert!(
        bench
            .verdict("link")
            .reason
            .contains("x4 at 32.0 GT/s of x8 at 32.0 GT/s")
    );
}

#[test]
fn a_slow_link_is_degraded_like_a_narrow_one() {
    let mut bench = Bench::running();
    let slow = LinkRate {
        megatransfers: 16_000,
        ..GEN5_X8
    };
    bench.link().current = Some(slow);
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Degraded);
}

#[test]
fn a_healed_link_is_healthy_after_ten_clean_minutes() {
    let mut bench = Bench::running();
    bench.width(4);
    bench.looks(3);
    bench.width(8);
    bench.looks(599);
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    assert!(bench.verdict("link").recovered.is_some());
}

#[test]
fn a_link_that_trains_late_at_boot_is_not_held_against_it() {
    let mut bench = Bench::just_booted(Kind::Accelerator);
    bench.width(4);
    bench.looks(250);
    assert_eq!(bench.verdict("link").state, HealthState::Unobservable);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.width(8);
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_link_that_is_down_is_unobservable_not_healthy() {
    let mut bench = Bench::running();
    bench.link().current = None;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unobservable);
}

#[test]
fn a_fatal_error_on_the_bus_needs_a_new_life_and_a_passed_self_test() {
    let mut bench = Bench::running();
    bench.aer().fatal += 1;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.looks(3600);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    let vitals = bench.vitals();
    vitals.generation = 2;
    vitals.self_test = SelfTest::Passed;
    vitals.self_test_generation = 2;
    bench.look();
    assert_eq!(
        bench.verdict("aer_uncorrectable").state,
        HealthState::Healthy
    );
}

#[test]
fn a_chip_that_lost_power_has_a_new_life_though_it_comes_to_the_same_generation() {
    let mut bench = Bench::running();
    let (before, of_power_on) = (2, 1);
    bench.vitals().generation = before;
    bench.look();
    bench.aer().fatal += 1;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.vitals().generation = of_power_on;
    bench.look();
    let vitals = bench.vitals();
    vitals.generation = before;
    vitals.self_test = SelfTest::Passed;
    vitals.self_test_generation = before;
    bench.look();
    assert_eq!(
        bench.verdict("aer_uncorrectable").state,
        HealthState::Healthy
    );
}

#[test]
fn fatal_errors_of_the_past_at_first_sight_are_history() {
    let mut bench = Bench::accelerator();
    bench.aer().fatal = 17;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_nonfatal_error_on_the_bus_is_degraded_for_ten_minutes() {
    let mut bench = Bench::running();
    bench.aer().nonfatal += 2;
    bench.look();
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.looks(600);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_burst_of_correctable_errors_passes_and_a_steady_rate_is_degraded() {
    let mut bench = Bench::running();
    bench.aer().correctable += 10_000;
    bench.looks(400);
    assert_eq!(bench.state(), HealthState::Healthy);
    for _ in 0..7 * 60 {
        bench.aer().correctable += 1;
        bench.look();
    }
    assert_eq!(
        bench.verdict("aer_correctable").state,
        HealthState::Degraded
    );
}

#[test]
fn aer_that_the_firmware_owns_is_unobservable_and_leaves_the_component_alone() {
    let mut bench = Bench::accelerator();
    bench.facts.aer = Some(Ok(None));
    bench.looks(3);
    assert_eq!(
        bench.verdict("aer_uncorrectable").state,
        HealthState::Unobservable
    );
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn nonsense_in_one_file_makes_its_check_unobservable() {
    let mut bench = Bench::running();
    bench.facts.aer = Some(Err(ProbeError::Malformed {
        path: "aer_dev_fatal".to_owned(),
        found: "x".to_owned(),
        expected: "a count".into(),
    }));
    bench.look();
    assert_eq!(
        bench.verdict("aer_correctable").state,
        HealthState::Unobservable
    );
    assert_eq!(bench.verdict("heartbeat").state, HealthState::Healthy);
    assert_eq!(bench.state(), HealthState::Unobservable);
}

#[test]
fn a_link_that_only_the_port_above_sees_low_is_degraded_by_what_that_says() {
    let mut bench = Bench::running();
    let above = bench.facts.link_above.as_mut().unwrap().as_mut().unwrap();
    let above = above.as_mut().unwrap();
    above.current = Some(LinkRate {
        width: 4,
        ..GEN5_X8
    });
    bench.looks(2);
    assert_eq!(bench.verdict("link").state, HealthState::Healthy);
    bench.look();
    let verdict = bench.verdict("link");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert!(
        verdict
            .reason
            .starts_with("the port above runs the link at x4")
    );
    let source = "/sys/bus/pci/devices/0000:00:01.0/current_link_*";
    assert_eq!(verdict.evidence[1].source, source);
}

#[test]
fn a_link_whose_other_end_cannot_be_read_is_not_healthy_by_one_end() {
    let mut bench = Bench::running();
    bench.facts.link_above = Some(Err(ProbeError::Late { deadline_ms: 500 }));
    bench.looks(5);
    assert_eq!(bench.verdict("link").state, HealthState::Unobservable);
    bench.width(4);
    bench.looks(5);
    assert_eq!(bench.verdict("link").state, HealthState::Degraded);
}

#[test]
fn an_uncorrectable_error_of_the_port_above_is_told_and_passes_with_time() {
    let mut bench = Bench::running();
    bench.aer_above().fatal += 1;
    bench.look();
    let verdict = bench.verdict("aer_above");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.evidence[0].found, "+1, total 3");
    bench.minutes(9);
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.minutes(2);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn correctable_errors_of_the_port_above_must_go_on_for_five_minutes() {
    let mut bench = Bench::running();
    bench.aer_above().correctable += 1000;
    bench.looks(300);
    assert_eq!(bench.state(), HealthState::Healthy);
    for _ in 0..400 {
        bench.aer_above().correctable += 1;
        bench.look();
    }
    assert_eq!(bench.verdict("aer_above").state, HealthState::Degraded);
    assert_eq!(bench.verdict("aer_correctable").state, HealthState::Healthy);
}

#[test]
fn a_port_above_without_counters_is_held_against_nobody() {
    let mut bench = Bench::accelerator();
    bench.facts.aer_above = Some(Ok(None));
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert!(!bench.verdict("aer_above").counts);
}
