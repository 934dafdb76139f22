//! What is judged of a NIC by what its driver says: counters of its own, pauses, error correction, lanes, versions.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod support;

use std::path::Path;

use auk_health::Config;
use auk_health::facts::{Kind, PauseFrames, Query};
use auk_health::probe::ProbeError;
use auk_health::verdict::{Action, HealthState};
use support::Bench;

fn running() -> Bench {
    let mut bench = Bench::nic();
    bench.looks(5);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench
}

fn wanted(manifest: &str) -> Bench {
    let text = format!("[manifest.every_nic]\n{manifest}\n");
    let config = Config::from_text(Path::new("agent.toml"), &text).unwrap();
    let mut bench = Bench::new(Kind::Nic, config.settings);
    bench.looks(5);
    bench
}

/// So many seconds in which a counter grows by so much each.
fn grows(bench: &mut Bench, pattern: &str, seconds: u32, by: u64) {
    for _ in 0..seconds {
        *bench.counter(pattern) += by;
        bench.look();
    }
}

#[test]
fn lifetime_totals_and_bursts_of_a_drivers_counters_are_no_trouble() {
    let mut bench = running();
    grows(&mut bench, "rx_crc_errors_phy", 30, 1000);
    bench.looks(600);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn damaged_frames_that_go_on_are_degraded_and_name_the_counter() {
    let mut bench = running();
    grows(&mut bench, "rx_crc_errors_phy", 420, 1);
    let verdict = bench.verdict("port_counters");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.evidence[0].what, "rx_crc_errors_phy");
    bench.looks(800);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_few_discards_are_load_and_a_flood_of_them_is_degraded() {
    let mut bench = running();
    grows(&mut bench, "rx_discards_phy", 600, 100);
    assert_eq!(bench.state(), HealthState::Healthy);
    grows(&mut bench, "rx_discards_phy", 420, 1000);
    assert_eq!(bench.verdict("port_counters").state, HealthState::Degraded);
}

#[test]
fn a_pause_storm_and_a_queue_that_was_set_up_anew_are_degraded_at_once() {
    for pattern in ["tx_pause_storm_error_events", "tx#_recover"] {
        let mut bench = running();
        grows(&mut bench, pattern, 1, 1);
        let verdict = bench.verdict("port_counters");
        assert_eq!(verdict.state, HealthState::Degraded, "{pattern}");
        assert!(verdict.evidence[0].found.contains("+1"), "{pattern}");
    }
}

#[test]
fn a_driver_that_was_loaded_anew_counts_from_zero_and_nothing_is_new() {
    let mut bench = running();
    for count in bench.ethtool().counters.values_mut() {
        *count = 0;
    }
    bench.looks(600);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn of_a_driver_whose_names_are_not_known_nothing_is_judged_by_name() {
    let mut bench = running();
    bench.ethtool().driver = "somebody's".to_owned();
    grows(&mut bench, "rx_crc_errors_phy", 600, 1000);
    let verdict = bench.verdict("port_counters");
    assert!(!verdict.counts && verdict.state == HealthState::Unobservable);
    assert_eq!(bench.state(), HealthState::Healthy);
}

#[test]
fn a_port_that_is_stopped_most_of_the_time_is_degraded_and_one_that_is_now_and_then_is_not() {
    // One frame stops a port of 400 Gbit/s for 84 us at most: 715,000 a minute have it stand still.
    let mut bench = running();
    grows(&mut bench, "rx_prio#_pause", 600, 3000);
    assert_eq!(bench.state(), HealthState::Healthy);
    grows(&mut bench, "rx_prio#_pause", 420, 9000);
    let verdict = bench.verdict("port_pause");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert_eq!(verdict.action, Action::Watch);
    assert!(
        verdict.evidence[0].limit.contains("357"),
        "{:?}",
        verdict.evidence
    );
}

#[test]
fn plain_pause_frames_count_where_the_driver_has_no_names_for_them() {
    let mut bench = running();
    bench.ethtool().counters.clear();
    bench.port().speed_mbit = Some(400_000);
    for second in 0..420 {
        bench.ethtool().pause = Some(PauseFrames {
            received: Some(second * 9000),
            sent: None,
        });
        bench.look();
    }
    assert_eq!(bench.verdict("port_pause").state, HealthState::Degraded);
}

#[test]
fn what_was_corrected_is_no_trouble_and_what_could_not_be_is() {
    let mut bench = running();
    for second in 0..420 {
        let fec = bench.ethtool().fec.as_mut().unwrap();
        fec.corrected = Some(1_000_000 * second);
        bench.look();
    }
    assert_eq!(bench.state(), HealthState::Healthy);
    for second in 0..420 {
        let fec = bench.ethtool().fec.as_mut().unwrap();
        fec.uncorrectable = Some(3 + second);
        bench.look();
    }
    assert_eq!(bench.verdict("port_fec").state, HealthState::Degraded);
}

#[test]
fn fewer_lanes_than_before_are_degraded() {
    let mut bench = running();
    bench.ethtool().lanes = Some(2);
    bench.looks(2);
    assert_eq!(bench.state(), HealthState::Healthy);
    bench.look();
    assert_eq!(bench.verdict("port_lanes").state, HealthState::Degraded);
}

#[test]
fn the_manifest_says_which_lanes_correction_and_versions_are_right() {
    let right = "port_lanes = 4\nfec = 'rs'\nnic_firmware = ['22.41.1000']\ndriver_version = ['6.12', '6.13']";
    assert_eq!(wanted(right).state(), HealthState::Healthy);
    for (manifest, check, action) in [
        ("port_lanes = 8", "port_lanes", Action::Watch),
        ("fec = 'llrs'", "port_fec", Action::Watch),
        ("nic_firmware = ['22.4']", "nic_version", Action::Drain),
        ("driver_version = ['6.1']", "nic_version", Action::Watch),
    ] {
        let verdict = wanted(manifest).verdict(check);
        assert_eq!(verdict.state, HealthState::Degraded, "{manifest}");
        assert_eq!(verdict.action, action, "{manifest}");
    }
}

#[test]
fn a_tree_of_files_has_no_driver_to_ask_and_that_is_held_against_nobody() {
    let mut bench = Bench::nic();
    bench.facts.ethtool = Some(Ok(None));
    bench.looks(10);
    assert_eq!(bench.state(), HealthState::Healthy);
    for check in [
        "port_counters",
        "port_pause",
        "port_fec",
        "port_lanes",
        "nic_version",
    ] {
        assert!(!bench.verdict(check).counts, "{check}");
    }
}

#[test]
fn a_query_that_failed_blinds_the_checks_that_rest_on_it_and_no_other() {
    let error = || ProbeError::Late { deadline_ms: 500 };
    let rests = [
        (Query::Driver, vec!["port_counters", "port_pause"]),
        (Query::Lanes, vec!["port_lanes"]),
        (Query::Fec, vec!["port_fec"]),
        (Query::Pause, vec![]),
        (Query::Counters, vec!["port_counters", "port_pause"]),
    ];
    for (query, blind) in rests {
        let mut bench = running();
        bench.ethtool().unanswered.insert(query, error());
        bench.look();
        for check in ["port_counters", "port_pause", "port_lanes", "port_fec"] {
            let verdict = bench.verdict(check);
            let expected = match blind.contains(&check) {
                true => HealthState::Unobservable,
                false => HealthState::Healthy,
            };
            assert_eq!(
                verdict.state, expected,
                "{check} without {query:?}: {verdict:#?}"
            );
        }
    }
    // Where the driver has no names of its own for them, the kernel's count of pause frames is what there is.
    let mut bench = Bench::nic();
    bench.ethtool().counters.clear();
    bench.ethtool().pause = Some(PauseFrames {
        received: Some(7),
        sent: None,
    });
    bench.looks(3);
    assert_eq!(bench.verdict("port_pause").state, HealthState::Healthy);
    bench.ethtool().unanswered.insert(Query::Pause, error());
    bench.look();
    assert_eq!(bench.verdict("port_pause").state, HealthState::Unobservable);
}

#[test]
fn lanes_that_cannot_be_asked_for_clear_nothing() {
    let mut bench = running();
    bench.ethtool().lanes = Some(2);
    bench.looks(5);
    assert_eq!(bench.verdict("port_lanes").state, HealthState::Degraded);
    bench.ethtool().lanes = None;
    bench
        .ethtool()
        .unanswered
        .insert(Query::Lanes, ProbeError::Late { deadline_ms: 500 });
    bench.minutes(30);
    let verdict = bench.verdict("port_lanes");
    assert_eq!(verdict.state, HealthState::Degraded);
    assert!(verdict.stale.is_some(), "{verdict:#?}");
}
