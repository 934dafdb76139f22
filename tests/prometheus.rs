//! What the agent serves is fit for Prometheus, by Prometheus itself: the `prometheus` package of Debian.
#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod cli_support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cli_support::{Outcome, Running, SOON, SimHost, agent, eventually, run};
use nix::sys::signal::Signal;
use serde_json::Value;

const INSTALL: &str =
    "install it: apt-get install --no-install-recommends prometheus, which has promtool too";

/// A program of the package, which these tests are worth nothing without.
#[track_caller]
fn program(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    assert!(found, "no {name} on this machine; {INSTALL}");
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

/// A file of the workspace.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs promtool, which says what is wrong on either stream.
#[track_caller]
fn promtool(args: &[&str], input: Option<&Path>) -> Outcome {
    let mut command = program("promtool");
    if let Some(input) = input {
        command.stdin(std::fs::File::open(input).unwrap());
    }
    run(command.args(args))
}

/// A host with trouble of all sorts, so that as many metrics as can be have samples.
fn troubled() -> SimHost {
    let host = SimHost::start(2, 2);
    for fault in [
        &["ecc-ue", "0000:02:00.0"][..],
        &["link-width", "--lanes", "4", "0000:01:00.0"],
    ] {
        host.auk(&[&["sim", "inject"], fault].concat())
            .expect_code(0);
    }
    host
}

/// Waits until the agent has found the trouble, and gives the address that it serves.
#[track_caller]
fn watch(host: &SimHost) -> (Running, SocketAddr) {
    let (running, line) = agent(&host.root, &["--listen", "127.0.0.1:0"]);
    let address = line.rsplit("http://").next().unwrap().trim();
    let address = address.parse().unwrap();
    eventually("an unhealthy chip", || {
        (host.auk(&["check", "0000:02:00.0"]).code == Some(2)).then_some(())
    });
    (running, address)
}

/// The body of an answer over TCP.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some(body.to_owned())
}

#[test]
fn promtool_finds_nothing_to_say_of_the_metrics() {
    let host = troubled();
    let (running, address) = watch(&host);
    let text = get(address, "/metrics").unwrap();
    running.stop(Signal::SIGTERM);
    for family in [
        "auk_component_check_failing",
        "auk_agent_children_cpu_seconds_total",
    ] {
        assert!(text.contains(&format!("# HELP {family} ")), "{text}");
    }
    let path = host.directory.path().join("metrics");
    std::fs::write(&path, text).unwrap();
    let outcome = promtool(&["check", "metrics"], Some(&path));
    let said = (outcome.stdout.as_str(), outcome.stderr.as_str());
    assert_eq!(said, ("", ""), "{outcome:?}");
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn the_alert_rules_are_sound_and_alert_when_they_should() {
    let rules = file("dist/prometheus/auk.rules.yml");
    promtool(
        &[
            "check",
            "rules",
            "--lint=all",
            "--lint-fatal",
            rules.to_str().unwrap(),
        ],
        None,
    )
    .expect_code(0);
    let tests = file("tests/prometheus/auk.rules.test.yml");
    let outcome = promtool(&["test", "rules", tests.to_str().unwrap()], None);
    assert_eq!(
        outcome.code,
        Some(0),
        "{}{}",
        outcome.stdout,
        outcome.stderr
    );
    // Whoever adds an alert shows that it comes.
    let (rules, tests) = (read(&rules), read(&tests));
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 5, "{rules}");
    for alert in alerts {
        assert!(tests.contains(alert), "no test of {alert}");
    }
}

#[test]
fn the_alert_rules_ask_for_metrics_that_there_are() {
    let host = troubled();
    let (running, address) = watch(&host);
    let text = get(address, "/metrics").unwrap();
    running.stop(Signal::SIGTERM);
    let rules = read(&file("dist/prometheus/auk.rules.yml"));
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let asked = rules.lines().filter(|line| !line.trim().starts_with('#'));
    let asked = asked
        .flat_map(|line| line.split(word))
        .filter(|word| word.starts_with("auk_"));
    for metric in asked {
        assert!(
            text.contains(&format!("# HELP {metric} ")),
            "no {metric} in {text}"
        );
    }
}

#[test]
fn a_prometheus_scrapes_the_agent_and_answers_for_it() {
    let host = troubled();
    let (_agent, address) = watch(&host);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("prometheus.yml");
    let rules = file("dist/prometheus/auk.rules.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [{rules:?}]\nscrape_configs:\n  - job_name: auk\n    static_configs:\n      - targets: ['{address}']\n"
    );
    std::fs::write(&config, text).unwrap();
    // Prometheus does not say which port the kernel chose for it.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = program("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            directory.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={free}"));
    let (_prometheus, _) = Running::start(&mut command, true);

    let query = |query: &str| {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let body = get(free, &format!("/api/v1/query?query={encoded}"))?;
        let answer: Value = serde_json::from_str(&body).ok()?;
        let found = answer["data"]["result"].as_array()?.clone();
        (!found.is_empty()).then_some(found)
    };
    let unhealthy = eventually("the unhealthy chip in Prometheus", || {
        query("auk_component_state{state=\"unhealthy\"} == 1")
    });
    assert_eq!(unhealthy.len(), 1, "{unhealthy:?}");
    assert_eq!(unhealthy[0]["metric"]["component"], "0000:02:00.0");
    assert_eq!(unhealthy[0]["metric"]["job"], "auk");
    let counted = eventually("a counter", || {
        query("auk_accelerator_ecc_errors_total{severity=\"uncorrectable\"} > 0")
    });
    assert_eq!(counted[0]["value"][1], "1");
    let alerts = eventually("an alert", || {
        query("ALERTS{alertname=\"AukComponentUnhealthy\",alertstate=\"firing\"}")
    });
    assert_eq!(alerts[0]["metric"]["component"], "0000:02:00.0");
    eventually("what each metric is, which OpenMetrics tells too", || {
        let body = get(free, "/api/v1/metadata?metric=auk_agent_rounds")?;
        body.contains("\"counter\"").then_some(())
    });
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
