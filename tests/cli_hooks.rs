//! Hooks of `auk agent`, by its configuration.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::fs;
use std::path::PathBuf;

use auk_health::store::{Event, Query, Reader, state_directory};
use auk_health::verdict::HealthState;
use cli_support::{Running, SimHost, agent, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const CHIP: &str = "0000:01:00.0";

/// A host with a chip, and a hook for when it becomes unhealthy.
struct Bench {
    host: SimHost,
}

impl Bench {
    /// With a hook that is a shell script in the directory of traces.
    fn new(script: &str) -> Self {
        let bench = Self {
            host: SimHost::start(1, 0),
        };
        bench.configure(script);
        bench
    }

    fn configure(&self, script: &str) {
        let script = format!("cd {}\n{script}", self.host.directory.path().display());
        let directory = self.host.root.join("etc/auk");
        fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "[hook.page]\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\non = [\"unhealthy\"]\n"
        );
        fs::write(directory.join("agent.toml"), text).unwrap();
    }

    fn agent(&self) -> Running {
        let (agent, _) = agent(&self.host.root, &[]);
        agent
    }

    fn wait_healthy(&self) {
        eventually("a healthy host", || {
            (self.host.auk(&["status"]).code == Some(0)).then_some(())
        });
    }

    fn harm(&self) {
        self.host
            .auk(&["sim", "inject", "ecc-ue", CHIP])
            .expect_code(0);
    }

    fn trace(&self, name: &str) -> PathBuf {
        self.host.directory.path().join(name)
    }

    /// Waits until a trace has so many lines.
    fn lines(&self, name: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} lines of {name}"), || {
            let text = fs::read_to_string(self.trace(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count && text.ends_with('\n')).then_some(lines)
        })
    }

    /// Waits until the agent has looked so many times more.
    fn wait_rounds(&self, more: u64) {
        let rounds = || {
            let status = self.host.auk(&["status", "--json"]).json();
            status["agent"]["rounds"].as_u64().unwrap_or(0)
        };
        let before = rounds();
        eventually("more looks", || (rounds() >= before + more).then_some(()));
    }

    /// What the store has of the chip as a whole having become unhealthy.
    fn unhealthy(&self) -> Vec<Event> {
        let reader = Reader::open(&state_directory(&self.host.root)).unwrap();
        let events = reader.events(&Query::default()).unwrap().events;
        let ill = |event: &Event| {
            let change = event.transition();
            change
                .is_some_and(|change| change.check.is_none() && change.to == HealthState::Unhealthy)
        };
        events.into_iter().filter(ill).collect()
    }
}

#[test]
fn a_hook_is_told_the_event_that_the_store_has_by_its_id() {
    let bench = Bench::new(
        "echo $$ > pid; cat > event.new && mv event.new event && echo $AUK_EVENT_ID >> ids",
    );
    let agent = bench.agent();
    bench.wait_healthy();
    bench.harm();
    let ids = bench.lines("ids", 1);
    let stored = bench.unhealthy();
    assert_eq!(stored.len(), 1);
    assert_eq!(ids, [stored[0].id.to_string()]);
    let text = fs::read_to_string(bench.trace("event")).unwrap();
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["id"], stored[0].id);
    assert_eq!(told["stored"], true);
    assert_eq!(told["details"]["component"], CHIP);
    // That it has ended must have been stored: an agent that stops before would rightly tell it again.
    let hook = fs::read_to_string(bench.trace("pid")).unwrap();
    let process = PathBuf::from("/proc").join(hook.trim());
    eventually("the end of the hook", || (!process.exists()).then_some(()));
    bench.wait_rounds(3);
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
    // What was told is told once.
    let agent = bench.agent();
    bench.wait_rounds(3);
    assert_eq!(bench.lines("ids", 1), ids);
    drop(agent);
}

/// Says that it begins, waits for a file, and says that it ends.
const SLOW: &str = "echo $AUK_EVENT_ID begins >> ids
while [ ! -e go ]; do sleep 0.05; done
echo $AUK_EVENT_ID ends >> ids";

#[test]
fn a_kill_between_the_store_and_the_end_of_a_hook_has_it_told_again_with_the_same_id() {
    let bench = Bench::new(SLOW);
    let agent = bench.agent();
    bench.wait_healthy();
    bench.harm();
    let begun = bench.lines("ids", 1);
    let pid = Pid::from_raw(i32::try_from(agent.pid()).unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    drop(agent);
    let _next = bench.agent();
    assert_eq!(bench.lines("ids", 2), [begun[0].clone(), begun[0].clone()]);
    fs::write(bench.trace("go"), "").unwrap();
    let id = bench.unhealthy()[0].id;
    // That of the killed agent ends as well, by itself.
    let lines = bench.lines("ids", 4);
    let ends = lines.iter().filter(|line| **line == format!("{id} ends"));
    assert_eq!(ends.count(), 2, "{lines:?}");
}

#[test]
fn an_agent_that_stops_kills_what_runs_and_the_next_one_runs_it_again() {
    let bench = Bench::new(SLOW);
    let agent = bench.agent();
    bench.wait_healthy();
    bench.harm();
    bench.lines("ids", 1);
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
    fs::write(bench.trace("go"), "").unwrap();
    let _next = bench.agent();
    let id = bench.unhealthy()[0].id;
    let [begins, ends] = ["begins", "ends"].map(|what| format!("{id} {what}"));
    assert_eq!(bench.lines("ids", 3), [begins.clone(), begins, ends]);
}

#[test]
fn a_hook_that_comes_with_a_reload_is_told_of_what_follows() {
    let bench = Bench::new("echo $AUK_TO >> states");
    let file = bench.host.root.join("etc/auk/agent.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let agent = bench.agent();
    bench.wait_healthy();
    let all = text.replace("[\"unhealthy\"]", "[\"unhealthy\", \"healthy\"]");
    fs::write(&file, all).unwrap();
    let pid = Pid::from_raw(i32::try_from(agent.pid()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    eventually("a reload", || {
        let status = bench.host.auk(&["status", "--json"]).json();
        let reload = &status["agent"]["config"]["reload"];
        reload.is_object().then_some(())
    });
    bench.harm();
    assert_eq!(bench.lines("states", 1), ["unhealthy"]);
}
