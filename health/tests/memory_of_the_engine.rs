//! What the engine knows outlives the agent and the boot.

mod support;

use std::time::Duration;

use auk_health::facts::Presence;
use auk_health::operator::Mode;
use auk_health::verdict::{Admit, HealthState};
use auk_health::{Engine, Settings};
use support::{BDF, Bench};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn trouble_holds_and_switches_stand_over_a_restart() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.width(4);
    bench.looks(5);
    bench.width(8);
    bench.hold(None);
    bench.switch("throttle", Some(Mode::Off));
    bench.look();
    let since = bench.status().since_unix_ms;
    bench.restart(MINUTE, true);
    let transitions = bench.look();
    assert_eq!(transitions, [], "nothing has changed");
    let status = bench.status();
    assert_eq!(status.state, HealthState::Degraded);
    assert_eq!(status.since_unix_ms, since);
    assert_eq!(status.admission.answer, Admit::Hold);
    assert_eq!(bench.verdict("throttle").mode, Mode::Off);
    bench.minutes(11);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_fatal_error_while_the_agent_was_away_is_seen_when_it_is_back() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.restart(MINUTE, true);
    bench.aer().fatal += 1;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn what_was_counted_while_the_agent_was_away_for_a_day_is_no_burst() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.restart(DAY, true);
    bench.vitals().ecc_ce += 2000;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn an_agent_that_stood_still_for_an_hour_takes_what_it_missed_for_no_burst() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.now.uptime += 20 * 60 * MINUTE;
    bench.vitals().ecc_ce += 1500;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn another_boot_starts_the_kernels_counters_anew_and_keeps_the_verdicts() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.aer().fatal += 5;
    bench.look();
    bench.restart(5 * MINUTE, false);
    bench.aer().fatal = 0;
    bench.aer().correctable = 500;
    bench.looks(3);
    let status = bench.status();
    assert_eq!(status.state, HealthState::Unhealthy);
    assert!(
        status.reason.starts_with("aer_uncorrectable"),
        "{}",
        status.reason
    );
}

#[test]
fn clean_time_goes_on_over_a_reboot() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.width(4);
    bench.looks(5);
    bench.width(8);
    bench.look();
    bench.restart(5 * MINUTE, false);
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.minutes(6);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn offences_of_three_boots_make_a_repeat_offender() {
    let mut bench = Bench::accelerator();
    for _ in 0..3 {
        bench.looks(3);
        bench.illness();
        bench.restart(DAY, false);
    }
    bench.looks(3);
    let status = bench.status();
    assert!(
        status.reason.starts_with("repeat_offender"),
        "{}",
        status.reason
    );
}

#[test]
fn a_card_that_another_boot_puts_at_another_address_is_the_same_card() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.illness();
    bench.minutes(20);
    bench.illness();
    bench.restart(DAY, false);
    bench.bdf = "0000:02:00.0";
    bench.looks(3);
    bench.illness();
    let components = bench.engine.components(bench.now);
    assert_eq!(components.len(), 1, "the old address is forgotten");
    assert_eq!(
        components[0].verdict("repeat_offender").unwrap().state,
        HealthState::Unhealthy
    );
}

#[test]
fn what_was_there_before_the_restart_is_known_and_can_be_missed() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.restart(MINUTE, true);
    let known: Vec<_> = bench
        .engine
        .known()
        .map(|(bdf, ..)| bdf.to_owned())
        .collect();
    assert_eq!(known, [BDF]);
    bench.facts.presence = Some(Ok(Presence::Absent));
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_memory_of_another_version_is_refused_with_words() {
    let bench = Bench::accelerator();
    let saved = bench.engine.saved(bench.now, None).unwrap();
    let mut value = serde_json::to_value(&saved).unwrap();
    value["version"] = 99.into();
    let saved = serde_json::from_value(value).unwrap();
    let Err(error) = Engine::restored(Settings::default(), saved, bench.now, None) else {
        panic!("it was taken");
    };
    assert!(error.to_string().contains("version 99"), "{error}");
}
