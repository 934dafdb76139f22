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
    assert_eq!(status["components"].as_array().unwrap().len(), 4);
    assert_eq!(status["agent"]["pid"], agent.pid());
    let text = host.auk(&["status"]).expect_code(0).stdout;
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(
        text.starts_with("all 4 healthy; new jobs may start on all\n"),
        "{text}"
    );
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
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
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

#[test]
fn the_worst_component_comes_first_and_the_first_line_says_how_many_are_how() {
    let host = SimHost::start(2, 0);
    let (_agent, _) = agent(&host.root, &[]);
    healthy(&host);
    host.auk(&["sim", "inject", "ecc-ue", "0000:02:00.0"])
        .expect_code(0);
    let text = eventually("an unhealthy chip", || {
        let outcome = host.auk(&["status"]);
        (outcome.code == Some(1)).then_some(outcome.stdout)
    });
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "1 unhealthy, 2 healthy; no new jobs on 1 of 3");
    assert!(lines[3].starts_with("0000:02:00.0  unhealthy"), "{text}");
    assert!(lines[4].starts_with("0000:01:00.0  healthy"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour where no terminal is");
    for columns in ["80", "200"] {
        let shown = run(command(&["status", "--root"])
            .arg(&host.root)
            .env("COLUMNS", columns));
        let most: usize = columns.parse().unwrap();
        for line in shown.stdout.lines() {
            assert!(line.chars().count() <= most, "{columns}: {line}");
        }
    }
}

#[test]
fn an_unhealthy_chip_is_explained_with_evidence_and_what_would_end_it() {
    let host = SimHost::start(1, 0);
    let (_agent, _) = agent(&host.root, &[]);
    healthy(&host);
    host.auk(&["explain", "0000:01:00.0"]).expect_code(0);
    host.auk(&["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .expect_code(0);
    let text = eventually("an unhealthy chip", || {
        let outcome = host.auk(&["explain", "01:00.0"]);
        (outcome.code == Some(1)).then_some(outcome.stdout)
    });
    for part in ["ecc_ue 0 -> 1", "ends when", "self-test", "serial", "WHEN"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let json = host.auk(&["explain", "01:00.0", "--json"]).json();
    assert_eq!(json["component"]["state"], "unhealthy");
    host.auk(&["explain", "0000:77:00.0"])
        .expect_error(3, &["0000:77:00.0", "hint: it watches 0000:01:00.0"]);
}

#[test]
fn check_answers_as_nagios_wants_it() {
    let host = SimHost::start(2, 0);
    let outcome = host.auk(&["check"]).expect_code(3);
    assert!(outcome.stdout.starts_with("AUK UNKNOWN - "), "{outcome:?}");
    let (_agent, _) = agent(&host.root, &[]);
    healthy(&host);
    let outcome = host.auk(&["check"]).expect_code(0);
    assert_eq!(outcome.stdout, "AUK OK - 3 of 3 healthy\n");
    host.auk(&["check", "ecc_ue", "01:00.0"]).expect_code(0);
    host.auk(&["check", "no_such_thing"]).expect_code(3);
    host.auk(&["sim", "inject", "ecc-ue", "0000:02:00.0"])
        .expect_code(0);
    let outcome = eventually("an unhealthy chip", || {
        let outcome = host.auk(&["check"]);
        (outcome.code == Some(2)).then_some(outcome)
    });
    assert!(
        outcome.stdout.starts_with("AUK CRITICAL - 0000:02:00.0 "),
        "{outcome:?}"
    );
    assert_eq!(outcome.stdout.lines().count(), 1);
    host.auk(&["check", "01:00.0"]).expect_code(0);
    host.auk(&["check", "ecc_ue"]).expect_code(2);
    assert_eq!(host.auk(&["check", "--json"]).json()["code"], 2);
    host.auk(&["check", "--prolog", "01:00.0"]).expect_code(0);
    host.auk(&["check", "--prolog", "02:00.0"]).expect_code(1);
    host.auk(&["check", "--epilog"]).expect_code(1);
}

#[test]
fn an_agent_that_does_not_answer_refuses_no_job() {
    let host = SimHost::start(1, 0);
    let outcome = host.auk(&["check", "--prolog"]).expect_code(0);
    assert!(outcome.stderr.contains("no agent answers"), "{outcome:?}");
}

#[test]
fn a_hold_refuses_a_prolog_and_no_epilog_and_is_released() {
    let host = SimHost::start(1, 0);
    let (_agent, _) = agent(&host.root, &[]);
    healthy(&host);
    let hold = ["hold", "01:00.0", "--reason", "reseating", "--for", "2h"];
    let outcome = host.auk(&hold).expect_code(0);
    assert!(
        outcome.stdout.contains("reseating; for 7200 s"),
        "{outcome:?}"
    );
    let outcome = host.auk(&["check", "--prolog"]).expect_code(1);
    assert!(outcome.stdout.contains("reseating"), "{outcome:?}");
    host.auk(&["check", "--epilog"]).expect_code(0);
    let status = host.auk(&["status", "--json"]).expect_code(0).json();
    let author = &component(&status, "0000:01:00.0")["hold"]["author"];
    assert_eq!(author["uid"], nix::unistd::getuid().as_raw());
    let text = host.auk(&["status"]).stdout;
    assert!(text.contains("0000:01:00.0 is held"), "{text}");
    host.auk(&["release", "0000:01:00.0"]).expect_code(0);
    host.auk(&["check", "--prolog"]).expect_code(0);
    host.auk(&["release", "0000:01:00.0"])
        .expect_error(3, &["is not held"]);
    host.auk(&["hold", "01:00.0", "--reason", "x", "--for", "2"])
        .expect_error(2, &["no time such as"]);
}

#[test]
fn a_clear_without_evidence_is_refused_with_what_is_missing() {
    let host = SimHost::start(1, 0);
    let (_agent, _) = agent(&host.root, &[]);
    healthy(&host);
    host.auk(&["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .expect_code(0);
    eventually("an unhealthy chip", || {
        (host.auk(&["check", "ecc_ue"]).code == Some(2)).then_some(())
    });
    host.auk(&["clear", "01:00.0", "--reason", "I know better"])
        .expect_error(3, &["has not been restarted"]);
}

#[test]
fn a_check_that_is_switched_off_says_by_whom_and_why() {
    let host = SimHost::start(1, 0);
    let (_agent, _) = agent(&host.root, &[]);
    healthy(&host);
    host.auk(&["switch", "temperature", "off", "--reason", "sensor recall"])
        .expect_code(0);
    let text = host.auk(&["status"]).expect_code(0).stdout;
    for part in ["check temperature is off", "sensor recall"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    host.auk(&["switch", "temprature", "off", "--reason", "x"])
        .expect_error(3, &["temprature", "temperature"]);
}

#[test]
fn orders_over_tcp_are_refused() {
    let host = SimHost::start(1, 0);
    let (_agent, line) = agent(&host.root, &["--listen", "127.0.0.1:0"]);
    let address = line.rsplit("http://").next().unwrap().trim();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let body = r#"{"order":"hold","component":"host","reason":"x"}"#;
    let request = format!(
        "POST /v1/orders HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 403"), "{answer}");
}

#[test]
fn another_user_may_read_and_not_order() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: another user needs root to become one");
        return;
    }
    let host = SimHost::start(1, 0);
    let (_agent, _) = agent(&host.root, &[]);
    healthy(&host);
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(host.directory.path(), everybody).unwrap();
    // The build's directory may be closed to others.
    let copy = host.directory.path().join("auk");
    std::fs::copy(env!("CARGO_BIN_EXE_auk"), &copy).unwrap();
    let as_nobody = |args: &[&str]| {
        let mut command = std::process::Command::new(&copy);
        command.args(args).arg("--root").arg(&host.root).uid(NOBODY);
        run(&mut command)
    };
    as_nobody(&["status"]).expect_code(0);
    as_nobody(&["hold", "01:00.0", "--reason", "mine"])
        .expect_error(3, &["you are uid 65534", "root"]);
}
