//! Reads that nobody answers, which no signal ends: the others keep their cadence, what hangs is told in time, and the
//! agent stops and starts meanwhile.
//!
//! Cadence is compared with that of an agent beside it on which nothing hangs, as the machine may be busy. With
//! `AUK_LONG=1` the runs are longer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/fuse.rs"]
mod fuse;
#[path = "support/reading.rs"]
mod reading;
#[path = "support/tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use auk_health::verdict::HealthState;
use auk_health::{AgentHandle, Builder, Status, run_reader};
use fuse::ServedFile;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reading::{SOON, readers_of, sleeps_for_good, wait, wait_for, with_processes};
use tree::{CHIP, NIC, Tree};

/// A busy machine may spoil a run; an agent that waits for what hangs spoils them all.
const TRIES: u32 = 4;
/// NICs beside the tree's own.
const NICS: u32 = 8;

/// Not a test: what the readers of these tests run, in this program.
#[test]
#[ignore = "runs as a reader process of the other tests"]
fn reader_process() {
    // Without a test that started it there is no agent on the other side of standard input.
    let _ = run_reader();
}

/// How often is looked and how long a look may take, as by default; and looks in a run.
struct Pace {
    interval: Duration,
    deadline: Duration,
    rounds: u64,
}

impl Pace {
    fn new() -> Self {
        let long = std::env::var("AUK_LONG").is_ok_and(|long| long == "1");
        Self {
            interval: Duration::from_secs(1),
            deadline: Duration::from_millis(500),
            rounds: if long { 120 } else { 20 },
        }
    }

    fn agent(&self, tree: &Tree) -> Builder {
        with_processes(tree.root())
            .interval(self.interval)
            .read_deadline(self.deadline)
    }
}

fn crowded() -> Tree {
    let tree = Tree::new();
    for index in 0..NICS {
        let port = format!("0000:00:{index:02x}.1");
        tree.nic(&nic(index), &port, &format!("eth1{index}"));
    }
    // Nobody counts its heartbeat up here, and asleep it has none.
    fs::write(tree.device(CHIP).join("power_state"), "D3hot\n").unwrap();
    tree
}

fn nic(index: u32) -> String {
    format!("0000:{:02x}:00.0", 0x50 + index)
}

fn all_healthy(agent: &AgentHandle) {
    wait(agent, "all is healthy", |status| {
        let healthy = |component: &auk_health::status::ComponentStatus| {
            component.state == HealthState::Healthy
        };
        status.components.len() == NICS as usize + 2 && status.components.iter().all(healthy)
    });
}

/// Times between the looks at each component, in milliseconds, over so many rounds.
fn distances(
    agent: &AgentHandle,
    rounds: u64,
    mut each: impl FnMut(&Status),
) -> BTreeMap<String, Vec<u64>> {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut distances: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let end = agent.status().agent.rounds + rounds;
    let patience = SOON + Duration::from_secs(2 * rounds);
    let ended = agent.wait_until(patience, |status| {
        each(status);
        for component in &status.components {
            let Some(age) = component.sample_age_ms else {
                continue;
            };
            let at = status.at_unix_ms - age;
            let before = last.entry(component.bdf.clone()).or_insert(at);
            // The same look is the same moment but for a rounded millisecond.
            if at > *before + 2 {
                let known = distances.entry(component.bdf.clone()).or_default();
                known.push(at - std::mem::replace(before, at));
            }
        }
        status.agent.rounds >= end
    });
    ended.unwrap();
    distances
}

/// The 99th percentile over all components but one.
fn p99(distances: &BTreeMap<String, Vec<u64>>, but: &str) -> u64 {
    let others = distances.iter().filter(|(bdf, _)| *bdf != but);
    let mut all: Vec<u64> = others.flat_map(|(_, known)| known).copied().collect();
    all.sort_unstable();
    all[(all.len() * 99).div_ceil(100) - 1]
}

/// Whether the others keep their cadence while something hangs, beside an agent on which nothing does.
fn cadence_is_kept(
    pace: &Pace,
    (agent, hung): (&AgentHandle, &str),
    other: &AgentHandle,
    each: impl FnMut(&Status) + Send,
) -> bool {
    let (with, without) = thread::scope(|scope| {
        let without = scope.spawn(|| distances(other, pace.rounds, |_| {}));
        let with = distances(agent, pace.rounds, each);
        (with, without.join().unwrap())
    });
    let (with, without) = (p99(&with, hung), p99(&without, hung));
    let interval = u64::try_from(pace.interval.as_millis()).unwrap();
    eprintln!(
        "measured: looks every {interval} ms; p99 of the distance {with} ms while {hung} hangs, {without} ms beside it"
    );
    10 * with <= 12 * interval.max(without)
}

#[test]
fn a_config_read_that_nobody_answers_delays_neither_the_other_looks_nor_the_end_of_the_agent() {
    let pace = Pace::new();
    let (tree, beside) = (crowded(), crowded());
    let Some(config) = ServedFile::over(&tree.device(CHIP).join("config")) else {
        return;
    };
    let agent = pace.agent(&tree).start().unwrap();
    let other = pace.agent(&beside).start().unwrap();
    let mut kept = false;
    let mut told = Vec::new();
    for _ in 0..TRIES {
        all_healthy(&agent);
        all_healthy(&other);
        config.hang();
        let mut after = None;
        let mut most = 0;
        kept |= cadence_is_kept(&pace, (&agent, CHIP), &other, |status| {
            let chip = status.component(CHIP).unwrap();
            let presence = chip.verdict("presence").unwrap();
            if after.is_none() && presence.state == HealthState::Unobservable {
                after = config.hangs_since();
            }
            most = most.max(status.agent.readers.serving + status.agent.readers.held);
        });
        let after = after.unwrap();
        eprintln!(
            "measured: unobservable {} ms after the read began, with a deadline of {} ms; {most} readers at most",
            after.as_millis(),
            pace.deadline.as_millis()
        );
        told.push(after);
        assert_eq!(agent.status().agent.readers.held, 1);
        // One for all, one that hangs, and those for what a busy machine made slow.
        assert!(most <= 10, "{most} readers");
        if kept && told.iter().any(|after| *after <= 2 * pace.deadline) {
            break;
        }
        config.let_go();
    }
    assert!(kept, "in {TRIES} runs the other looks came late");
    assert!(
        told.iter().any(|after| *after <= 2 * pace.deadline),
        "{told:?}"
    );
    other.stop().unwrap();

    let held = readers_of(tree.root());
    let stop = Instant::now();
    agent.stop().unwrap();
    let stopped = stop.elapsed();
    let asleep = |pid: &&Pid| sleeps_for_good(**pid);
    let left: Vec<Pid> = held.iter().filter(asleep).copied().collect();
    assert_eq!(left.len(), 1, "of {held:?} there are {left:?}");

    let start = Instant::now();
    let agent = pace.agent(&tree).start().unwrap();
    wait(&agent, "the next agent to look", |status| {
        let nic = status.component(NIC);
        nic.is_some_and(|nic| nic.sample_age_ms.is_some())
    });
    eprintln!(
        "measured: stopped after {} ms with a reader in a sleep that no signal ends; the next agent has looked after {} ms",
        stopped.as_millis(),
        start.elapsed().as_millis()
    );
    wait_for(&agent, NIC, HealthState::Healthy);
    assert!(stopped < Duration::from_secs(3), "{stopped:?}");
    assert_eq!(
        agent.status().component(CHIP).unwrap().state,
        HealthState::Unobservable
    );

    config.let_go();
    wait_for(&agent, CHIP, HealthState::Healthy);
    wait(&agent, "the reader of the former agent to end", |_| {
        !sleeps_for_good(left[0])
    });
    agent.stop().unwrap();
}

#[test]
fn a_reader_that_is_stopped_delays_neither_the_other_looks_nor_the_end_of_the_agent() {
    let pace = Pace::new();
    let (tree, beside) = (crowded(), crowded());
    let agent = pace.agent(&tree).start().unwrap();
    let other = pace.agent(&beside).start().unwrap();
    all_healthy(&agent);
    all_healthy(&other);
    let mut kept = false;
    for _ in 0..TRIES {
        let readers = readers_of(tree.root());
        for reader in &readers {
            kill(*reader, Signal::SIGSTOP).unwrap();
        }
        // The list of devices comes first, so it is that which does not come.
        let mut late = false;
        kept |= cadence_is_kept(&pace, (&agent, "a reader"), &other, |status| {
            late |= status.discovery_error.is_some();
        });
        assert!(late, "of {readers:?} none was missed");
        all_healthy(&agent);
        if kept {
            break;
        }
    }
    assert!(kept, "in {TRIES} runs the other looks came late");
    other.stop().unwrap();
    let stop = Instant::now();
    agent.stop().unwrap();
    assert!(
        stop.elapsed() < Duration::from_secs(3),
        "{:?}",
        stop.elapsed()
    );
    assert_eq!(readers_of(tree.root()), []);
}
