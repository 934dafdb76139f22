//! `auk demo`: what it claims, and how it ends when it is not let finish.

mod cli_support;

use std::path::Path;
use std::process::Command;

use cli_support::{Running, auk, command, ended, run, sim_host};
use nix::sys::signal::Signal;

/// A demo that keeps its files in `directory`.
fn demo(directory: &Path, args: &[&str]) -> Command {
    let mut demo = command(&["demo"]);
    demo.args(args).env("TMPDIR", directory);
    demo
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn it_ends_in_0_with_every_claim_held_and_nothing_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = run(&mut demo(directory.path(), &["--json"]));
    let summary = outcome.json();
    assert_eq!(outcome.code, Some(0), "{summary}");
    assert!(!outcome.stderr.contains("WARN"), "{}", outcome.stderr);
    assert_eq!(summary["images"], 1797);
    assert_eq!(summary["mismatches"], 0);
    assert!(summary["accuracy"].as_f64().unwrap() >= 0.95, "{summary}");
    assert!(
        summary["evidence"]
            .as_str()
            .unwrap()
            .contains("ecc_ue 0 -> 1"),
        "{summary}"
    );
    let claims = summary["claims"].as_array().unwrap();
    assert!(
        claims.len() >= 8 && claims.iter().all(|claim| claim["held"] == true),
        "{summary}"
    );
    assert!(is_empty(directory.path()));
}

#[test]
fn twenty_columns_are_enough() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = run(demo(directory.path(), &[]).env("COLUMNS", "20")).expect_code(0);
    let (_, table) = outcome.stdout.split_once("Results\n").unwrap();
    for line in table.lines() {
        // A path is one word and is not cut.
        let is_word = line.trim_start().split(' ').count() == 1;
        assert!(is_word || line.chars().count() <= 20, "{line:?}");
    }
}

#[test]
fn interrupted_in_the_middle_it_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let directory = tempfile::tempdir().unwrap();
        let running = Running::start_until(
            &mut demo(directory.path(), &["--pace", "50"]),
            "network loaded",
        );
        assert_eq!(running.stop(signal).code(), Some(130), "{signal}");
        assert!(is_empty(directory.path()), "{signal}");
    }
}

#[test]
fn a_simulator_that_dies_in_the_middle_is_an_error_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("host");
    let (host, _) = sim_host(&root, 2, 2);
    let attach = ["--pace", "50", "--attach", root.to_str().unwrap()];
    let mut running = Running::start_until(&mut demo(directory.path(), &attach), "network loaded");
    assert!(!host.stop(Signal::SIGKILL).success());
    let mut stderr = running.0.stderr.take().unwrap();
    assert_eq!(ended(&mut running.0).code(), Some(3));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert!(
        said.contains("disconnected") && said.contains("0000:01:00.0"),
        "{said}"
    );
    assert!(
        !root.join("run/auk/agent.sock").exists(),
        "the agent went too"
    );
}

#[test]
fn it_runs_on_a_host_that_is_there_already() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("host");
    let (_host, _) = sim_host(&root, 1, 1);
    let attach = ["--json", "--attach", root.to_str().unwrap()];
    let outcome = run(&mut demo(directory.path(), &attach));
    assert_eq!(outcome.json()["ok"], true, "{outcome:?}");
}

#[test]
fn a_directory_without_a_host_is_an_error_that_says_what_to_do() {
    auk(&["demo", "--attach", "/nowhere/at/all"])
        .expect_error(3, &["/nowhere/at/all", "hint: give the root of a host"]);
    auk(&["demo", "--pace", "fast"]).expect_error(2, &["--pace"]);
}

#[test]
fn the_job_runs_alone_on_a_chip_that_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("host");
    let (_host, _) = sim_host(&root, 1, 0);
    let root = root.to_str().unwrap();
    let alone = ["demo", "--root", root, "--on", "0000:01:00.0", "--json"];
    let summary = auk(&alone).expect_code(0).json();
    assert_eq!(summary["images"], 1797);
    assert_eq!(summary["mismatches"], 0);
    assert_eq!(summary["claims"].as_array().unwrap().len(), 3);
    assert!(summary.get("fault").is_none(), "{summary}");

    let wrong = ["demo", "--root", root, "--on", "0000:07:00.0"];
    auk(&wrong).expect_error(3, &["0000:07:00.0"]);
}
