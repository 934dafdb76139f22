//! What a component's past says of it: flaps, and trouble that comes back.

mod support;

use auk_health::facts::Kind;
use auk_health::operator::Mode;
use auk_health::verdict::{Action, Admit, HealthState};
use support::Bench;

#[test]
fn two_changes_into_trouble_in_ten_minutes_are_none_and_three_are_degraded() {
    // Three times unhealthy are also a repeat offender, which is not what this is about.
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.switch("repeat_offender", Some(Mode::Off));
    bench.minutes(1);
    bench.illness();
    bench.illness();
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.illness();
    assert_eq!(bench.state(), HealthState::Degraded);
    assert_eq!(bench.verdict("flapping").evidence[0].found, "3 in 10 min");
    bench.minutes(9);
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.minutes(12);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn ten_changes_into_trouble_in_an_hour_are_unhealthy() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.switch("repeat_offender", Some(Mode::Off));
    bench.minutes(1);
    for _ in 0..9 {
        bench.illness();
        bench.minutes(5);
    }
    assert_ne!(bench.state(), HealthState::Unhealthy);
    bench.illness();
    let status = bench.status();
    assert_eq!(
        (status.state, status.action),
        (HealthState::Unhealthy, Action::Drain)
    );
}

#[test]
fn what_follows_an_order_within_ten_seconds_is_no_flap() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.switch("repeat_offender", Some(Mode::Off));
    for _ in 0..5 {
        bench.minutes(1);
        bench.hold(None);
        bench.release();
        bench.illness();
    }
    assert_eq!(bench.verdict("flapping").state, HealthState::Healthy);
}

#[test]
fn three_times_unhealthy_in_seven_days_does_not_clear_by_itself() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    for _ in 0..2 {
        bench.illness();
        bench.minutes(60);
    }
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.illness();
    bench.minutes(60);
    let status = bench.status();
    assert_eq!(status.state, HealthState::Unhealthy);
    assert_eq!(status.admission.answer, Admit::No);
    assert_eq!(status.action, Action::Replace);
    assert!(
        status.reason.starts_with("repeat_offender: "),
        "{}",
        status.reason
    );
    // Not even when the seven days are over.
    for _ in 0..8 {
        bench.now.uptime += std::time::Duration::from_secs(86_400);
        bench.looks(3);
    }
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.clear(Some("repeat_offender")).unwrap();
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn three_times_unhealthy_in_more_than_seven_days_is_no_repeat_offender() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    for _ in 0..5 {
        bench.illness();
        bench.now.uptime += std::time::Duration::from_secs(4 * 86_400);
        bench.looks(3);
    }
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn what_happens_while_somebody_works_on_it_is_no_offence() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.hold(None);
    for _ in 0..5 {
        bench.illness();
        bench.minutes(60);
    }
    bench.release();
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_card_takes_its_offences_along_and_leaves_none_to_the_next() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.illness();
    bench.minutes(60);
    bench.illness();
    bench.minutes(60);
    bench.serial = Some("b2".to_owned());
    bench.looks(3);
    bench.illness();
    bench.minutes(60);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.serial = Some("a1".to_owned());
    bench.looks(3);
    bench.illness();
    bench.minutes(60);
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn boot_grace_never_excuses_an_uncorrectable_error() {
    let mut bench = Bench::just_booted(Kind::Accelerator);
    bench.looks(3);
    bench.vitals().ecc_ue = 1;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
}
