//! `auk agent` and its configuration: checked, printed, reloaded.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::fs;
use std::path::Path;

use cli_support::{Outcome, Running, SimHost, agent, auk_at, command, component, eventually, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A root with a main file.
fn with(text: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "etc/auk/agent.toml", text);
    root
}

fn check(root: &TempDir) -> Outcome {
    auk_at(root.path(), &["agent", "--check"])
}

/// Asks the agent to reload, and waits for the status document after that.
fn reload(host: &SimHost, agent: &Running) -> Value {
    let before = status(host)["agent"]["config"]["reload"]["at_unix_ms"].clone();
    let pid = Pid::from_raw(i32::try_from(agent.pid()).unwrap());
    kill(pid, Signal::SIGHUP).unwrap();
    eventually("a reload", || {
        let status = status(host);
        let at = &status["agent"]["config"]["reload"]["at_unix_ms"];
        (at.is_u64() && *at != before).then_some(status)
    })
}

fn status(host: &SimHost) -> Value {
    host.auk(&["status", "--json"]).json()
}

fn metrics(host: &SimHost) -> String {
    let answer = auk_health::client::fetch_metrics(&host.root, cli_support::SOON);
    answer.unwrap()
}

#[test]
fn without_a_file_all_is_default_and_that_is_good() {
    let root = tempfile::tempdir().unwrap();
    let said = check(&root).expect_code(0).stdout;
    assert!(said.contains("is good: no file, all is default"), "{said}");
}

#[test]
fn a_check_tells_every_problem_with_its_place_and_what_was_expected() {
    let root = with("[agent]\nintervall = '2 s'\n[check.ecc_ce]\ndegraded_per_hour = 0\n");
    write(
        root.path(),
        "run/auk/agent.d/50-site.toml",
        "[check.hartbeat]\nenabled = false\n",
    );
    let said = check(&root).expect_code(1).stdout;
    let lines: Vec<&str> = said.lines().collect();
    let [interval, ecc, heartbeat] = lines[..] else {
        panic!("{said}");
    };
    assert!(
        interval.ends_with(
            "etc/auk/agent.toml:2:13: unknown key agent.intervall; did you mean agent.interval?"
        ),
        "{said}"
    );
    assert!(
        ecc.contains(
            "agent.toml:4:21: check.ecc_ce.degraded_per_hour is 0, expected a whole number from 1"
        ),
        "{said}"
    );
    assert!(
        heartbeat.ends_with(
            "50-site.toml:1:8: unknown table check.hartbeat; did you mean check.heartbeat?"
        ),
        "{said}"
    );
}

#[test]
fn a_check_tells_what_may_not_be_meant_and_is_content() {
    let root = with("[hook.page]\ncommand = ['/nowhere/page']\n");
    write(root.path(), "etc/auk/agent.d/50-x.conf", "nonsense");
    let outcome = check(&root).expect_code(0);
    assert!(outcome.stdout.ends_with("is good: 1 file\n"), "{outcome:?}");
    for part in [
        "50-x.conf: not read, its name does not end in .toml",
        "hook.page.command: there is no /nowhere/page on this host",
    ] {
        assert!(outcome.stderr.contains(part), "{outcome:?}");
    }
}

#[test]
fn the_configuration_is_printed_with_the_source_of_each_value_and_options_stand_above_files() {
    let root = with("[agent]\ninterval = '2 s'\nread_deadline = '300 ms'\n");
    let print = ["agent", "--print-config", "--interval", "700"];
    let text = auk_at(root.path(), &print).expect_code(0).stdout;
    for part in [
        "\ninterval = \"700 ms\"  # command line, default \"1 s\": ",
        "agent.toml:3, default \"500 ms\": ",
        "\n# listen is not set: ",
        "\n[check.ecc_ce]\nenabled = true  # default: ",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let json = auk_at(root.path(), &["agent", "--print-config", "--json"]);
    let json = json.expect_code(0).json();
    let interval = &json["settings"][0];
    assert_eq!(interval["key"], "agent.interval");
    assert_eq!(interval["value"], "2 s");
    assert_eq!(interval["source"]["line"], 2);
}

#[test]
fn a_bad_configuration_starts_no_agent() {
    let root = with("[agent]\nintervall = '2 s'\n");
    auk_at(root.path(), &["agent"]).expect_error(
        3,
        &[
            "the configuration cannot be used",
            "agent.toml:2:13: unknown key agent.intervall; did you mean agent.interval?",
            "hint: `auk agent --check`",
        ],
    );
    assert!(!root.path().join("run/auk/agent.sock").exists());
}

#[test]
fn an_agent_runs_by_its_files_and_an_option_stands_above_them() {
    let host = SimHost::start(1, 0);
    write(
        &host.root,
        "usr/lib/auk/agent.toml",
        "agent.interval = '200 ms'",
    );
    write(
        &host.root,
        "etc/auk/agent.d/10-x.toml",
        "[agent]\nlisten = '127.0.0.1:0'\n[check.ecc_ce]\nenabled = false\n",
    );
    let mut by_files = command(&["agent"]);
    let (running, line) = Running::start(by_files.arg("--root").arg(&host.root), true);
    assert!(line.contains("http://127.0.0.1:"), "{line}");
    let status = eventually("a chip", || {
        let status = status(&host);
        status["components"][0].is_object().then_some(status)
    });
    assert_eq!(status["agent"]["interval_ms"], 200);
    assert_eq!(
        status["agent"]["config"]["files"].as_array().unwrap().len(),
        2
    );
    let chip = component(&status, "0000:01:00.0");
    let verdicts = chip["verdicts"].as_array().unwrap();
    let ecc = verdicts.iter().find(|verdict| verdict["check"] == "ecc_ce");
    assert_eq!(ecc.unwrap()["reason"], "switched off by the configuration");
    assert_eq!(running.stop(Signal::SIGTERM).code(), Some(0));
    let (_agent, _) = agent(&host.root, &[]);
    assert_eq!(self::status(&host)["agent"]["interval_ms"], 100);
}

#[test]
fn sighup_puts_a_good_configuration_in_force_and_what_is_known_stays_known() {
    let host = SimHost::start(2, 0);
    let mut command = command(&["agent"]);
    write(
        &host.root,
        "etc/auk/agent.toml",
        "agent.interval = '100 ms'",
    );
    let (agent, _) = Running::start(command.arg("--root").arg(&host.root), true);
    eventually("a healthy host", || {
        let outcome = host.auk(&["status"]);
        (outcome.code == Some(0)).then_some(())
    });
    host.auk(&["sim", "inject", "ecc-ue", "0000:02:00.0"])
        .expect_code(0);
    let before = eventually("an unhealthy chip", || {
        let status = status(&host);
        (component(&status, "0000:02:00.0")["state"] == "unhealthy").then_some(status)
    });
    let hash = &before["agent"]["config"]["hash"];
    let metric = format!("auk_agent_config_info{{hash={hash}}} 1");
    assert!(metrics(&host).contains(&metric), "{}", metrics(&host));

    write(
        &host.root,
        "run/auk/agent.d/50-x.toml",
        "[agent]\ninterval = '150 ms'\nlisten = '127.0.0.1:0'\n[check.throttle]\nshadow = true\n",
    );
    let after = reload(&host, &agent);
    assert_eq!(after["agent"]["interval_ms"], 150);
    let config = &after["agent"]["config"];
    assert_ne!(&config["hash"], hash);
    assert_eq!(config["files"].as_array().unwrap().len(), 2);
    assert_eq!(config["reload"]["problems"].as_array().unwrap().len(), 0);
    assert_eq!(config["reload"]["pending"][0], "agent.listen");
    let text = host.auk(&["status"]).expect_code(1);
    assert!(
        text.stderr.contains("note: agent.listen was changed"),
        "{text:?}"
    );
    let chip = |status: &Value| component(status, "0000:02:00.0").clone();
    assert_eq!(chip(&after)["state"], "unhealthy");
    assert_eq!(
        chip(&after)["since_unix_ms"],
        chip(&before)["since_unix_ms"]
    );
    eventually("throttle in the shadow", || {
        let status = status(&host);
        let verdicts = chip(&status)["verdicts"].as_array().unwrap().clone();
        let throttle = verdicts
            .into_iter()
            .find(|verdict| verdict["check"] == "throttle");
        (throttle.unwrap()["mode"] == "shadow").then_some(())
    });
    assert!(metrics(&host).contains("\nauk_agent_config_last_reload_successful 1"));
}

#[test]
fn sighup_tells_a_bad_configuration_and_the_former_one_stays_in_force() {
    let host = SimHost::start(1, 0);
    write(
        &host.root,
        "etc/auk/agent.toml",
        "agent.interval = '100 ms'",
    );
    let mut command = command(&["agent"]);
    let (agent, _) = Running::start(command.arg("--root").arg(&host.root), true);
    eventually("a healthy host", || {
        let outcome = host.auk(&["status"]);
        (outcome.code == Some(0)).then_some(())
    });
    let before = status(&host);
    write(&host.root, "etc/auk/agent.toml", "agent.intervall = '1 s'");
    let after = reload(&host, &agent);
    let (former, config) = (&before["agent"]["config"], &after["agent"]["config"]);
    assert_eq!(config["hash"], former["hash"]);
    assert_eq!(config["since_unix_ms"], former["since_unix_ms"]);
    assert_eq!(after["agent"]["interval_ms"], 100);
    let problem = config["reload"]["problems"][0].as_str().unwrap();
    assert!(
        problem.contains("agent.toml:1:19: unknown key"),
        "{problem}"
    );
    let outcome = host.auk(&["status"]).expect_code(0);
    assert!(
        outcome
            .stderr
            .contains("the configuration could not be reloaded")
            && outcome.stderr.contains("did you mean agent.interval?"),
        "{outcome:?}"
    );
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(metrics(&host).contains("\nauk_agent_config_last_reload_successful 0"));

    write(
        &host.root,
        "etc/auk/agent.toml",
        "agent.interval = '120 ms'",
    );
    let mended = reload(&host, &agent);
    assert_eq!(mended["agent"]["interval_ms"], 120);
    assert_eq!(host.auk(&["status"]).expect_code(0).stderr, "");
    assert!(metrics(&host).contains("\nauk_agent_config_last_reload_successful 1"));
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    for args in [
        vec!["agent", "--json"],
        vec!["agent", "--check", "--print-config"],
    ] {
        run(&mut command(&args)).expect_code(2);
    }
}

#[test]
fn a_card_that_the_manifest_names_and_nobody_finds_is_unhealthy_until_the_manifest_says_otherwise()
{
    let host = SimHost::start(1, 0);
    write(
        &host.root,
        "etc/auk/agent.toml",
        "agent.interval = '100 ms'\n[manifest.accelerator.left]\naddress = '0000:01:00.0'\n\
         [manifest.accelerator.right]\nserial = 'no-such-card'\n",
    );
    let mut command = command(&["agent"]);
    let (agent, _) = Running::start(command.arg("--root").arg(&host.root), true);
    let lost = eventually("a card that is missed", || {
        let status = status(&host);
        let components = status["components"].as_array()?.clone();
        let lost = components.into_iter().find(|one| one["bdf"] == "right")?;
        (lost["state"] == "unhealthy").then_some(lost)
    });
    assert_eq!(lost["admission"]["answer"], "no");
    let text = host.auk(&["explain", "right"]).stdout;
    assert!(
        text.contains("manifest, right: serial number no-such-card"),
        "{text}"
    );
    eventually("a healthy chip", || {
        let status = status(&host);
        (component(&status, "0000:01:00.0")["state"] == "healthy").then_some(())
    });

    write(
        &host.root,
        "etc/auk/agent.toml",
        "agent.interval = '100 ms'",
    );
    reload(&host, &agent);
    eventually("a host that is well", || {
        (host.auk(&["status"]).code == Some(0)).then_some(())
    });
}
