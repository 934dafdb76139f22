//! `auk agent` as a service: what it tells the service manager, by sd_notify(3).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use cli_support::{Running, SOON, SimHost, command};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// The service manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { socket, directory }
    }

    /// The command, started as systemd would.
    fn start(&self, command: &mut Command) -> Running {
        command
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }

    fn start_agent(&self, root: &Path, args: &[&str]) -> Running {
        self.start(command(&["agent"]).args(args).arg("--root").arg(root))
    }

    /// The next message, its lines.
    #[track_caller]
    fn next(&self) -> Vec<String> {
        self.socket.set_read_timeout(Some(SOON)).unwrap();
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("a message in time");
        let text = std::str::from_utf8(&message[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Reads on until a message is as wanted, and returns all of them.
    #[track_caller]
    fn until(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<Vec<String>> {
        let start = Instant::now();
        let mut read = Vec::new();
        while start.elapsed() < SOON {
            read.push(self.next());
            if read.last().is_some_and(|message| wanted(message)) {
                return read;
            }
        }
        panic!("{what} was not told: {read:?}");
    }

    #[track_caller]
    fn until_told(&self, line: &str) -> Vec<Vec<String>> {
        self.until(line, |message| message == [line])
    }
}

fn signal(agent: &Running, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(agent.pid()).unwrap());
    kill(pid, signal).unwrap();
}

#[test]
fn a_service_is_ready_once_it_has_looked_and_tells_how_many_are_how() {
    let host = SimHost::start(2, 0);
    let manager = Manager::new();
    let _agent = manager.start_agent(&host.root, &["--interval", "100"]);
    let before = manager.until_told("READY=1");
    // The two chips and the host itself.
    let counts = |message: &Vec<String>| {
        let status = message[0].strip_prefix("STATUS=").unwrap_or_default();
        let words = status.split([' ', ',']);
        words
            .filter_map(|word| word.parse::<u32>().ok())
            .sum::<u32>()
            == 3
    };
    assert!(before.iter().any(counts), "{before:?}");
    if before
        .iter()
        .all(|message| message != &["STATUS=3 healthy"])
    {
        manager.until_told("STATUS=3 healthy");
    }
    host.auk(&["sim", "inject", "ecc-ue", "0000:02:00.0"])
        .expect_code(0);
    let after = manager.until_told("STATUS=1 unhealthy, 2 healthy");
    assert!(
        after.iter().all(|message| message != &["READY=1"]),
        "ready twice: {after:?}"
    );
}

#[test]
fn the_watchdog_is_fed_between_looks_that_are_an_hour_apart() {
    let host = SimHost::start(1, 0);
    let manager = Manager::new();
    let mut agent = command(&["agent", "--interval", "3600000", "--root"]);
    agent.arg(&host.root).env("WATCHDOG_USEC", "400000");
    let _agent = manager.start(&mut agent);
    manager.until_told("READY=1");
    for _ in 0..3 {
        manager.until_told("WATCHDOG=1");
    }
}

#[test]
fn nobody_is_fed_whose_watchdog_is_for_another_process() {
    let host = SimHost::start(1, 0);
    let manager = Manager::new();
    let mut agent = command(&["agent", "--interval", "50", "--root"]);
    agent
        .arg(&host.root)
        .env("WATCHDOG_USEC", "200000")
        .env("WATCHDOG_PID", "1");
    let agent = manager.start(&mut agent);
    manager.until_told("READY=1");
    signal(&agent, Signal::SIGTERM);
    let rest = manager.until_told("STOPPING=1");
    assert!(
        rest.iter().all(|message| message != &["WATCHDOG=1"]),
        "{rest:?}"
    );
}

#[test]
fn a_reload_is_told_with_its_time_and_ends_in_ready_whether_it_is_good_or_bad() {
    let host = SimHost::start(1, 0);
    let manager = Manager::new();
    let agent = manager.start_agent(&host.root, &["--interval", "100"]);
    manager.until_told("READY=1");
    let now = || {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        i128::from(now.tv_sec()) * 1_000_000 + i128::from(now.tv_nsec()) / 1000
    };
    let asked = now();
    signal(&agent, Signal::SIGHUP);
    let told = manager.until("RELOADING", |message| message[0] == "RELOADING=1");
    let time = told.last().unwrap()[1].strip_prefix("MONOTONIC_USEC=");
    let time: i128 = time.unwrap().parse().unwrap();
    assert!((asked..=now()).contains(&time), "{asked} {time}");
    manager.until_told("READY=1");

    fs::create_dir_all(host.root.join("etc/auk")).unwrap();
    fs::write(host.root.join("etc/auk/agent.toml"), "intervall = 1").unwrap();
    signal(&agent, Signal::SIGHUP);
    manager.until("RELOADING", |message| message[0] == "RELOADING=1");
    manager.until_told("READY=1");
    manager.until("a STATUS on it", |message| {
        message[0].ends_with("; the configuration could not be reloaded")
    });
}

#[test]
fn a_stop_is_told_before_it_is_done() {
    let host = SimHost::start(1, 0);
    let manager = Manager::new();
    let agent = manager.start_agent(&host.root, &["--interval", "100"]);
    manager.until_told("READY=1");
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
    manager.until_told("STOPPING=1");
}

#[test]
fn a_manager_that_went_away_disturbs_no_agent() {
    let host = SimHost::start(1, 0);
    let manager = Manager::new();
    let agent = manager.start_agent(&host.root, &["--interval", "100"]);
    manager.until_told("READY=1");
    drop(manager);
    host.auk(&["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .expect_code(0);
    cli_support::eventually("an unhealthy chip", || {
        let outcome = host.auk(&["status"]);
        outcome.stdout.contains("ecc_ue").then_some(())
    });
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn an_opener_is_ready_once_it_can_be_asked() {
    let manager = Manager::new();
    let root = tempfile::tempdir().unwrap();
    let mut opener = command(&["agent-opener", "--user", "0", "--root"]);
    let _opener = manager.start(opener.arg(root.path()));
    manager.until_told("READY=1");
    assert!(auk_health::opener::socket_path(root.path()).exists());
}
