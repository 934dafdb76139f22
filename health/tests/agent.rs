//! The whole agent on a tree built by hand: its socket, its lock, its clients.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use auk_health::client::{ClientError, fetch_status};
use auk_health::verdict::HealthState;
use auk_health::{Agent, AgentError, AgentHandle, Status, WaitError, socket_path};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use tree::{CHIP, NIC, Tree, signs};

const SOON: Duration = Duration::from_secs(10);

fn start(tree: &Tree) -> AgentHandle {
    Agent::builder(tree.root())
        .interval(Duration::from_millis(50))
        .start()
        .unwrap()
}

/// What an agent says of a root that it has looked at twice.
fn after_two_rounds(root: &Path) -> Status {
    let agent = Agent::builder(root)
        .interval(Duration::from_millis(50))
        .start()
        .unwrap();
    let status = agent
        .wait_until(SOON, |status| status.agent.rounds > 1)
        .unwrap();
    agent.stop().unwrap();
    status
}

fn wait_for(agent: &AgentHandle, bdf: &str, state: HealthState) {
    let reached = agent.wait_until(SOON, |status| {
        status
            .component(bdf)
            .is_some_and(|component| component.state == state)
    });
    if reached.is_err() {
        panic!("{bdf} is not {state}: {:#?}", agent.status().component(bdf));
    }
}

#[test]
fn what_is_counted_is_looked_at_again_at_once_so_that_growth_can_be_seen() {
    let tree = Tree::new();
    let agent = Agent::builder(tree.root())
        .interval(Duration::from_millis(50))
        .slow_interval(Duration::from_secs(3600))
        .start()
        .unwrap();
    wait_for(&agent, NIC, HealthState::Healthy);
    agent.stop().unwrap();
}

#[test]
fn a_status_over_the_socket_is_the_status_of_the_handle() {
    let tree = Tree::new();
    let agent = start(&tree);
    wait_for(&agent, NIC, HealthState::Healthy);
    let status = fetch_status(tree.root(), SOON).unwrap();
    assert_eq!(status.agent.pid, std::process::id());
    assert!(status.agent.resident_bytes > 0);
    let ours = agent.status();
    let (theirs, ours) = (
        status.component(CHIP).unwrap(),
        ours.component(CHIP).unwrap(),
    );
    assert_eq!((&theirs.identity, theirs.kind), (&ours.identity, ours.kind));
    assert_eq!(theirs.vitals.as_ref().unwrap().die_celsius, 51.2);
    agent.stop().unwrap();
}

#[test]
fn after_a_stop_nothing_answers_and_no_socket_is_left() {
    let tree = Tree::new();
    start(&tree).stop().unwrap();
    assert!(!socket_path(tree.root()).exists());
    assert!(matches!(
        fetch_status(tree.root(), SOON),
        Err(ClientError::NoAgent { .. })
    ));
}

#[test]
fn a_second_agent_on_a_root_is_refused_and_names_the_first() {
    let tree = Tree::new();
    let agent = start(&tree);
    let error = Agent::builder(tree.root()).build().err().unwrap();
    let AgentError::AlreadyRunning { pid, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(pid, std::process::id().to_string());
    agent.stop().unwrap();
    start(&tree).stop().unwrap();
}

#[test]
fn the_socket_of_a_dead_agent_is_replaced() {
    let tree = Tree::new();
    let path = socket_path(tree.root());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(
        fetch_status(tree.root(), SOON),
        Err(ClientError::NoAgent { .. })
    ));
    let agent = start(&tree);
    fetch_status(tree.root(), SOON).unwrap();
    agent.stop().unwrap();
}

#[test]
fn a_root_that_is_not_there_is_refused() {
    let error = Agent::builder("/nonexistent").build().err().unwrap();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}

#[test]
fn only_loopback_is_served_beside_the_socket() {
    let tree = Tree::new();
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let error = Agent::builder(tree.root())
        .listen(Some(everywhere))
        .build()
        .err()
        .unwrap();
    assert!(matches!(error, AgentError::NotLoopback { .. }), "{error}");
}

#[test]
fn loopback_serves_the_same() {
    let tree = Tree::new();
    let loopback = "127.0.0.1:0".parse().unwrap();
    let agent = Agent::builder(tree.root())
        .listen(Some(loopback))
        .start()
        .unwrap();
    let mut stream = TcpStream::connect(agent.tcp_address().unwrap()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
        .write_all(b"GET /v1/status HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    agent.stop().unwrap();
}

#[test]
fn a_host_without_devices_is_watched_for_those_that_come() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("sys/bus/pci/devices")).unwrap();
    let status = after_two_rounds(directory.path());
    assert!(status.components.is_empty());
    assert_eq!(status.discovery_error, None);
}

#[test]
fn a_root_that_is_no_host_s_is_told_and_not_taken_for_an_empty_host() {
    let directory = tempfile::tempdir().unwrap();
    let status = after_two_rounds(directory.path());
    let error = status.discovery_error.unwrap();
    assert!(error.contains("sys/bus/pci/devices"), "{error}");
}

#[test]
fn an_agent_that_accepts_nobody_is_waited_for_until_the_deadline() {
    let tree = Tree::new();
    let path = socket_path(tree.root());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let listener = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let listener = listener.unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    // A backlog of 0 has room for one.
    let _first = UnixStream::connect(&path).unwrap();

    let (sender, answered) = std::sync::mpsc::channel();
    let root = tree.root().to_owned();
    thread::spawn(move || {
        // The receiver is gone only when the test has failed.
        let _ = sender.send(fetch_status(&root, Duration::from_millis(100)));
    });
    let answer = answered.recv_timeout(SOON).unwrap();
    assert!(
        matches!(answer, Err(ClientError::Timeout { .. })),
        "{answer:?}"
    );
}

#[test]
fn transitions_come_to_a_subscriber_and_end_with_the_agent() {
    let tree = Tree::new();
    let agent = start(&tree);
    let events = agent.subscribe();
    wait_for(&agent, NIC, HealthState::Healthy);
    tree.set_vitals(&auk_asic::vitals::VitalSigns {
        ecc_ue: 1,
        heartbeat: 9,
        ..signs()
    });
    let told = loop {
        let event = events.recv_timeout(SOON).unwrap();
        if event.check.as_deref() == Some("ecc_ue") && event.to == HealthState::Unhealthy {
            break event;
        }
    };
    assert_eq!(told.component, CHIP);
    assert_eq!(told.serial.as_deref(), Some("a1-00-00-00-00-00-00-01"));
    assert_eq!(told.evidence[0].found, "0 -> 1");
    assert!(told.evidence[0].source.ends_with(&format!("{CHIP}/config")));
    agent.stop().unwrap();
    while events.recv_timeout(SOON).is_ok() {}
}

#[test]
fn a_chip_whose_heartbeat_never_moved_is_never_healthy() {
    let tree = Tree::new();
    let agent = start(&tree);
    wait_for(&agent, CHIP, HealthState::Unhealthy);
    let status = agent.status();
    let verdict = status
        .component(CHIP)
        .unwrap()
        .verdict("heartbeat")
        .unwrap();
    assert_eq!(verdict.state, HealthState::Unhealthy);
    assert!(agent.status().transitions.iter().all(|transition| {
        transition.component != CHIP
            || transition.check.is_some()
            || transition.to != HealthState::Healthy
    }));
    agent.stop().unwrap();
}

#[test]
fn a_nic_that_is_removed_becomes_unhealthy() {
    let tree = Tree::new();
    let agent = start(&tree);
    wait_for(&agent, NIC, HealthState::Healthy);
    fs::remove_file(tree.interface()).unwrap();
    tree.remove(NIC);
    wait_for(&agent, NIC, HealthState::Unhealthy);
    agent.stop().unwrap();
}

#[test]
fn who_holds_the_lease_is_told_and_a_leftover_file_is_free() {
    let tree = Tree::new();
    let leases = tree.root().join("run/auk/lease");
    fs::create_dir_all(&leases).unwrap();
    let path = leases.join(CHIP);
    let pid = std::process::id();
    fs::write(
        &path,
        format!("{{\"pid\":{pid},\"comm\":\"train\",\"since\":1700000000}}\n"),
    )
    .unwrap();
    let agent = start(&tree);
    wait_for(&agent, NIC, HealthState::Healthy);
    assert_eq!(agent.status().component(CHIP).unwrap().holder, None);

    let lease = fs::File::open(&path).unwrap();
    lease.lock().unwrap();
    let status = agent.wait_until(SOON, |status| {
        status.component(CHIP).unwrap().holder.is_some()
    });
    let holder = status
        .unwrap()
        .component(CHIP)
        .unwrap()
        .holder
        .clone()
        .unwrap();
    assert_eq!((holder.pid, holder.comm.as_str()), (pid, "train"));
    agent.stop().unwrap();
}

#[test]
fn clients_that_say_nothing_keep_nobody_from_an_answer_nor_the_agent_from_its_end() {
    let tree = Tree::new();
    let agent = start(&tree);
    let silent: Vec<_> = (0..32)
        .map(|_| UnixStream::connect(socket_path(tree.root())).unwrap())
        .collect();
    fetch_status(tree.root(), SOON).unwrap();
    agent.stop().unwrap();
    drop(silent);
}

#[test]
fn a_server_that_answers_nothing_is_a_timeout_and_nonsense_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = socket_path(directory.path());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let error = fetch_status(directory.path(), Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");

    let answer = |answer: &'static str| {
        let listener = listener.try_clone().unwrap();
        let server = thread::spawn(move || {
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 256];
                // The first client has given up already.
                if stream.read(&mut request).is_ok_and(|read| read > 0)
                    && stream.write_all(answer.as_bytes()).is_ok()
                {
                    break;
                }
            }
        });
        let error = fetch_status(directory.path(), SOON).unwrap_err();
        server.join().unwrap();
        error
    };
    let error = answer("hello");
    assert!(matches!(error, ClientError::Malformed { .. }), "{error}");
    let error = answer("HTTP/1.0 200 OK\r\n\r\n{\"schema\":7}");
    assert!(
        matches!(error, ClientError::Schema { found: 7, .. }),
        "{error}"
    );
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let tree = Tree::new();
    let agent = start(&tree);
    let error = agent
        .wait_until(Duration::from_millis(100), |_| false)
        .unwrap_err();
    assert!(matches!(error, WaitError::Timeout { .. }));
    agent.stop().unwrap();
}

#[test]
fn a_link_that_trains_to_less_is_told_though_the_next_slow_look_is_an_hour_away() {
    let tree = Tree::new();
    let agent = Agent::builder(tree.root())
        .interval(Duration::from_millis(50))
        .slow_interval(Duration::from_secs(3600))
        .start()
        .unwrap();
    let link = |state| {
        let told = agent.wait_until(SOON, |status| {
            let verdict = status.component(CHIP).and_then(|chip| chip.verdict("link"));
            verdict.is_some_and(|verdict| verdict.state == state)
        });
        told.unwrap();
    };
    link(HealthState::Healthy);
    let rounds = agent.status().agent.rounds;
    // The first rounds read everything anyway.
    agent
        .wait_until(SOON, |status| status.agent.rounds > rounds + 5)
        .unwrap();
    tree.train(4);
    link(HealthState::Degraded);
    agent.stop().unwrap();
}

#[test]
fn a_look_asks_for_few_dwords_of_config_space_and_they_are_counted() {
    let tree = Tree::new();
    let agent = start(&tree);
    let after = |rounds| {
        let status = agent.wait_until(SOON, |status| status.agent.rounds >= rounds);
        let agent = status.unwrap().agent;
        (agent.config_dwords, agent.rounds)
    };
    let (early, first) = after(3);
    let (late, last) = after(first + 10);
    agent.stop().unwrap();
    let each = (late - early) / (last - first);
    // The chip's vital signs, and the NIC's vendor and device.
    assert!((16..=20).contains(&each), "{each}");
}

/// What a scrape gets that likes a format.
fn scrape(tree: &Tree, accept: &str) -> String {
    let mut stream = UnixStream::connect(socket_path(tree.root())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = format!("GET /metrics HTTP/1.0\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_metrics_are_whole_and_each_is_described_once_in_both_formats() {
    let tree = Tree::new();
    let agent = start(&tree);
    wait_for(&agent, NIC, HealthState::Healthy);
    for (accept, kind) in [
        ("text/plain", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0",
        ),
    ] {
        let answer = scrape(&tree, accept);
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        let open = kind.starts_with("application");
        assert_eq!(text.ends_with("# EOF\n"), open);
        whole(text, open);
    }
    agent.stop().unwrap();
}

fn whole(text: &str, open: bool) {
    let mut described = std::collections::BTreeSet::new();
    let mut series = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let (kind, rest) = rest.split_once(' ').unwrap();
            let (name, _) = rest.split_once(' ').unwrap();
            assert!(kind == "HELP" || kind == "TYPE", "{line}");
            assert!(
                described.insert((kind.to_owned(), name.to_owned())),
                "twice: {line}"
            );
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(series.insert(name.to_owned()), "twice: {line}");
        let name = name.split('{').next().unwrap();
        let parts = ["_sum", "_count", if open { "_total" } else { "" }];
        let base = parts.iter().find_map(|part| name.strip_suffix(part));
        let base = base.unwrap_or(name);
        for kind in ["HELP", "TYPE"] {
            assert!(
                described.contains(&(kind.to_owned(), base.to_owned())),
                "{line}"
            );
        }
    }
    let healthy = |state: &str| {
        format!("auk_component_state{{component=\"{NIC}\",kind=\"nic\",state=\"{state}\"}}")
    };
    assert!(
        text.contains(&format!("{} 1\n", healthy("healthy"))),
        "{text}"
    );
    assert!(text.contains(&format!("{} 0\n", healthy("unhealthy"))));
    assert!(text.contains(
        "auk_accelerator_ecc_errors_total{component=\"0000:01:00.0\",kind=\"accelerator\",severity=\"correctable\"} 3\n"
    ));
    assert!(text.contains(
        "auk_component_fact_age_seconds{component=\"0000:01:00.0\",kind=\"accelerator\",fact=\"vitals\"} 0"
    ));
}
