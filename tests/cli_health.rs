//! `auk agent` and `auk status`.

mod cli_support;

use cli_support::{SimHost, agent, auk_at, command, component, eventually, run};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The status once all components are healthy.
fn healthy(host: &SimHost) -> Value {
    eventually("a healthy host", || {
        let outcome = host.auk(&["status", "--json"]);
        let seen = outcome.code == Some(0) && outcome.json()["components"][0].is_object();
        seen.then(|| outcome.json())
    })
}

#[test]
fn a_status_without_an_agent_says_how_to_start_one() {
    let host = SimHost::start(1, 0);
    host.auk(&["status"]).expect_error(
        3,
        &[
            "no agent answers",
            "run/auk/agent.sock",
            "hint: run `auk agent",
        ],
    );
    auk_at("/nowhere/at/all".as_ref(), &["status"]).expect_error(3, &["no agent answers"]);
}

#[test]
fn a_healthy_host_ends_in_0() {
    let host = SimHost::start(2, 1);
    let (agent, line) = agent(&host.root, &[]);
    assert!(line.contains("agent.sock"), "{line}");
    let status = healthy(&host);
    assert_eq!(status["components"].as_array().unwrap().len(), 3);
    assert_eq!(status["agent"]["pid"], agent.pid());
    let text = host.auk(&["status"]).expect_code(0).stdout;
    assert_eq!(text.lines().count(), 4, "{text}");
    let all = host.auk(&["status", "--all"]).expect_code(0).stdout;
    assert!(all.contains("0000:01:00.0 ecc_ue"), "{all}");
}

#[test]
fn a_sick_chip_ends_in_1_with_evidence_that_names_the_counter() {
    let host = SimHost::start(2, 0);
    let (_agent, _) = agent(&host.root, &[]);
    healthy(&host);
    host.auk(&["sim", "inject", "ecc-ue", "0000:02:00.0"])
        .expect_code(0);
    let status = eventually("an unhealthy chip", || {
        let outcome = host.auk(&["status", "--json"]);
        (outcome.code == Some(1)).then(|| outcome.json())
    });
    assert_eq!(component(&status, "0000:02:00.0")["state"], "unhealthy");
    assert_eq!(component(&status, "0000:01:00.0")["state"], "healthy");
    let text = host.auk(&["status"]).expect_code(1).stdout;
    for part in ["unhealthy", "0000:02:00.0 ecc_ue", "ecc_ue 0 -> 1", "to do"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let narrow = run(command(&["status", "--root"])
        .arg(&host.root)
        .env("COLUMNS", "20"));
    let narrow = narrow.expect_code(1).stdout;
    assert!(narrow.contains("  state  unhealthy"), "{narrow}");
}

#[test]
fn each_signal_that_ends_the_agent_takes_its_socket_with_it() {
    let host = SimHost::start(1, 0);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (agent, _) = agent(&host.root, &[]);
        assert_eq!(agent.stop(signal).code(), Some(0), "{signal}");
        assert!(!host.root.join("run/auk/agent.sock").exists(), "{signal}");
    }
}

#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() {
    let host = SimHost::start(1, 0);
    let (first, _) = agent(&host.root, &[]);
    host.auk(&["agent"])
        .expect_error(3, &["another agent", &first.pid().to_string()]);
    healthy(&host);
}

#[test]
fn an_agent_outlives_the_host_that_it_watches() {
    let host = SimHost::start(1, 0);
    let (agent, _) = agent(&host.root, &[]);
    healthy(&host);
    let SimHost {
        running,
        root,
        directory: _directory,
        ..
    } = host;
    assert_eq!(running.stop(Signal::SIGINT).code(), Some(0));
    eventually("a host that is not well", || {
        (auk_at(&root, &["status"]).code == Some(1)).then_some(())
    });
    assert_eq!(agent.stop(Signal::SIGINT).code(), Some(0));
}

#[test]
fn an_agent_serves_loopback_and_nothing_wider() {
    let host = SimHost::start(1, 0);
    host.auk(&["agent", "--listen", "0.0.0.0:0"])
        .expect_error(3, &["0.0.0.0:0", "loopback"]);
    let (_agent, line) = agent(&host.root, &["--listen", "127.0.0.1:0"]);
    assert!(line.contains("http://127.0.0.1:"), "{line}");
}

#[test]
fn an_agent_needs_a_root_that_is_there() {
    auk_at("/nowhere/at/all".as_ref(), &["agent"]).expect_error(3, &["/nowhere/at/all"]);
}
