//! Presence, firmware, heartbeat, heat and memory, judged with time set by hand.

mod support;

use auk_asic::vitals::Throttle;
use auk_asic::{SelfTest, State};
use auk_health::facts::{Holder, Kind, PowerState, Presence};
use auk_health::verdict::{Action, Admit, HealthState};
use support::Bench;

#[test]
fn what_was_never_read_is_unobservable_and_held_not_healthy() {
    let mut bench = Bench::accelerator();
    bench.blind();
    bench.looks(3);
    let status = bench.status();
    assert_eq!(status.state, HealthState::Unobservable);
    assert_eq!(status.admission.answer, Admit::Hold);
    let readings = bench.facts.failures();
    assert!(readings > 5);
    assert_eq!(status.probe_failures, 3 * readings);
}

#[test]
fn a_check_whose_facts_were_not_read_in_this_look_stands_as_it_was() {
    let mut bench = Bench::running();
    bench.facts.aer = None;
    bench.width(4);
    let link = bench.facts.link.take();
    bench.looks(20);
    assert_eq!(bench.verdict("link").state, HealthState::Healthy);
    assert_eq!(bench.verdict("aer_correctable").stale, None);
    bench.facts.link = link;
    bench.looks(3);
    assert_eq!(bench.verdict("link").state, HealthState::Degraded);
}

#[test]
fn what_never_answers_is_told_once() {
    let mut bench = Bench::accelerator();
    bench.blind();
    let first = bench.look();
    let whole = first.iter().find(|transition| transition.check.is_none());
    let whole = whole.unwrap();
    assert_eq!((whole.from, whole.to), (None, HealthState::Unobservable));
    let since = bench.status().since_unix_ms;
    assert_eq!(bench.looks(300), []);
    assert_eq!(bench.status().since_unix_ms, since);
}

#[test]
fn one_look_is_not_enough_to_know_a_rate_or_a_heartbeat() {
    let mut bench = Bench::accelerator();
    bench.look();
    assert_eq!(bench.state(), HealthState::Unobservable);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_short_time_unseen_drains_nothing_and_a_long_one_holds_new_jobs() {
    let mut bench = Bench::running();
    bench.blind();
    bench.looks(60);
    assert_eq!(bench.state(), HealthState::Unobservable);
    assert_eq!(bench.status().admission.answer, Admit::Yes);
    assert_eq!(bench.status().action, Action::None);
    bench.looks(60);
    assert_eq!(bench.status().action, Action::Watch);
    bench.looks(200);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.looks(100_000);
    assert_eq!(bench.state(), HealthState::Unobservable);
}

#[test]
fn all_ones_for_two_looks_may_be_a_retrain_and_for_three_the_chip_is_gone() {
    let mut bench = Bench::running();
    bench.facts.presence = Some(Ok(Presence::AllOnes));
    bench.looks(2);
    assert_eq!(bench.verdict("presence").state, HealthState::Unobservable);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.facts.presence = Some(Ok(Presence::Present));
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_chip_that_is_listed_no_more_is_unhealthy_though_nothing_else_can_be_read() {
    let mut bench = Bench::running();
    bench.blind();
    bench.facts.presence = Some(Ok(Presence::Absent));
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    assert_eq!(bench.verdict("presence").evidence[0].found, "not listed");
}

#[test]
fn a_chip_that_is_listed_again_at_the_next_look_was_rescanned_and_is_not_gone() {
    let mut bench = Bench::running();
    bench.facts.presence = Some(Ok(Presence::Absent));
    bench.look();
    assert_eq!(bench.verdict("presence").state, HealthState::Unobservable);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.facts.presence = Some(Ok(Presence::Present));
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_chip_that_was_listed_no_more_is_back_at_the_second_look_and_one_of_all_ones_at_the_third() {
    for (away, looks) in [(Presence::Absent, 2), (Presence::AllOnes, 3)] {
        let mut bench = Bench::running();
        bench.facts.presence = Some(Ok(away));
        bench.looks(5);
        assert_eq!(bench.verdict("presence").state, HealthState::Unhealthy);
        bench.facts.presence = Some(Ok(Presence::Present));
        bench.looks(looks - 1);
        assert_eq!(bench.state(), HealthState::Unhealthy, "{away:?}");
        bench.look();
        assert_eq!(bench.state(), HealthState::Healthy, "{away:?}");
    }
}

#[test]
fn a_chip_that_falls_off_the_bus_and_is_then_taken_off_the_list_is_gone() {
    let mut bench = Bench::running();
    bench.facts.presence = Some(Ok(Presence::AllOnes));
    bench.look();
    bench.facts.presence = Some(Ok(Presence::Absent));
    bench.look();
    assert_eq!(bench.verdict("presence").state, HealthState::Unhealthy);
}

#[test]
fn a_chip_that_is_away_while_the_host_boots_is_not_gone() {
    let mut bench = Bench::just_booted(Kind::Accelerator);
    bench.looks(5);
    bench.facts.presence = Some(Ok(Presence::AllOnes));
    bench.looks(200);
    assert_eq!(bench.verdict("presence").state, HealthState::Unobservable);
    bench.looks(100);
    assert_eq!(bench.verdict("presence").state, HealthState::Unhealthy);
}

#[test]
fn another_card_in_the_slot_has_no_part_in_the_verdicts_of_the_former() {
    let mut bench = Bench::running();
    bench.vitals().ecc_ue = 1;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.serial = Some("a2".to_owned());
    bench.vitals().ecc_ue = 0;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_heartbeat_that_stands_still_for_three_seconds_is_a_hang() {
    let mut bench = Bench::running();
    bench.beats = false;
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.looks(1);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    assert_eq!(bench.verdict("heartbeat").action, Action::Reset);
}

#[test]
fn a_hang_is_over_when_it_beats_for_three_seconds() {
    let mut bench = Bench::running();
    bench.beats = false;
    bench.looks(4);
    bench.beats = true;
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_chip_in_d3hot_has_no_heartbeat_and_is_not_hung() {
    let mut bench = Bench::running();
    bench.beats = false;
    bench.facts.power_state = Some(Ok(PowerState::Asleep));
    bench.looks(100);
    let verdict = bench.verdict("heartbeat");
    assert_eq!(
        (verdict.state, verdict.counts),
        (HealthState::Unobservable, false)
    );
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn sleep_does_not_hide_a_hang_that_was_seen() {
    let mut bench = Bench::running();
    bench.beats = false;
    bench.looks(4);
    bench.facts.power_state = Some(Ok(PowerState::Asleep));
    bench.looks(10);
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn an_agent_that_was_stopped_itself_does_not_call_the_chip_hung() {
    let mut bench = Bench::running();
    bench.beats = false;
    bench.now.uptime += std::time::Duration::from_secs(60);
    bench.look();
    assert_eq!(bench.verdict("heartbeat").state, HealthState::Healthy);
}

#[test]
fn a_boot_within_its_time_is_held_and_one_that_never_ends_is_unhealthy() {
    let mut bench = Bench::running();
    bench.vitals().state = State::Booting;
    bench.looks(60);
    assert_eq!(bench.state(), HealthState::Unobservable);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.looks(10);
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_loader_that_nobody_brings_an_image_is_degraded_and_takes_no_jobs() {
    let mut bench = Bench::running();
    bench.vitals().state = State::Loader;
    bench.looks(310);
    assert_eq!(bench.state(), HealthState::Degraded);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
}

#[test]
fn a_failed_self_test_stands_until_one_passes() {
    let mut bench = Bench::running();
    bench.vitals().self_test = SelfTest::Failed;
    bench.vitals().self_test_generation = 1;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.vitals().self_test = SelfTest::Running;
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    bench.vitals().self_test = SelfTest::Passed;
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn the_throttle_point_is_allowed_for_less_than_a_minute() {
    let mut bench = Bench::running();
    bench.vitals().die_temperature = 960;
    bench.looks(60);
    assert_eq!(bench.verdict("temperature").state, HealthState::Healthy);
    bench.looks(1);
    assert_eq!(bench.verdict("temperature").state, HealthState::Degraded);
}

#[test]
fn ten_seconds_near_the_shutdown_point_are_unhealthy() {
    let mut bench = Bench::running();
    bench.vitals().die_temperature = 1000;
    bench.looks(10);
    assert_eq!(bench.verdict("temperature").state, HealthState::Healthy);
    bench.looks(1);
    assert_eq!(bench.verdict("temperature").state, HealthState::Unhealthy);
    assert_eq!(bench.status().action, Action::Drain);
}

#[test]
fn a_chip_without_limits_is_not_judged_by_them() {
    let mut bench = Bench::accelerator();
    bench.vitals().throttle_point = 0;
    bench.vitals().shutdown_point = 0;
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert!(!bench.verdict("temperature").counts);
}

#[test]
fn a_busy_chip_at_its_power_limit_is_healthy_and_a_weak_supply_is_not() {
    let mut bench = Bench::running();
    bench.vitals().throttle = Throttle::new().with_power_cap(true);
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.vitals().throttle = Throttle::new().with_supply(true);
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Degraded);
}

#[test]
fn a_chip_that_sleeps_while_a_process_has_it_open_is_told_after_thirty_seconds() {
    let mut bench = Bench::running();
    bench.facts.power_state = Some(Ok(PowerState::Asleep));
    bench.looks(100);
    assert_eq!(bench.verdict("power_state").state, HealthState::Healthy);
    bench.facts.holder = Some(Holder {
        pid: 4711,
        comm: "train".to_owned(),
        since: 0,
        cgroup: None,
    });
    bench.looks(30);
    assert_eq!(bench.verdict("power_state").state, HealthState::Healthy);
    bench.looks(2);
    let verdict = bench.verdict("power_state");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert!(verdict.reason.contains("4711"), "{}", verdict.reason);
}

#[test]
fn pages_that_are_retired_are_judged_by_their_rate_and_not_by_their_total() {
    let mut bench = Bench::accelerator();
    bench.vitals().retired_pages = 500;
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.vitals().retired_pages += 7;
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.vitals().retired_pages += 1;
    bench.look();
    let verdict = bench.verdict("page_retirement");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.action, Action::Replace);
    bench.minutes(25 * 60);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn replays_are_judged_by_a_rate_that_lasts() {
    let mut bench = Bench::running();
    bench.vitals().pcie_replays += 100_000;
    bench.looks(200);
    assert_eq!(bench.state(), HealthState::Healthy);
    for _ in 0..400 {
        bench.vitals().pcie_replays += 1;
        bench.look();
    }
    let verdict = bench.verdict("pcie_replays");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.evidence[0].what, "pcie_replays");
}

#[test]
fn a_sensor_that_says_what_no_die_has_is_not_believed() {
    let mut bench = Bench::running();
    bench.vitals().die_temperature = i16::MIN;
    bench.looks(20);
    let verdict = bench.verdict("temperature");
    assert_eq!(verdict.state, HealthState::Unobservable);
    assert!(verdict.reason.contains("-3276.8 C"), "{}", verdict.reason);
    assert_ne!(bench.state(), HealthState::Healthy);
    bench.vitals().die_temperature = i16::MAX;
    bench.looks(20);
    assert_eq!(
        bench.verdict("temperature").state,
        HealthState::Unobservable
    );
    bench.vitals().die_temperature = 420;
    bench.looks(1);
    assert_eq!(bench.verdict("temperature").state, HealthState::Healthy);
}
