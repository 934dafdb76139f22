//! Carrier, flaps, speed and errors of a port, judged with time set by hand.

mod support;

use auk_health::facts::{Kind, PortHeard};
use auk_health::verdict::{Action, Admit, HealthState};
use support::Bench;

fn running() -> Bench {
    let mut bench = Bench::nic();
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench
}

fn lose_carrier(bench: &mut Bench) {
    let port = bench.port();
    port.carrier = Some(false);
    port.speed_mbit = None;
    port.carrier_down = port.carrier_down.map(|downs| downs + 1);
}

fn regain_carrier(bench: &mut Bench) {
    let port = bench.port();
    port.carrier = Some(true);
    port.speed_mbit = Some(400_000);
    port.carrier_up = port.carrier_up.map(|ups| ups + 1);
}

#[test]
fn a_port_that_was_never_up_is_not_down() {
    let mut bench = Bench::nic();
    bench.port().carrier = Some(false);
    bench.port().carrier_up = Some(0);
    bench.port().speed_mbit = None;
    bench.looks(3600);
    let verdict = bench.verdict("carrier");
    assert_eq!(
        (verdict.state, verdict.counts),
        (HealthState::Unobservable, false)
    );
    assert_eq!(bench.status().action, Action::None);
    assert!(bench.state() < HealthState::Degraded);
}

#[test]
fn a_port_that_was_up_and_stays_down_is_unhealthy_after_ten_seconds() {
    let mut bench = running();
    lose_carrier(&mut bench);
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.looks(8);
    assert_eq!(bench.state(), HealthState::Unhealthy);
    regain_carrier(&mut bench);
    bench.look();
    assert_eq!(bench.verdict("carrier").state, HealthState::Healthy);
}

#[test]
fn an_interface_that_an_administrator_set_down_is_not_ill() {
    let mut bench = running();
    lose_carrier(&mut bench);
    bench.port().admin_up = Some(false);
    bench.port().carrier = None;
    bench.looks(3600);
    assert!(bench.state() < HealthState::Degraded);
    assert!(!bench.verdict("carrier").counts);
}

#[test]
fn setting_a_port_down_and_up_by_hand_is_no_flap() {
    let mut bench = running();
    for _ in 0..20 {
        lose_carrier(&mut bench);
        bench.port().admin_up = Some(false);
        bench.looks(5);
        regain_carrier(&mut bench);
        bench.port().admin_up = Some(true);
        bench.looks(5);
    }
    assert_eq!(bench.verdict("carrier_flaps").state, HealthState::Healthy);
}

#[test]
fn three_flaps_in_ten_minutes_are_degraded_though_each_look_sees_a_carrier() {
    let mut bench = running();
    bench.port().carrier_down = Some(2);
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.port().carrier_down = Some(3);
    bench.look();
    assert_eq!(bench.state(), HealthState::Degraded);
    assert!(
        bench.verdict("carrier_flaps").evidence[0]
            .found
            .starts_with("+3 in 10 min")
    );
    bench.looks(700);
    assert_eq!(bench.state(), HealthState::Degraded);
    bench.looks(600);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn ten_flaps_in_an_hour_are_unhealthy() {
    let mut bench = running();
    for downs in 1..=10 {
        bench.port().carrier_down = Some(downs);
        bench.looks(300);
    }
    assert_eq!(bench.verdict("carrier_flaps").state, HealthState::Unhealthy);
}

#[test]
fn flaps_of_before_the_agent_came_are_history() {
    let mut bench = Bench::nic();
    bench.port().carrier_down = Some(500);
    bench.looks(10);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn flaps_while_the_host_boots_do_not_count() {
    let mut bench = Bench::just_booted(Kind::Nic);
    bench.looks(5);
    bench.port().carrier_down = Some(8);
    bench.looks(400);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn an_interface_in_another_namespace_is_not_gone() {
    let mut bench = running();
    bench.facts.port = Some(Ok(None));
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert!(bench.verdict("carrier").reason.contains("namespace"));
}

#[test]
fn a_port_that_got_slower_is_degraded() {
    let mut bench = running();
    bench.port().speed_mbit = Some(100_000);
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.look();
    assert_eq!(bench.state(), HealthState::Degraded);
}

#[test]
fn errors_count_by_rate_and_name_the_counter() {
    let mut bench = running();
    bench.port().errors.rx = Some(1_000_000);
    bench.looks(300);
    assert_eq!(bench.state(), HealthState::Healthy);
    for count in 0..7 * 60 {
        bench.port().errors.rx_crc = Some(2 + count);
        bench.look();
    }
    let verdict = bench.verdict("port_errors");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.evidence[0].what, "rx_crc_errors");
}

#[test]
fn a_fatal_error_of_a_nic_stands_as_long_as_nothing_proves_otherwise() {
    let mut bench = running();
    bench.aer().fatal += 1;
    bench.looks(10_000);
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_port_at_half_duplex_is_degraded() {
    let mut bench = running();
    bench.port().full_duplex = Some(false);
    bench.looks(3);
    let verdict = bench.verdict("port_speed");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.evidence[0].found, "half");
}

/// Minutes of a port that gets and drops so many packets a second.
fn busy(bench: &mut Bench, seconds: u32, packets: u64, dropped: u64) {
    for _ in 0..seconds {
        let drops = &mut bench.port().drops;
        drops.rx_packets = drops.rx_packets.map(|total| total + packets);
        drops.rx = drops.rx.map(|total| total + dropped);
        bench.look();
    }
}

#[test]
fn one_packet_in_fifty_dropped_for_minutes_is_degraded() {
    let mut bench = running();
    busy(&mut bench, 200, 10_000, 200);
    assert_eq!(bench.state(), HealthState::Healthy);
    busy(&mut bench, 200, 10_000, 200);
    let verdict = bench.verdict("port_drops");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.action, Action::Watch);
    assert!(verdict.evidence[0].what.contains("rx_dropped"));
}

#[test]
fn drops_are_load_when_they_are_few_in_all_or_beside_what_passes() {
    let mut bench = running();
    busy(&mut bench, 900, 1_000_000, 200);
    assert_eq!(bench.state(), HealthState::Healthy);
    // What a switch announces and nobody listens to: all of it is dropped.
    let mut bench = running();
    busy(&mut bench, 900, 0, 10);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn setting_a_port_down_and_up_between_two_looks_is_no_flap_when_the_kernel_told_of_it() {
    let mut bench = running();
    for downs in 1..=20 {
        bench.port().carrier_down = Some(downs);
        bench.facts.port_heard = Some(PortHeard {
            admin_changed_ms_ago: 300,
        });
        bench.look();
        bench.facts.port_heard = None;
        bench.looks(3);
    }
    bench.looks(10);
    assert_eq!(bench.verdict("carrier_flaps").state, HealthState::Healthy);
    // What comes later than that is none of the administrator's.
    for downs in 21..=23 {
        bench.port().carrier_down = Some(downs);
        bench.look();
    }
    assert_eq!(bench.verdict("carrier_flaps").state, HealthState::Degraded);
}

#[test]
fn what_befell_a_port_in_another_namespace_is_no_flap_after_its_return() {
    let mut bench = running();
    let here = bench.facts.port.clone();
    bench.facts.port = Some(Ok(None));
    bench.looks(100);
    bench.facts.port = here;
    bench.port().carrier_down = Some(50);
    bench.looks(30);
    assert_eq!(bench.verdict("carrier_flaps").state, HealthState::Healthy);
}

#[test]
fn a_storm_of_damaged_frames_is_unhealthy_and_a_burst_of_as_many_is_not() {
    let mut bench = running();
    bench.port().errors.rx_crc = Some(100_000);
    bench.looks(600);
    assert_eq!(bench.state(), HealthState::Healthy);
    for second in 0..400 {
        bench.port().errors.rx_crc = Some(100_000 + second * 20);
        bench.look();
    }
    let verdict = bench.verdict("port_errors");
    assert_eq!(verdict.state, HealthState::Unhealthy);
    assert_eq!(verdict.action, Action::Drain);
}

#[test]
fn errors_that_load_and_the_other_end_raise_are_degraded_at_most() {
    let mut bench = running();
    for second in 0..1200 {
        bench.port().errors.tx = Some(second * 1000);
        bench.port().errors.rx = Some(5 + second * 1000);
        bench.look();
        assert!(bench.state() <= HealthState::Degraded);
    }
    let verdict = bench.verdict("port_errors");
    assert_eq!(
        (verdict.state, verdict.action),
        (HealthState::Degraded, Action::Watch)
    );
}
