//! `auk events`, and the history that `auk explain` shows.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use cli_support::{Outcome, Running, SOON, SimHost, agent, auk_at, command, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

const CHIP: &str = "0000:01:00.0";
const OTHER: &str = "0000:02:00.0";

/// A host of two healthy chips, and its agent.
fn healthy() -> (SimHost, Running) {
    let host = SimHost::start(2, 0);
    let (agent, _) = agent(&host.root, &[]);
    eventually("a healthy host", || {
        (host.auk(&["status"]).code == Some(0)).then_some(())
    });
    (host, agent)
}

fn harm(host: &SimHost) {
    host.auk(&["sim", "inject", "ecc-ue", CHIP]).expect_code(0);
    eventually("an unhealthy chip", || {
        (host.auk(&["status"]).code == Some(1)).then_some(())
    });
}

fn events(host: &SimHost, args: &[&str]) -> Vec<Value> {
    let args = [&["events", "--json"], args].concat();
    lines(host.auk(&args).expect_code(0))
}

fn lines(outcome: Outcome) -> Vec<Value> {
    let lines = outcome.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Lines of a command that goes on, and the command.
fn following(host: &SimHost, args: &[&str]) -> (Running, Receiver<String>) {
    let mut child = command(&["events", "--follow"])
        .args(args)
        .arg("--root")
        .arg(&host.root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (told, lines) = channel();
    let stdout = child.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                break;
            }
        }
    });
    (Running(child), lines)
}

fn is_ill(event: &Value) -> bool {
    event["kind"] == "transition"
        && event["details"]["check"].is_null()
        && event["details"]["to"] == "unhealthy"
}

#[test]
fn a_table_tells_what_happened_and_leaves_out_what_is_no_news() {
    let (host, _agent) = healthy();
    harm(&host);
    let text = host.auk(&["events"]).expect_code(0).stdout;
    let mut lines = text.lines();
    let heading: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["WHEN", "COMPONENT", "WHAT", "BECAME", "WHY"]);
    assert!(lines.next().unwrap().contains("agent start"), "{text}");
    let ill =
        |line: &str| line.contains(CHIP) && line.contains("ecc_ue") && line.contains("unhealthy");
    assert!(text.lines().any(ill), "{text}");
    assert!(!text.contains("temperature"), "{text}");
    let all = host.auk(&["events", "--all"]).expect_code(0).stdout;
    assert!(all.contains("temperature"), "{all}");
}

#[test]
fn events_are_asked_for_by_number_time_and_component() {
    let (host, _agent) = healthy();
    harm(&host);
    let all = events(&host, &["--all", "--since", "2000-01-01"]);
    let ids: Vec<_> = all.iter().map(|event| event["id"].as_u64()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(all.iter().all(|event| event["stored"] == true));
    assert_eq!(all.iter().filter(|event| is_ill(event)).count(), 1);

    assert_eq!(
        events(&host, &["--all", "--limit", "2"]),
        all[all.len() - 2..]
    );
    assert_eq!(events(&host, &["--all", "--since", "1d"]), all);
    assert_eq!(
        events(&host, &["--all", "--since", "2100-01-01"]),
        [] as [Value; 0]
    );
    let other = events(&host, &["--all", "--component", "02:00.0"]);
    assert!(!other.is_empty());
    assert!(other.iter().all(|event| event["component"] == OTHER));
    let unknown = host.auk(&["events", "--component", "eth7"]);
    unknown.expect_error(3, &["no component \"eth7\"", CHIP]);
    let wrong = host.auk(&["events", "--since", "yesterday"]);
    wrong.expect_error(2, &["2h or 1d"]);
}

#[test]
fn what_is_followed_comes_as_it_happens_and_goes_on_with_the_next_agent() {
    let (host, first) = healthy();
    let (_follower, told) = following(&host, &["--json"]);
    let next = |what: &dyn Fn(&Value) -> bool| loop {
        let event = serde_json::from_str(&told.recv_timeout(SOON).unwrap()).unwrap();
        if what(&event) {
            return event;
        }
    };
    next(&|event| event["details"]["to"] == "healthy");
    harm(&host);
    let ill = next(&is_ill);
    assert_eq!(ill["component"], CHIP);
    assert_eq!(first.stop(Signal::SIGTERM).code(), Some(0));
    let (_second, _) = agent(&host.root, &[]);
    let stop = next(&|event| event["kind"] == "agent_stop");
    let start = next(&|event| event["kind"] == "agent_start");
    assert_eq!(start["id"].as_u64(), stop["id"].as_u64().map(|id| id + 1));
}

#[test]
fn an_agent_stops_at_once_though_somebody_follows() {
    let (host, agent) = healthy();
    let (_follower, told) = following(&host, &[]);
    told.recv_timeout(SOON).unwrap();
    let before = std::time::Instant::now();
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
    assert!(before.elapsed().as_secs() < 5);
}

#[test]
fn without_an_agent_what_it_left_is_read_and_that_is_said() {
    let (host, agent) = healthy();
    harm(&host);
    let by_agent = events(&host, &["--all", "--since", "1d"]);
    // Killed, it leaves a log beside the file.
    drop(agent);
    let outcome = host.auk(&["events", "--json", "--all", "--since", "1d"]);
    assert!(outcome.stderr.contains("no agent runs"), "{outcome:?}");
    assert!(outcome.stderr.contains("health.db"), "{outcome:?}");
    assert_eq!(lines(outcome.expect_code(0))[..by_agent.len()], by_agent);
    let one = events(&host, &["--component", "01:00.0", "--limit", "1"]);
    assert_eq!(one[0]["component"], CHIP);
    let named = host.auk(&["events", "--component", "eth7"]);
    assert!(
        named.stderr.contains("only a running agent knows"),
        "{named:?}"
    );
}

#[test]
fn where_there_never_was_an_agent_it_is_said_how_to_start_one() {
    let root = tempfile::tempdir().unwrap();
    let outcome = auk_at(root.path(), &["events"]);
    outcome.expect_error(3, &["no agent answers", "hint: run `auk agent"]);
}

#[test]
fn explain_shows_what_the_store_has_of_a_component_also_after_a_restart() {
    let (host, first) = healthy();
    harm(&host);
    host.auk(&["hold", CHIP, "--reason", "its riser is reseated"])
        .expect_code(0);
    assert_eq!(first.stop(Signal::SIGTERM).code(), Some(0));
    let (_second, _) = agent(&host.root, &[]);
    let text = eventually("an explanation", || {
        let outcome = host.auk(&["explain", CHIP]);
        (outcome.code == Some(1)).then_some(outcome.stdout)
    });
    let (_, history) = text.split_once("WHEN").unwrap();
    for part in ["ecc_ue", "unhealthy", "ordered", "its riser is reseated"] {
        assert!(history.contains(part), "no {part} in {text}");
    }
    let json = host.auk(&["explain", CHIP, "--json"]).json();
    assert!(json["events"].as_array().unwrap().iter().any(is_ill));
}
