//! RDMA ports and their error counters, judged with time set by hand.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::path::Path;

use auk_health::Config;
use auk_health::facts::{Kind, LinkLayer, RdmaState};
use auk_health::verdict::{Action, Admit, HealthState};
use support::Bench;

fn running() -> Bench {
    let mut bench = Bench::nic();
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench
}

fn go_down(bench: &mut Bench) {
    bench.rdma().state = RdmaState::Down;
    bench.rdma().phys_state = "2: Polling".to_owned();
}

#[test]
fn a_port_that_goes_down_while_its_interface_has_a_carrier_is_unhealthy_after_half_a_minute() {
    let mut bench = running();
    go_down(&mut bench);
    bench.look();
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.looks(30);
    let verdict = bench.verdict("rdma_port");
    assert_eq!(verdict.state, HealthState::Unhealthy);
    assert_eq!(verdict.action, Action::Drain);
    assert!(
        verdict.reason.contains("has a carrier"),
        "{}",
        verdict.reason
    );
    assert!(verdict.evidence[0].found.contains("2: Polling"));
    bench.rdma().state = RdmaState::Active;
    bench.look();
    assert_eq!(bench.verdict("rdma_port").state, HealthState::Healthy);
}

#[test]
fn a_port_that_follows_its_interface_is_not_ill_by_itself() {
    for carrier in [Some(false), None] {
        let mut bench = running();
        go_down(&mut bench);
        bench.port().carrier = carrier;
        bench.port().admin_up = Some(carrier.is_some());
        bench.looks(100);
        let verdict = bench.verdict("rdma_port");
        assert!(!verdict.counts, "{}", verdict.reason);
    }
}

#[test]
fn a_port_whose_interface_is_in_another_namespace_is_not_ill() {
    let mut bench = running();
    bench.facts.port = Some(Ok(None));
    bench.rdma().gids = 0;
    go_down(&mut bench);
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert!(bench.verdict("rdma_port").reason.contains("namespace"));
}

#[test]
fn a_port_that_was_never_active_is_not_down() {
    let mut bench = Bench::nic();
    go_down(&mut bench);
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert!(!bench.verdict("rdma_port").counts);
}

#[test]
fn a_port_of_infiniband_is_judged_whatever_its_interface_does_and_not_when_somebody_disabled_it() {
    let mut bench = running();
    bench.rdma().link_layer = LinkLayer::InfiniBand;
    bench.port().carrier = None;
    bench.port().admin_up = Some(false);
    go_down(&mut bench);
    bench.rdma().phys_state = "3: Disabled".to_owned();
    bench.looks(100);
    assert!(!bench.verdict("rdma_port").counts);
    bench.rdma().phys_state = "2: Polling".to_owned();
    bench.looks(31);
    assert_eq!(bench.verdict("rdma_port").state, HealthState::Unhealthy);
}

#[test]
fn a_port_that_is_slower_than_it_was_or_than_the_manifest_wants_is_degraded() {
    let mut bench = running();
    bench.rdma().rate_mbit = Some(100_000);
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.look();
    assert_eq!(bench.verdict("rdma_port").state, HealthState::Degraded);

    let text = "[manifest.every_nic]\nrdma_mbit = 800000\nport_mbit = 800000\n";
    let config = Config::from_text(Path::new("agent.toml"), text).unwrap();
    let mut bench = Bench::new(Kind::Nic, config.settings);
    bench.looks(5);
    for check in ["rdma_port", "port_speed"] {
        let verdict = bench.verdict(check);
        assert_eq!(verdict.state, HealthState::Degraded, "{check}");
        assert!(verdict.evidence[0].limit.contains("manifest"), "{check}");
    }
}

#[test]
fn a_port_without_any_address_is_degraded_and_takes_no_new_job() {
    let mut bench = running();
    bench.rdma().gids = 0;
    bench.looks(10);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.looks(21);
    assert_eq!(bench.verdict("rdma_port").state, HealthState::Degraded);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
}

#[test]
fn a_device_that_went_is_degraded_and_one_that_never_was_is_none() {
    let mut bench = running();
    bench.facts.rdma = Some(Ok(Vec::new()));
    bench.looks(10);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
    bench.looks(25);
    assert_eq!(bench.verdict("rdma_port").state, HealthState::Degraded);

    let mut bench = Bench::nic();
    bench.facts.rdma = Some(Ok(Vec::new()));
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(bench.status().admission.answer, Admit::Yes);
}

#[test]
fn errors_that_last_are_degraded_and_a_burst_a_lifetime_total_and_a_wrap_are_not() {
    let mut bench = running();
    let counter = "counters/symbol_error".to_owned();
    bench
        .rdma()
        .counters
        .insert(counter.clone(), u64::from(u32::MAX) - 1);
    bench.looks(400);
    assert_eq!(bench.state(), HealthState::Healthy, "a burst");
    bench.rdma().counters.insert(counter.clone(), 3);
    bench.looks(400);
    assert_eq!(bench.state(), HealthState::Healthy, "a wrap");
    for count in 0..7 * 60 {
        bench.rdma().counters.insert(counter.clone(), 3 + count);
        bench.look();
    }
    let verdict = bench.verdict("rdma_errors");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.evidence[0].what, "mlx5_0/1 counters/symbol_error");
}

#[test]
fn a_counter_that_is_not_read_any_more_and_comes_back_begins_anew() {
    let mut bench = running();
    for round in 0..20 {
        bench.rdma().counters.clear();
        bench.looks(20);
        let total = round * 1_000_000;
        bench
            .rdma()
            .counters
            .insert("counters/symbol_error".to_owned(), total);
        bench.looks(20);
    }
    assert_eq!(bench.state(), HealthState::Healthy);
}

/// A second port of the device, of another interface.
fn with_another_port(bench: &mut Bench) {
    let ports = bench.facts.rdma.as_mut().unwrap().as_mut().unwrap();
    let mut other = ports[0].clone();
    other.port = 2;
    ports.push(other);
}

#[test]
fn ports_of_a_device_that_are_of_other_interfaces_are_not_judged_by_this_one() {
    for named in [false, true] {
        let mut bench = Bench::nic();
        with_another_port(&mut bench);
        if named {
            // The names are told, and the first is not that of the interface.
            bench.interface = Some("eth0".to_owned());
            let ports = bench.facts.rdma.as_mut().unwrap().as_mut().unwrap();
            ports[0].interface = Some("eth1".to_owned());
            ports[1].interface = Some("eth0".to_owned());
        }
        bench.looks(5);
        let (own, other) = if named { (1, 0) } else { (0, 1) };
        let down = |bench: &mut Bench, at: usize| {
            let ports = bench.facts.rdma.as_mut().unwrap().as_mut().unwrap();
            ports[at].state = RdmaState::Down;
        };
        down(&mut bench, other);
        bench.looks(100);
        assert_eq!(bench.state(), HealthState::Healthy);
        assert_eq!(bench.status().admission.answer, Admit::Yes);
        down(&mut bench, own);
        bench.looks(100);
        assert_eq!(bench.state(), HealthState::Unhealthy);
    }
}

#[test]
fn each_port_of_infiniband_is_judged_by_itself() {
    let mut bench = Bench::nic();
    bench.rdma().link_layer = LinkLayer::InfiniBand;
    with_another_port(&mut bench);
    bench.looks(5);
    let ports = bench.facts.rdma.as_mut().unwrap().as_mut().unwrap();
    ports[1].state = RdmaState::Down;
    bench.looks(100);
    assert_eq!(bench.state(), HealthState::Unhealthy);
}

#[test]
fn a_device_that_went_with_its_interface_to_another_namespace_is_not_missing() {
    let mut bench = running();
    bench.facts.port = Some(Ok(None));
    bench.facts.rdma = Some(Ok(Vec::new()));
    bench.looks(100);
    let verdict = bench.verdict("rdma_port");
    assert!(
        !verdict.counts && verdict.reason.contains("namespace"),
        "{verdict:#?}"
    );
    assert_eq!(bench.status().admission.answer, Admit::Yes);
}

/// InfiniBand without IP over it: there is no interface, and never was.
fn infiniband() -> Bench {
    let mut bench = Bench::nic();
    bench.facts.port = Some(Ok(None));
    bench.facts.ethtool = Some(Ok(None));
    bench.interface = None;
    bench.rdma().link_layer = LinkLayer::InfiniBand;
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
    assert_eq!(bench.status().admission.answer, Admit::Yes);
    bench
}

#[test]
fn a_port_of_infiniband_without_an_interface_is_judged() {
    let mut bench = infiniband();
    go_down(&mut bench);
    bench.looks(40);
    let verdict = bench.verdict("rdma_port");
    assert_eq!(
        (verdict.state, verdict.action),
        (HealthState::Unhealthy, Action::Drain)
    );
}

#[test]
fn a_device_of_infiniband_that_went_is_in_no_other_namespace_when_it_never_had_an_interface() {
    let mut bench = infiniband();
    bench.facts.rdma = Some(Ok(Vec::new()));
    bench.looks(40);
    let verdict = bench.verdict("rdma_port");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(bench.status().admission.answer, Admit::Hold);
}
