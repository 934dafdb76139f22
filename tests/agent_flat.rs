//! The agent's memory and descriptors stay what they are: 20 s beside 8 chips and 4 NICs that have their troubles; 5 minutes beside
//! 64 and 16 with `AUK_LONG=1`, or as many seconds as `AUK_FLAT_SECONDS` says.
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod cli_support;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cli_support::{SimHost, agent, eventually};
use nix::sys::signal::Signal;

/// What the agent and its readers have.
#[derive(Debug)]
struct Usage {
    resident_kib: u64,
    descriptors: usize,
    processes: usize,
}

impl Usage {
    fn of(agent: u32) -> Self {
        let children = fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).unwrap();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        let processes: Vec<u32> = [agent].into_iter().chain(children).collect();
        let resident = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.unwrap().trim().trim_end_matches(" kB");
            kib.parse::<u64>().unwrap()
        };
        let descriptors = |pid: &u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        Self {
            resident_kib: processes.iter().map(resident).sum(),
            descriptors: processes.iter().map(descriptors).sum(),
            processes: processes.len(),
        }
    }
}

#[test]
fn memory_and_descriptors_are_flat() {
    let long = std::env::var("AUK_LONG").is_ok_and(|long| long == "1");
    let (chips, nics, seconds) = if long { (64, 16, 300) } else { (8, 4, 20) };
    let asked = std::env::var("AUK_FLAT_SECONDS").ok();
    let lasts = Duration::from_secs(asked.map_or(seconds, |asked| asked.parse().unwrap()));
    let host = SimHost::start(chips, nics);
    let (running, _) = agent(&host.root, &[]);
    eventually("a look at all", || {
        let status = host.auk(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
        // The host is one too.
        (status["components"].as_array()?.len() == chips + nics + 1).then_some(())
    });
    let trouble = |round: u32| {
        let lanes = if round.is_multiple_of(2) { "4" } else { "8" };
        for fault in [
            &["ecc-ce", "--count", "3", "0000:02:00.0"][..],
            &["link-width", "--lanes", lanes, "0000:03:00.0"],
            &["carrier-flap", "--count", "1", "0000:41:00.0"],
        ] {
            host.auk(&[&["sim", "inject"], fault].concat())
                .expect_code(0);
        }
        host.auk(&["status"]);
    };
    // Histories fill up first: the last changes of state, windows of rates.
    for round in 0..4 {
        trouble(round);
        sleep(Duration::from_secs(2));
    }
    let first = Usage::of(running.pid());
    let begun = Instant::now();
    let mut round = 4;
    while begun.elapsed() < lasts {
        trouble(round);
        round += 1;
        sleep(Duration::from_secs(4));
    }
    let last = Usage::of(running.pid());
    eprintln!("measured: after {lasts:?} and {round} rounds of trouble {first:?} became {last:?}");
    assert_eq!(last.processes, first.processes);
    // A client or a file that is open at this moment.
    assert!(
        last.descriptors <= first.descriptors + 4,
        "{first:?} became {last:?}"
    );
    // SQLite's cache and the allocator's slack; a leak of a kilobyte a look would be ten times that in five minutes.
    assert!(
        last.resident_kib <= first.resident_kib + 4096,
        "{first:?} became {last:?}"
    );
    running.stop(Signal::SIGINT);
}
