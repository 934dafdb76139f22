//! What people order: holds, releases, clears and switches.

mod support;

use std::time::Duration;

use auk_asic::{Fault, SelfTest};
use auk_health::facts::Presence;
use auk_health::operator::{Mode, Order, OrderError};
use auk_health::verdict::{Admit, HealthState};
use support::{BDF, Bench};

fn answer(bench: &Bench) -> Admit {
    bench.status().admission.answer
}

#[test]
fn a_held_component_is_healthy_and_takes_no_new_job_until_it_is_released() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    assert_eq!(answer(&bench), Admit::Yes);
    bench.hold(None);
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(answer(&bench), Admit::Hold);
    assert_eq!(bench.status().admission.reason, "held by nora: reseating");
    bench.release();
    assert_eq!(answer(&bench), Admit::Yes);
}

#[test]
fn a_hold_for_a_time_ends_by_itself_and_that_is_told() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.hold(Some(120));
    bench.minutes(1);
    assert!(bench.engine.expire(bench.now).is_empty());
    bench.minutes(1);
    let ended = bench.engine.expire(bench.now);
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].author, None);
    assert!(ended[0].outcome.contains("nora"), "{}", ended[0].outcome);
    assert_eq!(answer(&bench), Admit::Yes);
}

#[test]
fn a_wall_clock_that_is_set_ends_no_hold() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.hold(Some(120));
    bench.now.unix_ms += 86_400_000;
    bench.looks(3);
    assert!(bench.engine.expire(bench.now).is_empty());
}

#[test]
fn a_hold_on_the_host_is_one_on_all() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    let order = Order::Hold {
        component: "host".to_owned(),
        reason: "new kernel".to_owned(),
        seconds: None,
    };
    bench.order(order).unwrap();
    let reason = bench.status().admission.reason;
    assert_eq!(reason, "the host is held by nora: new kernel");
}

#[test]
fn a_card_that_is_pulled_under_a_hold_is_not_unhealthy_and_after_the_release_it_is() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.hold(None);
    bench.facts.presence = Some(Ok(Presence::Absent));
    bench.looks(60);
    assert_eq!(bench.state(), HealthState::Unobservable);
    assert_eq!(answer(&bench), Admit::Hold);
    bench.release();
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_hold_hides_no_trouble_but_absence() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.hold(None);
    bench.vitals().ecc_ue = 1;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    assert_eq!(answer(&bench), Admit::No);
}

#[test]
fn a_component_may_be_named_by_its_serial_number_and_the_record_has_its_address() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    let order = Order::Hold {
        component: "a1".to_owned(),
        reason: "reseating".to_owned(),
        seconds: None,
    };
    let (done, _) = bench.order(order).unwrap();
    assert!(matches!(done.order, Order::Hold { component, .. } if component == BDF));
    assert_eq!(done.author.unwrap().uid, 1000);
}

#[test]
fn orders_without_sense_change_nothing_and_say_why() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    let hold = |component: &str, reason: &str, seconds| Order::Hold {
        component: component.to_owned(),
        reason: reason.to_owned(),
        seconds,
    };
    let refused = |bench: &mut Bench, order| bench.order(order).unwrap_err();
    assert_eq!(
        refused(&mut bench, hold(BDF, "  ", None)),
        OrderError::NoReason
    );
    assert_eq!(
        refused(&mut bench, hold(BDF, &"a".repeat(501), None)),
        OrderError::LongReason
    );
    let seconds = u64::MAX;
    assert_eq!(
        refused(&mut bench, hold(BDF, "why", Some(seconds))),
        OrderError::BadTime { seconds }
    );
    let error = refused(&mut bench, hold("0000:77:00.0", "why", None)).to_string();
    assert!(error.contains("0000:01:00.0"), "{error}");
    let component = BDF.to_owned();
    let release = Order::Release {
        component: component.clone(),
        reason: None,
    };
    assert_eq!(
        refused(&mut bench, release),
        OrderError::NotHeld { component }
    );
    let switch = Order::Switch {
        check: "hartbeat".to_owned(),
        mode: Some(Mode::Off),
        reason: "why".to_owned(),
    };
    let error = refused(&mut bench, switch).to_string();
    assert!(error.contains("heartbeat"), "{error}");
    assert!(matches!(
        bench.clear(None),
        Err(OrderError::NothingToClear { .. })
    ));
    assert_eq!(answer(&bench), Admit::Yes);
}

#[test]
fn a_check_that_is_switched_off_judges_nothing_and_switched_on_begins_anew() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.vitals().self_test = SelfTest::Failed;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.switch("self_test", Some(Mode::Off));
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    let verdict = bench.verdict("self_test");
    assert_eq!(
        (verdict.state, verdict.counts, verdict.mode),
        (HealthState::Unobservable, false, Mode::Off)
    );
    assert_eq!(verdict.reason, "switched off by nora: too loud");
    bench.switch("self_test", None);
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_check_in_shadow_mode_is_judged_and_shown_and_bears_on_nothing() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.switch("self_test", Some(Mode::Shadow));
    bench.vitals().self_test = SelfTest::Failed;
    let transitions = bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(answer(&bench), Admit::Yes);
    assert_eq!(bench.verdict("self_test").state, HealthState::Unhealthy);
    assert_eq!(transitions.len(), 1);
    assert!(transitions[0].shadow);
}

#[test]
fn a_mode_of_the_configuration_holds_until_somebody_orders_another() {
    let mut bench = Bench::accelerator();
    let mut settings = auk_health::Settings::default();
    settings.modes.insert("self_test".to_owned(), Mode::Shadow);
    bench.engine.set_settings(settings);
    bench.vitals().self_test = SelfTest::Failed;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.switch("self_test", Some(Mode::On));
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_clear_ends_what_only_time_would_end_and_is_told_with_its_author() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.width(4);
    bench.looks(5);
    bench.width(8);
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Degraded);
    let (done, transitions) = bench.clear(Some("link")).unwrap();
    assert_eq!(done.outcome, "cleared: link");
    assert_eq!(transitions[0].reason, "cleared by nora: looked at it");
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    let recovered = bench.verdict("link").recovered.unwrap();
    assert_eq!(recovered.reason, "cleared by nora: looked at it");
}

#[test]
fn a_clear_does_not_outlive_what_is_still_seen() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.vitals().self_test = SelfTest::Failed;
    bench.look();
    bench.clear(None).unwrap();
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn an_uncorrectable_error_is_not_cleared_by_a_word_before_the_firmware_was_restarted() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.vitals().ecc_ue = 1;
    bench.vitals().last_fault = Some((Fault::EccUncorrectable, 1));
    bench.looks(3);
    let error = bench.clear(Some("ecc_ue")).unwrap_err();
    assert!(matches!(error, OrderError::Refused { .. }), "{error}");
    assert_eq!(bench.state(), HealthState::Unhealthy);
    // No self-test, as on a prototype: a person may vouch for it.
    bench.vitals().generation = 2;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.clear(Some("ecc_ue")).unwrap();
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_fatal_error_of_a_nic_is_cleared_by_a_word_as_it_has_no_self_test() {
    let mut bench = Bench::nic();
    bench.looks(3);
    bench.aer().fatal += 1;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.clear(None).unwrap();
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_fatal_error_of_a_chip_is_not_cleared_by_a_word_before_a_new_life() {
    let mut bench = Bench::accelerator();
    bench.looks(3);
    bench.aer().fatal += 1;
    bench.looks(3);
    assert!(bench.clear(None).is_err());
    bench.vitals().generation = 2;
    bench.look();
    bench.clear(None).unwrap();
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_hold_of_the_longest_time_does_not_overflow() {
    let mut bench = Bench::accelerator();
    bench.now.unix_ms = u64::MAX - 10_000;
    bench.now.uptime = Duration::MAX - Duration::from_secs(10);
    bench.looks(3);
    bench.hold(Some(366 * 86_400));
    assert!(bench.engine.expire(bench.now).is_empty());
    assert_eq!(answer(&bench), Admit::Hold);
}
