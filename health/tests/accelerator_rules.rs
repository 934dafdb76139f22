//! Presence, firmware, heartbeat, heat, link and AER, judged with time set by hand.

mod support;

use auk_asic::vitals::Throttle;
use auk_asic::{SelfTest, State};
use auk_health::facts::{Holder, Kind, LinkRate, PowerState, Presence};
use auk_health::probe::ProbeError;
use auk_health::verdict::{Action, Admit, HealthState};
use support::{Bench, GEN5_X8};

fn running() -> Bench {
    let mut bench = Bench::accelerator();
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(bench.status().admission.answer, Admit::Yes);
    bench
}

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
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
    bench.blind();
    bench.facts.presence = Some(Ok(Presence::Absent));
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    assert_eq!(bench.verdict("presence").evidence[0].found, "not listed");
}

#[test]
fn a_chip_that_is_listed_again_at_the_next_look_was_rescanned_and_is_not_gone() {
    let mut bench = running();
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
        let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
    bench.beats = false;
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.looks(1);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    assert_eq!(bench.verdict("heartbeat").action, Action::Reset);
}

#[test]
fn a_hang_is_over_when_it_beats_for_three_seconds() {
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
    bench.beats = false;
    bench.looks(4);
    bench.facts.power_state = Some(Ok(PowerState::Asleep));
    bench.looks(10);
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn an_agent_that_was_stopped_itself_does_not_call_the_chip_hung() {
    let mut bench = running();
    bench.beats = false;
    bench.now.uptime += std::time::Duration::from_secs(60);
    bench.look();
    assert_eq!(bench.verdict("heartbeat").state, HealthState::Healthy);
}

#[test]
fn a_boot_within_its_time_is_held_and_one_that_never_ends_is_unhealthy() {
    let mut bench = running();
    bench.vitals().state = State::Booting;
    bench.looks(60);
    assert_eq!(bench.state(), HealthState::Unobservable);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.looks(10);
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_loader_that_nobody_brings_an_image_is_degraded_and_takes_no_jobs() {
    let mut bench = running();
    bench.vitals().state = State::Loader;
    bench.looks(310);
    assert_eq!(bench.state(), HealthState::Degraded);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
}

#[test]
fn a_failed_self_test_stands_until_one_passes() {
    let mut bench = running();
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
    let mut bench = running();
    bench.vitals().die_temperature = 960;
    bench.looks(60);
    assert_eq!(bench.verdict("temperature").state, HealthState::Healthy);
    bench.looks(1);
    assert_eq!(bench.verdict("temperature").state, HealthState::Degraded);
}

#[test]
fn ten_seconds_near_the_shutdown_point_are_unhealthy() {
    let mut bench = running();
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
    let mut bench = running();
    bench.vitals().throttle = Throttle::new().with_power_cap(true);
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.vitals().throttle = Throttle::new().with_supply(true);
    bench.looks(3);
    assert_eq!(bench.state(), HealthState::Degraded);
}

#[test]
fn one_lone_bad_link_sample_is_nothing_and_three_of_five_are_degraded() {
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
    bench.link().current = None;
    bench.look();
    assert_eq!(bench.state(), HealthState::Unobservable);
}

#[test]
fn a_fatal_error_on_the_bus_needs_a_new_life_and_a_passed_self_test() {
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
    bench.aer().nonfatal += 2;
    bench.look();
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.looks(600);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_burst_of_correctable_errors_passes_and_a_steady_rate_is_degraded() {
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
    bench.facts.link_above = Some(Err(ProbeError::Late { deadline_ms: 500 }));
    bench.looks(5);
    assert_eq!(bench.verdict("link").state, HealthState::Unobservable);
    bench.width(4);
    bench.looks(5);
    assert_eq!(bench.verdict("link").state, HealthState::Degraded);
}

#[test]
fn an_uncorrectable_error_of_the_port_above_is_told_and_passes_with_time() {
    let mut bench = running();
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
    let mut bench = running();
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

#[test]
fn a_chip_that_sleeps_while_a_process_has_it_open_is_told_after_thirty_seconds() {
    let mut bench = running();
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
    let mut bench = running();
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
    let mut bench = running();
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
