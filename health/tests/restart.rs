//! What an agent knows outlives it: stopped, killed, or with its host booted anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use auk_asic::vitals::VitalSigns;
use auk_health::client;
use auk_health::operator::{Mode, Order};
use auk_health::store::{self, Event, Query, Reader};
use auk_health::verdict::{Admit, HealthState};
use auk_health::{Agent, AgentError, AgentHandle, Status, StoreError};
use tempfile::TempDir;
use tree::{CHIP, NIC, Tree, signs};

/// Generous: the machine that runs the tests may be busy.
const SOON: Duration = Duration::from_secs(30);

/// A host and the state directory of its agents.
struct Bench {
    tree: Tree,
    state: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            tree: Tree::new(),
            state: tempfile::tempdir().unwrap(),
        };
        bench.boot("one");
        bench
    }

    /// As the kernel has it since a boot of that name.
    fn boot(&self, id: &str) {
        let directory = self.tree.root().join("proc/sys/kernel/random");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("boot_id"), format!("{id}\n")).unwrap();
    }

    fn start(&self) -> AgentHandle {
        self.start_with(self.state.path())
    }

    fn start_with(&self, state: &Path) -> AgentHandle {
        Agent::builder(self.tree.root())
            .interval(Duration::from_millis(50))
            .state_directory(state)
            .start()
            .unwrap()
    }

    /// Ends an agent as `kill -9` does: what the next one finds is what was on disk before.
    fn kill(&self, agent: AgentHandle) -> PathBuf {
        let found = self.state.path().join("found");
        fs::create_dir_all(&found).unwrap();
        for suffix in ["-wal", ""] {
            let mut name = store::file(self.state.path()).into_os_string();
            name.push(suffix);
            let file = PathBuf::from(name);
            fs::copy(&file, found.join(file.file_name().unwrap())).unwrap();
        }
        agent.stop().unwrap();
        found
    }

    fn events(&self) -> Vec<Event> {
        let reader = Reader::open(self.state.path()).unwrap();
        reader.events(&Query::default()).unwrap().events
    }

    fn order(&self, order: &Order) {
        client::order(self.tree.root(), order, SOON).unwrap();
    }
}

fn looked_at(agent: &AgentHandle, rounds: u64) -> Status {
    let begin = agent.status().agent.rounds;
    let seen = agent.wait_until(SOON, |status| status.agent.rounds >= begin + rounds);
    seen.unwrap()
}

fn verdict(status: &Status, bdf: &str, check: &str) -> HealthState {
    let component = status.component(bdf).unwrap();
    component.verdict(check).unwrap().state
}

fn wait_for(agent: &AgentHandle, bdf: &str, check: &str, state: HealthState) -> Status {
    let reached = agent.wait_until(SOON, |status| {
        let component = status.component(bdf);
        let verdict = component.and_then(|component| component.verdict(check));
        verdict.is_some_and(|verdict| verdict.state == state)
    });
    reached.unwrap_or_else(|_| panic!("{check} is not {state}: {:#?}", agent.status()))
}

/// Counts an uncorrectable error, of which the chip leaves no other trace.
fn uncorrectable(bench: &Bench) {
    bench.tree.set_vitals(&VitalSigns {
        ecc_ue: 1,
        ..signs()
    });
}

/// An agent that knows of an uncorrectable error.
fn ill(bench: &Bench) -> (AgentHandle, u64) {
    let agent = bench.start();
    wait_for(&agent, CHIP, "ecc_ue", HealthState::Healthy);
    uncorrectable(bench);
    let status = wait_for(&agent, CHIP, "ecc_ue", HealthState::Unhealthy);
    let verdict = status.component(CHIP).unwrap().verdict("ecc_ue").unwrap();
    (agent, verdict.since_unix_ms)
}

fn stands(agent: &AgentHandle, since: u64) {
    let status = looked_at(agent, 3);
    let chip = status.component(CHIP).unwrap();
    let verdict = chip.verdict("ecc_ue").unwrap();
    assert_eq!(verdict.state, HealthState::Unhealthy, "{verdict:#?}");
    assert_eq!(verdict.since_unix_ms, since);
    assert_eq!(chip.admission.answer, Admit::No);
}

#[test]
fn without_its_memory_an_agent_takes_an_old_count_for_history() {
    let bench = Bench::new();
    uncorrectable(&bench);
    let agent = bench.start();
    wait_for(&agent, CHIP, "ecc_ue", HealthState::Healthy);
    agent.stop().unwrap();
}

#[test]
fn an_open_uncorrectable_error_stands_after_a_restart_a_kill_and_a_reboot() {
    let bench = Bench::new();
    let (agent, since) = ill(&bench);
    let killed = bench.kill(agent);
    let agent = bench.start();
    stands(&agent, since);
    agent.stop().unwrap();
    let agent = bench.start_with(&killed);
    stands(&agent, since);
    agent.stop().unwrap();
    bench.boot("two");
    let agent = bench.start();
    stands(&agent, since);
    agent.stop().unwrap();
    let boots: Vec<_> = bench
        .events()
        .into_iter()
        .filter(|event| event.record.kind == "agent_start")
        .map(|event| event.boot_id)
        .collect();
    assert_eq!(boots, ["one", "one", "two"]);
}

#[test]
fn what_was_judged_before_is_not_told_again() {
    let bench = Bench::new();
    let (agent, _) = ill(&bench);
    agent.stop().unwrap();
    let before = bench.events();
    let agent = bench.start();
    looked_at(&agent, 3);
    agent.stop().unwrap();
    let after = bench.events();
    assert_eq!(after[..before.len()], before);
    let mut ids = after.iter().map(|event| event.id);
    let mut last = 0;
    assert!(ids.all(|id| std::mem::replace(&mut last, id) < id));
    let told: Vec<_> = after
        .iter()
        .filter_map(Event::transition)
        .filter(|change| change.check.as_deref() == Some("ecc_ue"))
        .filter(|change| change.to == HealthState::Unhealthy)
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
}

#[test]
fn holds_and_switches_stand_and_what_was_cleared_does_not_come_back() {
    let bench = Bench::new();
    let agent = bench.start();
    wait_for(&agent, NIC, "aer_uncorrectable", HealthState::Healthy);
    let errors = bench.tree.device(NIC).join("aer_dev_nonfatal");
    fs::write(errors, "TOTAL_ERR_NONFATAL 1\n").unwrap();
    wait_for(&agent, NIC, "aer_uncorrectable", HealthState::Degraded);
    let reason = || "a cable was changed".to_owned();
    bench.order(&Order::Clear {
        component: NIC.to_owned(),
        check: Some("aer_uncorrectable".to_owned()),
        reason: reason(),
    });
    bench.order(&Order::Hold {
        component: NIC.to_owned(),
        reason: reason(),
        seconds: None,
    });
    bench.order(&Order::Switch {
        check: "throttle".to_owned(),
        mode: Some(Mode::Off),
        reason: reason(),
    });
    let killed = bench.kill(agent);
    for state in [bench.state.path(), &killed] {
        let agent = bench.start_with(state);
        let status = looked_at(&agent, 25);
        let nic = status.component(NIC).unwrap();
        assert_eq!(
            verdict(&status, NIC, "aer_uncorrectable"),
            HealthState::Healthy
        );
        assert_eq!(nic.admission.answer, Admit::Hold);
        assert_eq!(nic.hold.as_ref().unwrap().reason, reason());
        assert_eq!(status.switches[0].check, "throttle");
        agent.stop().unwrap();
    }
    let orders: Vec<_> = bench.events().iter().filter_map(Event::order).collect();
    assert_eq!(orders.len(), 3, "{orders:#?}");
}

#[test]
fn the_last_changes_are_in_the_status_of_the_next_agent() {
    let bench = Bench::new();
    let (agent, _) = ill(&bench);
    agent.stop().unwrap();
    let agent = bench.start();
    let changes = agent.status().transitions;
    let mut last = changes.iter().rev().map(|change| change.check.as_deref());
    assert!(last.any(|check| check == Some("ecc_ue")), "{changes:#?}");
    let stored = bench.events();
    let stored: Vec<_> = stored.iter().filter_map(Event::transition).collect();
    assert!(stored.starts_with(&changes), "{changes:#?}");
    agent.stop().unwrap();
}

#[test]
fn what_went_while_no_agent_ran_is_missed() {
    let bench = Bench::new();
    let agent = bench.start();
    wait_for(&agent, NIC, "presence", HealthState::Healthy);
    agent.stop().unwrap();
    fs::remove_file(bench.tree.interface()).unwrap();
    bench.tree.remove(NIC);
    let agent = bench.start();
    wait_for(&agent, NIC, "presence", HealthState::Unhealthy);
    agent.stop().unwrap();
}

#[test]
fn the_file_of_a_newer_agent_is_refused_in_words_and_left_as_it_is() {
    let bench = Bench::new();
    bench.start().stop().unwrap();
    let file = store::file(bench.state.path());
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let before = fs::read(&file).unwrap();
    let refused = Agent::builder(bench.tree.root())
        .state_directory(bench.state.path())
        .build();
    let error = refused.err().unwrap();
    assert!(
        matches!(
            error,
            AgentError::Store(StoreError::Newer { found: 99, .. })
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("a newer agent wrote it"),
        "{error}"
    );
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_damaged_file_is_set_aside_and_that_is_told() {
    let bench = Bench::new();
    bench.start().stop().unwrap();
    fs::write(store::file(bench.state.path()), [0x5A; 8192]).unwrap();
    let agent = bench.start();
    let status = looked_at(&agent, 2);
    assert!(status.store.unwrap().writable);
    agent.stop().unwrap();
    let events = bench.events();
    let told = events
        .iter()
        .find(|event| event.record.kind == "store_set_aside");
    let summary = &told.unwrap().record.summary;
    assert!(summary.contains("health.db.corrupt-"), "{summary}");
}

#[test]
fn a_file_that_somebody_else_has_locked_is_written_when_he_lets_go() {
    let bench = Bench::new();
    let agent = bench.start();
    wait_for(&agent, NIC, "presence", HealthState::Healthy);
    let other = rusqlite::Connection::open(store::file(bench.state.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reason = "while somebody looks into the file".to_owned();
    let component = NIC.to_owned();
    bench.order(&Order::Hold {
        component,
        reason,
        seconds: None,
    });
    let unwritable = agent.wait_until(SOON, |status| !status.store.as_ref().unwrap().writable);
    let status = unwritable.unwrap();
    assert_eq!(status.component(NIC).unwrap().admission.answer, Admit::Hold);
    assert!(status.store.unwrap().reason.unwrap().contains("locked"));
    other.execute_batch("ROLLBACK").unwrap();
    let written = agent.wait_until(SOON, |status| status.store.as_ref().unwrap().writable);
    written.unwrap();
    agent.stop().unwrap();
    let orders: Vec<_> = bench.events().iter().filter_map(Event::order).collect();
    assert_eq!(orders.len(), 1, "{orders:#?}");
}

#[test]
fn an_agent_that_has_nowhere_to_write_runs_from_memory_and_says_so() {
    let bench = Bench::new();
    let taken = bench.state.path().join("taken");
    fs::write(&taken, "a file, where a directory should be").unwrap();
    let agent = bench.start_with(&taken.join("auk"));
    let status = wait_for(&agent, NIC, "presence", HealthState::Healthy);
    let store = status.store.unwrap();
    assert!(!store.writable);
    assert!(store.unwritten > 0);
    let reason = store.reason.unwrap();
    assert!(reason.contains("taken"), "{reason}");
    let metrics = client::fetch_metrics(bench.tree.root(), SOON).unwrap();
    assert!(metrics.contains("\nauk_store_writable 0\n"), "{metrics}");
    fs::remove_file(&taken).unwrap();
    let written = agent.wait_until(SOON, |status| status.store.as_ref().unwrap().writable);
    assert_eq!(written.unwrap().store.unwrap().lost, 0);
    agent.stop().unwrap();
    let reader = Reader::open(&taken.join("auk")).unwrap();
    let events = reader.events(&Query::default()).unwrap().events;
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event.record.kind.as_str())
        .collect();
    assert_eq!(kinds[0], "store_unwritable");
    assert!(kinds.contains(&"transition"), "{kinds:?}");
    assert!(kinds.contains(&"store_writable"), "{kinds:?}");
}
