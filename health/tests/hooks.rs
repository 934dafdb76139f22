//! Hooks: what they are told, in which order, and how they end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use auk_health::config::Hook;
use auk_health::hook::{HookSettings, Hooks};
use auk_health::store::{Record, Store, StoreSettings};
use auk_health::verdict::{HealthState, Transition};
use tempfile::TempDir;

/// Generous: the machine that runs the tests may be busy.
const SOON: Duration = Duration::from_secs(30);

/// A store, and a directory in which hooks leave their traces.
struct Bench {
    store: Store,
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory);
        Self { store, directory }
    }

    /// Appends what happened, and gives the id.
    fn append(&self, component: &str, check: Option<&str>, to: HealthState) -> u64 {
        let transition = Transition {
            check: check.map(str::to_owned),
            to,
            ..change(component)
        };
        let events = self.store.append(1, vec![Record::from(&transition)], None);
        events.last().unwrap().id
    }

    fn start(&self, hooks: &[(&str, Hook)]) -> Hooks {
        let hooks = hooks
            .iter()
            .map(|(name, hook)| ((*name).to_owned(), hook.clone()));
        let settings = HookSettings {
            hooks: hooks.collect(),
            at_once: 4,
        };
        Hooks::start(self.store.clone(), settings).unwrap()
    }

    /// A shell in the directory of traces.
    fn shell(&self, script: &str) -> Hook {
        let script = format!("cd {}\n{script}", self.directory.path().display());
        Hook {
            command: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
            ..Hook::default()
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until a trace has a text, and gives all of it.
    fn trace(&self, name: &str, text: &str) -> String {
        eventually(|| {
            let found = fs::read_to_string(self.path(name)).unwrap_or_default();
            found.contains(text).then_some(found)
        })
    }

    /// Waits until everything up to an event is done, for good.
    fn wait_acknowledged(&self, id: u64) {
        eventually(|| {
            let pending = self.store.pending(1, "hooks", 1000).unwrap();
            pending
                .events
                .iter()
                .all(|event| event.id > id)
                .then_some(())
        });
    }
}

fn open(directory: &TempDir) -> Store {
    Store::open(directory.path(), "boot", &StoreSettings::default(), 1).unwrap()
}

fn change(component: &str) -> Transition {
    serde_json::from_value(serde_json::json!({
        "at_unix_ms": 1,
        "component": component,
        "serial": "a1",
        "check": null,
        "from": "healthy",
        "to": "unhealthy",
        "reason": "it \"burns\"",
        "evidence": [],
    }))
    .unwrap()
}

fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < SOON, "not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    // A zombie that init has not reaped yet is dead.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_hook_is_told_what_changed_by_its_environment_and_its_stdin() {
    let bench = Bench::new();
    let hook = bench.shell("cat > stdin; env > new; mv new env");
    let hooks = bench.start(&[("page", hook)]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    let id = bench.append("0000:01:00.0", None, HealthState::Unhealthy);
    hooks.wake();
    let environment = bench.trace("env", "AUK_REASON");
    for expected in [
        "AUK_HOOK=page".to_owned(),
        format!("AUK_EVENT_ID={id}"),
        "AUK_COMPONENT=0000:01:00.0".to_owned(),
        "AUK_SERIAL=a1".to_owned(),
        "AUK_CHECK=".to_owned(),
        "AUK_FROM=healthy".to_owned(),
        "AUK_TO=unhealthy".to_owned(),
        "AUK_REASON=it \"burns\"".to_owned(),
    ] {
        assert!(
            environment.lines().any(|line| line == expected),
            "{environment}"
        );
    }
    // Nothing of the agent's own environment.
    assert!(!environment.contains("CARGO"), "{environment}");
    let event: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bench.path("stdin")).unwrap()).unwrap();
    assert_eq!(
        (&event["id"], &event["details"]["to"]),
        (&id.into(), &"unhealthy".into())
    );
    bench.wait_acknowledged(id);
}

#[test]
fn a_hook_is_run_for_the_changes_that_it_asks_for_alone() {
    let bench = Bench::new();
    let wanted = Hook {
        on: vec!["unhealthy".to_owned()],
        ..bench.shell("echo $AUK_EVENT_ID.$AUK_TO.$AUK_CHECK >> trace")
    };
    let off = Hook {
        enabled: false,
        ..bench.shell("echo off >> trace")
    };
    let hooks = bench.start(&[("off", off), ("wanted", wanted)]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    bench.append("a", None, HealthState::Degraded);
    bench.append("a", Some("link"), HealthState::Unhealthy);
    let id = bench.append("a", None, HealthState::Unhealthy);
    hooks.wake();
    bench.wait_acknowledged(id);
    assert_eq!(
        bench.trace("trace", "unhealthy"),
        format!("{id}.unhealthy.\n")
    );
}

#[test]
fn a_hook_that_runs_too_long_is_killed_with_all_that_it_started() {
    let bench = Bench::new();
    let hook = Hook {
        deadline: Duration::from_millis(500),
        ..bench.shell("sleep 1000 & echo $! > new; mv new child; echo $$ > self; sleep 1000")
    };
    let hooks = bench.start(&[("slow", hook)]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    let id = bench.append("a", None, HealthState::Unhealthy);
    hooks.wake();
    let (child, own) = (bench.trace("child", "\n"), bench.trace("self", "\n"));
    bench.wait_acknowledged(id);
    eventually(|| (!is_alive(&child) && !is_alive(&own)).then_some(()));
}

#[test]
fn what_a_hook_leaves_behind_ends_with_it() {
    let bench = Bench::new();
    let hooks = bench.start(&[("forks", bench.shell("sleep 1000 & echo $! > child"))]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    let id = bench.append("a", None, HealthState::Unhealthy);
    hooks.wake();
    let child = bench.trace("child", "\n");
    bench.wait_acknowledged(id);
    eventually(|| (!is_alive(&child)).then_some(()));
}

#[test]
fn of_one_component_one_runs_at_a_time_in_order_and_others_do_not_wait_for_it() {
    let bench = Bench::new();
    let script = "
        if [ $AUK_COMPONENT = a ]; then
            mkdir lock || echo overlap >> trace
            echo $AUK_EVENT_ID >> trace
            until [ -e go ]; do sleep 0.01; done
            rmdir lock
        else
            echo other > other
        fi";
    let hooks = bench.start(&[("one", bench.shell(script)), ("two", bench.shell(script))]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    let first = bench.append("a", None, HealthState::Degraded);
    let second = bench.append("a", None, HealthState::Unhealthy);
    let last = bench.append("b", None, HealthState::Unhealthy);
    hooks.wake();
    bench.trace("other", "other");
    fs::write(bench.path("go"), "").unwrap();
    bench.wait_acknowledged(last);
    let expected = format!("{first}\n{first}\n{second}\n{second}\n");
    assert_eq!(fs::read_to_string(bench.path("trace")).unwrap(), expected);
}

#[test]
fn a_hook_that_was_cut_short_is_told_again_with_the_same_id() {
    let mut bench = Bench::new();
    let script =
        "echo $AUK_EVENT_ID >> trace; until [ -e go ]; do sleep 0.01; done; echo end >> trace";
    let hooks = bench.start(&[("page", bench.shell(script))]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    let id = bench.append("a", None, HealthState::Unhealthy);
    hooks.wake();
    bench.trace("trace", &format!("{id}\n"));
    hooks.stop();
    bench.store.clone().close(1);
    bench.store = open(&bench.directory);
    fs::write(bench.path("go"), "").unwrap();
    let hooks = bench.start(&[("page", bench.shell(script))]);
    bench.wait_acknowledged(id);
    hooks.stop();
    let trace = fs::read_to_string(bench.path("trace")).unwrap();
    assert_eq!(trace, format!("{id}\n{id}\nend\n"));
}

#[test]
fn a_hook_that_fails_is_not_run_again_and_stops_no_other() {
    let bench = Bench::new();
    let missing = Hook {
        command: vec!["/nonexistent".to_owned()],
        ..Hook::default()
    };
    let hooks = bench.start(&[
        ("failing", bench.shell("echo failing >> trace; exit 3")),
        ("good", bench.shell("echo good >> trace")),
        ("missing", missing),
    ]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    let id = bench.append("a", None, HealthState::Unhealthy);
    hooks.wake();
    bench.wait_acknowledged(id);
    assert_eq!(bench.trace("trace", "good"), "failing\ngood\n");
}

#[test]
fn a_hook_that_writes_without_end_and_reads_nothing_is_no_burden() {
    let bench = Bench::new();
    let script = "exec 0<&-; head -c 10000000 /dev/zero; echo done > trace";
    let hooks = bench.start(&[("loud", bench.shell(script))]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    let id = bench.append("a", None, HealthState::Unhealthy);
    hooks.wake();
    bench.trace("trace", "done");
    bench.wait_acknowledged(id);
}

#[test]
fn hooks_that_are_new_are_told_of_what_comes_after_them() {
    let bench = Bench::new();
    bench.append("a", None, HealthState::Unhealthy);
    let hooks = bench.start(&[]);
    eventually(|| bench.store.pending(1, "hooks", 1).ok());
    let before = bench.append("a", None, HealthState::Degraded);
    hooks.wake();
    bench.wait_acknowledged(before);
    let hook = bench.shell("echo $AUK_EVENT_ID >> trace");
    hooks.configure(HookSettings {
        hooks: BTreeMap::from([("late".to_owned(), hook)]),
        at_once: 1,
    });
    let id = bench.append("a", None, HealthState::Unhealthy);
    hooks.wake();
    bench.wait_acknowledged(id);
    assert_eq!(bench.trace("trace", "\n"), format!("{id}\n"));
}
