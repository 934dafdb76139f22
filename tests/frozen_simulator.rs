//! A simulator that is stopped as a chip that hangs is: the agent says so of what must move, goes on with all else, and
//! stops and starts meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::time::{Duration, Instant};

use cli_support::{SimHost, agent, component, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const CHIP: &str = "0000:01:00.0";
const OTHER_CHIP: &str = "0000:02:00.0";
const NIC: &str = "0000:41:00.0";

fn status(host: &SimHost) -> Value {
    // It ends with 1 while something is not well.
    host.auk(&["status", "--json"]).json()
}

/// The status once a component is in a state.
fn once(host: &SimHost, address: &str, state: &str) -> Value {
    eventually(&format!("{address} {state}"), || {
        let found = host.auk(&["status", "--json"]);
        let found: Value = serde_json::from_str(&found.stdout).ok()?;
        let known = found["components"].as_array()?;
        let known = known.iter().find(|known| known["bdf"] == address)?;
        (known["state"] == state).then(|| found.clone())
    })
}

#[test]
fn a_simulator_that_is_stopped_is_a_chip_that_hangs_and_holds_up_nobody() {
    let host = SimHost::start(2, 1);
    let (running, _) = agent(&host.root, &[]);
    for address in [CHIP, OTHER_CHIP, NIC] {
        once(&host, address, "healthy");
    }
    let simulator = Pid::from_raw(host.running.pid().try_into().unwrap());
    kill(simulator, Signal::SIGSTOP).unwrap();

    let hung = once(&host, CHIP, "unhealthy");
    let verdicts = component(&hung, CHIP)["verdicts"].as_array().unwrap();
    let heartbeat = verdicts.iter().find(|v| v["check"] == "heartbeat").unwrap();
    assert_eq!(heartbeat["state"], "unhealthy", "{hung}");
    let rounds = |status: &Value| status["agent"]["rounds"].as_u64().unwrap();
    let before = rounds(&hung);
    let after = eventually("twenty looks more", || {
        let now = status(&host);
        (rounds(&now) >= before + 20).then_some(now)
    });
    assert_eq!(component(&after, NIC)["state"], "healthy", "{after}");

    let stop = Instant::now();
    running.stop(Signal::SIGINT);
    assert!(
        stop.elapsed() < Duration::from_secs(5),
        "{:?}",
        stop.elapsed()
    );
    let (running, _) = agent(&host.root, &[]);
    once(&host, CHIP, "unhealthy");
    once(&host, NIC, "healthy");

    kill(simulator, Signal::SIGCONT).unwrap();
    once(&host, CHIP, "healthy");
    once(&host, OTHER_CHIP, "healthy");
    running.stop(Signal::SIGINT);
}
