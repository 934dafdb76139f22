//! Reads that do not end: what the agent does about them, with readers as processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/reading.rs"]
mod reading;
#[path = "support/tree.rs"]
mod tree;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use auk_health::verdict::{Admit, HealthState};
use auk_health::{Agent, AgentHandle, Builder, ReaderCommand, Status, run_reader};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use reading::{readers_of, wait, wait_for, with_processes};
use tree::{CHIP, NIC, Tree, signs};

const DEADLINE: Duration = Duration::from_millis(500);

/// Not a test: what the readers of these tests run, in this program.
#[test]
#[ignore = "runs as a reader process of the other tests"]
fn reader_process() {
    // Without a test that started it there is no agent on the other side of standard input.
    let _ = run_reader();
}

fn builder(root: &Path) -> Builder {
    fast(with_processes(root))
}

/// Its readers take longer to start than a look may take.
fn with_slow_processes(root: &Path) -> Builder {
    let this = std::env::current_exe().unwrap();
    let arguments = [
        OsStr::new("-c"),
        OsStr::new("sleep 0.8; exec \"$0\" \"$@\""),
        this.as_os_str(),
        OsStr::new("reader_process"),
        OsStr::new("--exact"),
        OsStr::new("--ignored"),
        OsStr::new("--test-threads=1"),
        root.as_os_str(),
    ];
    Agent::builder(root).reader_command(ReaderCommand::new("/bin/sh", arguments))
}

fn with_threads(root: &Path) -> Builder {
    fast(Agent::builder(root))
}

fn fast(builder: Builder) -> Builder {
    builder
        .interval(Duration::from_millis(100))
        .read_deadline(DEADLINE)
}

/// In place of a file: to open it for reading never ends, until somebody opens it for writing.
fn hang(path: &Path) {
    fs::remove_file(path).unwrap();
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
}

/// Lets those go that hang in a file.
fn let_go(path: &Path) {
    drop(opened(path));
}

/// Lets those go that hang in a file, and nobody hangs in it again: by then it is another file.
fn heal(path: &Path, text: &str) {
    let hanging = opened(path);
    fs::remove_file(path).unwrap();
    fs::write(path, text).unwrap();
    drop(hanging);
}

fn opened(path: &Path) -> fs::File {
    let mut options = fs::File::options();
    options.read(true).write(true).open(path).unwrap()
}

/// A host with more NICs than the one of the tree.
fn with_nics(tree: &Tree, count: u32) -> Vec<String> {
    (0..count)
        .map(|index| {
            let bdf = format!("0000:{:02x}:00.0", 0x50 + index);
            let port = format!("0000:00:{index:02x}.1");
            tree.nic(&bdf, &port, &format!("eth1{index}"));
            bdf
        })
        .collect()
}

#[test]
fn a_read_that_never_ends_makes_its_component_unobservable_and_keeps_the_cadence_of_the_others() {
    let tree = Tree::new();
    let agent = builder(tree.root()).start().unwrap();
    wait_for(&agent, NIC, HealthState::Healthy);
    let file = tree.device(NIC).join("power_state");
    hang(&file);
    let hung = Instant::now();
    let status = wait(&agent, "the NIC is unobservable", |status| {
        let presence = status.component(NIC).unwrap().verdict("presence");
        presence.is_some_and(|presence| presence.state == HealthState::Unobservable)
    });
    // Not a measure of speed: it must not take the time that it takes to give up a reader for dead.
    assert!(
        hung.elapsed() < Duration::from_secs(10),
        "{:?}",
        hung.elapsed()
    );
    let reason = &status
        .component(NIC)
        .unwrap()
        .verdict("presence")
        .unwrap()
        .reason;
    assert!(reason.contains("did not end within 500 ms"), "{reason}");

    let before = agent.status();
    let status = wait(&agent, "the chip is looked at as before", |status| {
        status.agent.rounds >= before.agent.rounds + 20
    });
    let chip = status.component(CHIP).unwrap();
    assert!(
        chip.sample_age_ms.unwrap() < 5_000,
        "{:?}",
        chip.sample_age_ms
    );
    assert_eq!(status.agent.readers.held, 1);

    heal(&file, "D0\n");
    let status = wait_for(&agent, NIC, HealthState::Healthy);
    assert_eq!(status.agent.readers.held, 0);
    agent.stop().unwrap();
}

/// Has so many NICs more than the tree hang, and waits until none of them is seen.
fn hang_nics(tree: &Tree, agent: &AgentHandle, nics: &[String]) -> Vec<PathBuf> {
    wait(agent, "all NICs are healthy", |status| {
        let healthy = |bdf: &String| {
            status
                .component(bdf)
                .is_some_and(|nic| nic.state == HealthState::Healthy)
        };
        nics.iter().all(healthy)
    });
    let file = |bdf: &String| tree.device(bdf).join("power_state");
    let files: Vec<PathBuf> = nics.iter().map(file).collect();
    for file in &files {
        hang(file);
    }
    wait(agent, "none of them is seen", |status| {
        let blind = |bdf: &String| {
            let nic = status.component(bdf).unwrap();
            nic.state == HealthState::Unobservable
        };
        nics.iter().all(blind)
    });
    files
}

#[test]
fn a_dozen_reads_that_hang_hold_a_dozen_readers_and_the_rest_is_read_as_before() {
    let tree = Tree::new();
    let nics = with_nics(&tree, 12);
    let agent = builder(tree.root()).start().unwrap();
    hang_nics(&tree, &agent, &nics);
    let rounds = agent.status().agent.rounds;
    // On a busy machine others are late too, for a while.
    let status = wait(&agent, "a dozen held after ten more rounds", |status| {
        status.agent.rounds >= rounds + 10
            && status.agent.readers.held == 12
            && readers_of(tree.root()).len() == 12 + status.agent.readers.serving
    });
    assert_eq!(status.component(NIC).unwrap().state, HealthState::Healthy);
    agent.stop().unwrap();
    // They hung in a sleep that a signal ends.
    assert_eq!(readers_of(tree.root()), []);
}

#[test]
fn readers_that_take_long_to_start_are_not_taken_for_held_by_what_another_hangs_in() {
    let tree = Tree::new();
    let nics = with_nics(&tree, 3);
    let agent = fast(with_slow_processes(tree.root())).start().unwrap();
    hang_nics(&tree, &agent, &nics);
    wait(&agent, "three held, and the others seen", |status| {
        let seen = |bdf| {
            status
                .component(bdf)
                .is_some_and(|seen| seen.sample_age_ms < Some(2_000))
        };
        status.agent.readers.held == 3 && seen(CHIP) && seen(NIC)
    });
    agent.stop().unwrap();
}

#[test]
fn readers_that_hang_are_bounded_in_number_and_what_nobody_can_read_any_more_says_so() {
    let tree = Tree::new();
    let nics = with_nics(&tree, 40);
    let agent = with_threads(tree.root()).start().unwrap();
    let files = hang_nics(&tree, &agent, &nics);
    let says_so = |status: &Status, bdf: &String| {
        let component = status.component(bdf);
        let presence = component.and_then(|component| component.verdict("presence"));
        presence.is_some_and(|presence| presence.reason.contains("no reader is left"))
    };
    wait(&agent, "what cannot be read says so", |status| {
        assert!(
            status.agent.readers.held <= 32,
            "{:?}",
            status.agent.readers
        );
        nics.iter().any(|bdf| says_so(status, bdf))
    });
    for file in &files {
        heal(file, "D0\n");
    }
    wait(&agent, "all readers are free", |status| {
        status.agent.readers.held == 0
    });
    wait_for(&agent, NIC, HealthState::Healthy);
    agent.stop().unwrap();
}

#[test]
fn an_agent_whose_readers_hang_stops_and_starts_again_at_once() {
    let tree = Tree::new();
    let file = tree.device(NIC).join("power_state");
    hang(&file);
    let agent = builder(tree.root()).start().unwrap();
    wait(&agent, "a reader hangs", |status| {
        status.agent.readers.held > 0
    });
    let stop = Instant::now();
    agent.stop().unwrap();
    assert!(stop.elapsed() < Duration::from_secs(5));
    let agent = builder(tree.root()).start().unwrap();
    wait_for(&agent, CHIP, HealthState::Unhealthy);
    agent.stop().unwrap();
}

#[test]
fn a_list_of_devices_that_never_comes_is_told_and_the_known_components_are_still_read() {
    let tree = Tree::new();
    let agent = builder(tree.root()).start().unwrap();
    wait_for(&agent, NIC, HealthState::Healthy);
    // A new function whose identity cannot be read holds up the list.
    let links = tree.root().join("sys/bus/pci/devices");
    let function = tree.root().join("sys/devices/pci0000:00/0000:00:1f.0");
    fs::create_dir_all(&function).unwrap();
    mkfifo(&function.join("vendor"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    symlink(
        "../../../devices/pci0000:00/0000:00:1f.0",
        links.join("0000:00:1f.0"),
    )
    .unwrap();
    let status = wait(&agent, "the list is late", |status| {
        status.discovery_error.is_some()
    });
    let rounds = status.agent.rounds;
    let status = wait(&agent, "five more rounds", |status| {
        status.agent.rounds > rounds + 5
    });
    assert_eq!(status.component(NIC).unwrap().state, HealthState::Healthy);
    let_go(&function.join("vendor"));
    agent.stop().unwrap();
}

#[test]
fn a_reader_that_is_killed_is_replaced() {
    let tree = Tree::new();
    let agent = builder(tree.root()).start().unwrap();
    wait_for(&agent, NIC, HealthState::Healthy);
    let started = agent.status().agent.readers.started;
    for pid in readers_of(tree.root()) {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    wait(&agent, "another reader", |status| {
        status.agent.readers.started > started
    });
    wait_for(&agent, NIC, HealthState::Healthy);
    agent.stop().unwrap();
}

#[test]
fn a_program_that_is_no_reader_leaves_everything_unobservable_and_held() {
    let tree = Tree::new();
    let agent = Agent::builder(tree.root())
        .interval(Duration::from_millis(100))
        .reader_command(ReaderCommand::new("/bin/true", [""; 0]))
        .start()
        .unwrap();
    let status = wait(&agent, "three rounds", |status| status.agent.rounds > 3);
    assert!(status.components.is_empty());
    assert!(status.discovery_error.is_some());
    agent.stop().unwrap();
}

#[test]
fn a_device_that_is_taken_out_and_put_back_is_read_again() {
    let tree = Tree::new();
    let agent = builder(tree.root()).start().unwrap();
    wait_for(&agent, NIC, HealthState::Healthy);
    let address = tree.root().join("sys/class/net/eth0");
    fs::remove_file(&address).unwrap();
    tree.remove(NIC);
    let status = wait_for(&agent, NIC, HealthState::Unhealthy);
    assert_eq!(status.component(NIC).unwrap().admission.answer, Admit::No);
    tree.nic(NIC, "0000:00:10.0", "eth0");
    wait_for(&agent, NIC, HealthState::Healthy);
    agent.stop().unwrap();
}

#[test]
fn what_a_chip_says_comes_through_a_reader_process_as_it_was_written() {
    let tree = Tree::new();
    let agent = builder(tree.root()).start().unwrap();
    let status = wait(&agent, "the vital signs", |status| {
        status
            .component(CHIP)
            .is_some_and(|chip| chip.vitals.is_some())
    });
    let chip = status.component(CHIP).unwrap();
    assert_eq!(
        chip.identity.serial.as_deref(),
        Some("a1-00-00-00-00-00-00-01")
    );
    let vitals = chip.vitals.as_ref().unwrap();
    assert_eq!(vitals.heartbeat, signs().heartbeat);
    assert_eq!(vitals.die_celsius, 51.2);
    assert_eq!(status.agent.config_access.direct, 1);
    agent.stop().unwrap();
}
