//! Uncorrectable and correctable memory errors, judged with time set by hand.

mod support;

use auk_asic::{Fault, SelfTest, State};
use auk_health::verdict::{Action, Admit, HealthState};
use support::Bench;

/// An uncorrectable error that the driver has already answered with a restart.
fn error_and_restart(bench: &mut Bench) {
    let generation = bench.vitals().generation;
    let vitals = bench.vitals();
    vitals.ecc_ue += 1;
    vitals.last_fault = Some((Fault::EccUncorrectable, generation));
    vitals.generation = generation + 1;
}

#[test]
fn an_uncorrectable_error_is_unhealthy_at_once_though_the_chip_runs_again() {
    let mut bench = Bench::running();
    error_and_restart(&mut bench);
    let transitions = bench.look();
    let status = bench.status();
    assert_eq!(status.state, HealthState::Unhealthy);
    assert_eq!(status.admission.answer, Admit::No);
    assert_eq!(status.action, Action::Reset);
    let evidence = &bench.verdict("ecc_ue").evidence[0];
    assert_eq!(
        (evidence.what.as_str(), evidence.found.as_str()),
        ("ecc_ue", "0 -> 1")
    );
    assert_eq!(evidence.source, "/sys/bus/pci/devices/0000:01:00.0/config");
    let whole = transitions
        .iter()
        .find(|transition| transition.check.is_none())
        .unwrap();
    assert_eq!(whole.from, Some(HealthState::Healthy));
    assert_eq!(whole.evidence[0], *evidence);
}

#[test]
fn time_alone_never_clears_an_uncorrectable_error() {
    let mut bench = Bench::running();
    error_and_restart(&mut bench);
    bench.looks(3 * 3600);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    assert!(
        bench
            .verdict("ecc_ue")
            .reason
            .contains("no self-test passed yet in generation 2")
    );
}

#[test]
fn a_self_test_in_the_life_of_the_error_clears_nothing() {
    let mut bench = Bench::running();
    let vitals = bench.vitals();
    vitals.ecc_ue = 1;
    vitals.last_fault = Some((Fault::EccUncorrectable, 1));
    vitals.self_test = SelfTest::Passed;
    vitals.self_test_generation = 1;
    bench.looks(10);
    assert_eq!(bench.verdict("ecc_ue").state, HealthState::Unhealthy);
}

#[test]
fn a_self_test_that_failed_clears_nothing() {
    let mut bench = Bench::running();
    error_and_restart(&mut bench);
    bench.vitals().self_test = SelfTest::Failed;
    bench.vitals().self_test_generation = 2;
    bench.looks(10);
    assert_eq!(bench.verdict("ecc_ue").state, HealthState::Unhealthy);
}

#[test]
fn a_new_life_and_its_passed_self_test_clear_it_and_the_proof_is_kept() {
    let mut bench = Bench::running();
    error_and_restart(&mut bench);
    bench.look();
    bench.vitals().self_test = SelfTest::Passed;
    bench.vitals().self_test_generation = 2;
    let transitions = bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    let recovery = bench.verdict("ecc_ue").recovered.unwrap();
    assert_eq!(recovery.from, HealthState::Unhealthy);
    assert!(
        recovery
            .reason
            .contains("generation 2 after the error in generation 1")
    );
    assert!(recovery.reason.contains("self-test Passed in generation 2"));
    let whole = transitions
        .iter()
        .find(|transition| transition.check.is_none())
        .unwrap();
    assert!(whole.reason.contains("recovered"), "{}", whole.reason);
}

#[test]
fn an_error_that_was_made_good_between_two_looks_is_still_told() {
    let mut bench = Bench::running();
    error_and_restart(&mut bench);
    bench.vitals().self_test = SelfTest::Passed;
    bench.vitals().self_test_generation = 2;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn an_error_of_this_life_is_seen_by_an_agent_that_comes_later() {
    let mut bench = Bench::accelerator();
    bench.vitals().ecc_ue = 3;
    bench.vitals().last_fault = Some((Fault::EccUncorrectable, 1));
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

/// What an agent that comes later sees of an error in generation 8.
fn seen_later(generation: u32, self_test: SelfTest, self_test_generation: u32) -> Bench {
    let mut bench = Bench::accelerator();
    let vitals = bench.vitals();
    vitals.ecc_ue = 3;
    vitals.last_fault = Some((Fault::EccUncorrectable, 8));
    vitals.generation = generation;
    vitals.self_test = self_test;
    vitals.self_test_generation = self_test_generation;
    bench.looks(5);
    bench
}

#[test]
fn an_error_that_only_a_restart_followed_is_open_for_an_agent_that_comes_later() {
    for (self_test, of) in [
        (SelfTest::NotRun, 0),
        (SelfTest::Passed, 8),
        (SelfTest::Failed, 9),
    ] {
        let mut bench = seen_later(9, self_test, of);
        assert_eq!(bench.state(), HealthState::Unhealthy, "{self_test:?}");
        bench.vitals().self_test = SelfTest::Passed;
        bench.vitals().self_test_generation = 9;
        bench.look();
        assert_eq!(bench.state(), HealthState::Healthy, "{self_test:?}");
    }
}

#[test]
fn an_error_with_a_newer_life_that_passed_its_self_test_is_history_for_an_agent_that_comes_later() {
    for generation in [9, 12] {
        let bench = seen_later(generation, SelfTest::Passed, 9);
        assert_eq!(bench.verdict("ecc_ue").state, HealthState::Healthy);
    }
}

#[test]
fn generations_that_began_anew_need_a_self_test_of_their_own() {
    let mut bench = seen_later(2, SelfTest::Passed, 1);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.vitals().self_test_generation = 2;
    bench.look();
    assert_eq!(bench.verdict("ecc_ue").state, HealthState::Healthy);
}

#[test]
fn a_lifetime_total_at_first_sight_is_not_an_error_of_now() {
    let mut bench = Bench::accelerator();
    bench.vitals().ecc_ue = 3;
    bench.vitals().generation = 9;
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_second_error_after_a_recovery_is_unhealthy_again() {
    let mut bench = Bench::running();
    error_and_restart(&mut bench);
    bench.look();
    bench.vitals().self_test = SelfTest::Passed;
    bench.vitals().self_test_generation = 2;
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    error_and_restart(&mut bench);
    bench.look();
    assert_eq!(bench.verdict("ecc_ue").evidence[0].found, "1 -> 2");
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_power_cycle_is_a_new_life_though_its_generation_is_lower() {
    let mut bench = Bench::running();
    bench.vitals().generation = 5;
    bench.look();
    error_and_restart(&mut bench);
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    let vitals = bench.vitals();
    vitals.generation = 1;
    vitals.ecc_ue = 0;
    vitals.last_fault = None;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.vitals().self_test = SelfTest::Passed;
    bench.vitals().self_test_generation = 1;
    bench.looks(2);
    assert_eq!(bench.verdict("ecc_ue").state, HealthState::Healthy);
}

#[test]
fn not_being_able_to_look_clears_no_uncorrectable_error() {
    let mut bench = Bench::running();
    error_and_restart(&mut bench);
    bench.look();
    bench.blind();
    bench.looks(1000);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    assert!(bench.verdict("ecc_ue").stale.is_some());
}

#[test]
fn boot_grace_excuses_no_uncorrectable_error() {
    let mut bench = Bench::just_booted(auk_health::facts::Kind::Accelerator);
    bench.looks(2);
    error_and_restart(&mut bench);
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_lifetime_total_of_correctable_errors_is_not_a_rate() {
    let mut bench = Bench::accelerator();
    bench.vitals().ecc_ce = 5_000_000;
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_hundred_correctable_errors_in_an_hour_are_degraded_and_ninety_nine_are_not() {
    let mut bench = Bench::running();
    bench.vitals().ecc_ce += 99;
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.vitals().ecc_ce += 1;
    bench.look();
    assert_eq!(bench.state(), HealthState::Degraded);
    assert_eq!(bench.status().admission.answer, Admit::Yes);
}

#[test]
fn a_thousand_correctable_errors_in_an_hour_ask_for_a_replacement() {
    let mut bench = Bench::running();
    bench.vitals().ecc_ce += 1000;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    assert_eq!(bench.status().action, Action::Replace);
}

#[test]
fn correctable_errors_clear_when_the_hour_and_ten_clean_minutes_are_over() {
    let mut bench = Bench::running();
    bench.vitals().ecc_ce += 150;
    bench.looks(3600 + 590);
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.looks(30);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_fault_other_than_memory_that_came_and_went_between_looks_is_degraded_for_a_while() {
    let mut bench = Bench::running();
    bench.vitals().last_fault = Some((Fault::FirmwareCrash, 1));
    bench.vitals().generation = 2;
    bench.look();
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.looks(601);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn an_old_fault_at_first_sight_is_history() {
    let mut bench = Bench::accelerator();
    bench.vitals().last_fault = Some((Fault::FirmwareHang, 1));
    bench.vitals().generation = 4;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_faulted_chip_is_unhealthy_and_names_its_fault() {
    let mut bench = Bench::running();
    bench.vitals().state = State::Faulted;
    bench.vitals().fault = Some(Fault::FirmwareCrash);
    bench.look();
    let verdict = bench.verdict("firmware_state");
    assert_eq!(verdict.state, HealthState::Unhealthy);
    assert!(verdict.reason.contains("FirmwareCrash"));
}
