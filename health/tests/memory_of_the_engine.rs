//! What the engine knows outlives the agent and the boot.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use auk_health::facts::Presence;
use auk_health::operator::Mode;
use auk_health::verdict::{Admit, HealthState};
use auk_health::{Engine, Saved, Settings};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;
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

/// Puts another value in the place of one of those in a JSON text, by its number.
fn replace(value: &mut Value, at: &mut usize, by: &Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, at, by)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, at, by)),
        leaf => {
            if *at == 0 {
                *leaf = by.clone();
            }
            *at = at.wrapping_sub(1);
        }
    }
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(leaves).sum(),
        Value::Object(fields) => fields.values().map(leaves).sum(),
        _ => 1,
    }
}

/// An engine that goes on from a memory, if it can, and what it then says.
fn goes_on(bench: &Bench, parts: &BTreeMap<String, String>) {
    for boot in ["one", "two"] {
        let Ok(Some(saved)) = Saved::from_parts(parts) else {
            return;
        };
        let mut now = bench.now;
        let engine = Engine::restored(Settings::default(), saved, now, Some(boot));
        let Ok(mut engine) = engine else { return };
        for seconds in [1, 1, 60, 3600] {
            now.uptime += Duration::from_secs(seconds);
            let mut sample = bench.sample();
            sample.facts.at = now;
            engine.observe(sample);
        }
        engine.expire(now);
        let _ = engine.components(now);
        engine.saved(now, Some(boot)).unwrap();
    }
}

/// A memory with something in each of its corners.
fn eventful() -> (Bench, BTreeMap<String, String>) {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.aer().fatal += 1;
    bench.vitals().ecc_ue += 1;
    bench.width(4);
    bench.looks(5);
    bench.hold(Some(60));
    bench.switch("throttle", Some(Mode::Off));
    bench.looks(2);
    let parts = bench.engine.saved_parts(bench.now, Some("one"), |_| true);
    let parts = parts.unwrap();
    (bench, parts)
}

#[test]
fn a_memory_in_parts_is_the_whole_memory() {
    let (bench, parts) = eventful();
    let saved = Saved::from_parts(&parts).unwrap().unwrap();
    let settings = Settings::default();
    let engine = Engine::restored(settings, saved, bench.now, Some("one")).unwrap();
    let verdicts = |engine: &Engine| engine.components(bench.now).remove(0).verdicts;
    assert_eq!(verdicts(&engine), verdicts(&bench.engine));
    let again = engine.saved_parts(bench.now, Some("one"), |_| true);
    assert_eq!(again.unwrap(), parts);
}

#[test]
fn no_value_in_the_memory_makes_an_engine_panic() {
    let (bench, parts) = eventful();
    let values = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        Just(Value::from(u64::MAX)),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    let inputs = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        values,
    );
    let config = ProptestConfig::with_cases(1000);
    let run = TestRunner::new(config).run(&inputs, |(which, at, by)| {
        let mut parts = parts.clone();
        let names: Vec<_> = parts.keys().cloned().collect();
        let text = parts.get_mut(which.get(&names)).unwrap();
        let mut value: Value = serde_json::from_str(text).unwrap();
        let mut at = at.index(leaves(&value));
        replace(&mut value, &mut at, &by);
        *text = value.to_string();
        goes_on(&bench, &parts);
        Ok(())
    });
    run.unwrap();
}

#[test]
fn no_text_in_the_place_of_the_memory_makes_an_engine_panic() {
    let (bench, parts) = eventful();
    let run = TestRunner::default().run(&(any::<prop::sample::Index>(), ".*"), |(which, by)| {
        let mut parts = parts.clone();
        let names: Vec<_> = parts.keys().cloned().collect();
        parts.insert(which.get(&names).clone(), by);
        goes_on(&bench, &parts);
        Ok(())
    });
    run.unwrap();
}
