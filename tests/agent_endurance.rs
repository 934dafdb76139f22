//! The agent for a long time: neither memory nor descriptors grow. `cargo test --test agent_endurance -- --ignored`;
//! `AUK_ENDURANCE_SECONDS` says how long (300).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use auk_health::client::{fetch_metrics, fetch_status};
use cli_support::{SOON, SimHost, agent, eventually};

/// Memory that an allocator may still take after the warm-up, in kB.
const SLACK: u64 = 1024;

/// What a process holds.
#[derive(Debug)]
struct Held {
    resident_kb: u64,
    descriptors: usize,
    threads: usize,
    children: usize,
}

impl Held {
    fn by(process: u32) -> Self {
        let proc = format!("/proc/{process}");
        let count = |directory: &str| fs::read_dir(format!("{proc}/{directory}")).unwrap().count();
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let resident = status.lines().find_map(|line| {
            let value = line.strip_prefix("VmRSS:")?;
            value.split_whitespace().next()?.parse().ok()
        });
        let tasks = fs::read_dir(format!("{proc}/task")).unwrap();
        let children = tasks.map(|task| {
            let path = task.unwrap().path().join("children");
            fs::read_to_string(path).map_or(0, |children| children.split_whitespace().count())
        });
        Self {
            resident_kb: resident.unwrap(),
            descriptors: count("fd"),
            threads: count("task"),
            children: children.sum(),
        }
    }
}

#[test]
#[ignore = "takes five minutes"]
fn an_agent_holds_after_a_long_time_what_it_held_after_a_short_one() {
    let seconds = std::env::var("AUK_ENDURANCE_SECONDS").ok();
    let whole = seconds.map_or(300, |seconds| seconds.parse().unwrap());
    let whole = Duration::from_secs(whole);
    let host = SimHost::start(8, 2);
    // Ten rounds a second, so that five minutes are most of an hour of an agent's life.
    let (running, _) = agent(&host.root, &[]);
    eventually("a healthy host", || {
        (host.auk(&["check"]).code == Some(0)).then_some(())
    });
    let start = Instant::now();
    let asked = || {
        fetch_status(&host.root, SOON).unwrap();
        fetch_metrics(&host.root, SOON).unwrap();
        thread::sleep(Duration::from_millis(500));
    };
    while start.elapsed() < whole / 4 {
        asked();
    }
    let early = Held::by(running.pid());
    while start.elapsed() < whole {
        asked();
    }
    let late = Held::by(running.pid());
    let rounds = fetch_status(&host.root, SOON).unwrap().agent.rounds;
    eprintln!("after {rounds} rounds: {early:?}, then {late:?}");
    assert!(
        late.resident_kb <= early.resident_kb + SLACK,
        "{early:?}, then {late:?}"
    );
    assert_eq!(
        (late.descriptors, late.threads, late.children),
        (early.descriptors, early.threads, early.children)
    );
}
