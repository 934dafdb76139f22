//! `auk soak`: what it claims, and how it ends when it is not let finish.

mod cli_support;

use std::path::Path;
use std::process::Command;

use cli_support::{Running, auk, command, run};
use nix::sys::signal::Signal;

/// A soak that keeps its files in `directory`.
fn soak(directory: &Path, args: &[&str]) -> Command {
    let mut soak = command(&["soak"]);
    soak.args(args).env("TMPDIR", directory);
    soak
}

#[test]
fn a_short_soak_of_a_few_faults_misses_none_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let faults = [
        "completion-corrupt",
        "copy-flip",
        "firmware-crash",
        "reset-dead",
    ];
    let mut args = vec!["--seconds", "15", "--seed", "1", "--chips", "2", "--json"];
    for fault in &faults {
        args.extend(["--fault", fault]);
    }
    let summary = run(&mut soak(directory.path(), &args))
        .expect_code(0)
        .json();
    assert_eq!(summary["ok"], true, "{summary:#}");
    assert_eq!(summary["seed"], 1);
    assert_eq!(summary["lost"], 0);
    assert!(summary["jobs"].as_u64().unwrap() > 100, "{summary:#}");
    for fault in faults {
        let rows = summary["faults"].as_array().unwrap();
        let row = rows.iter().find(|row| row["fault"] == fault).unwrap();
        assert!(row["injected"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(row["injected"], row["detected"], "{row}");
        assert_eq!(row["injected"], row["recovered"], "{row}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_soak_that_is_interrupted_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let args = ["--seconds", "600", "--chips", "2"];
    let running = Running::start_until(&mut soak(directory.path(), &args), "seed");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(running.stop(Signal::SIGINT).code(), Some(130));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_soak_without_sense_is_refused() {
    auk(&["soak", "--chips", "1"]).expect_error(2, &["--chips"]);
    auk(&["soak", "--seconds", "0"]).expect_error(2, &["--seconds"]);
    auk(&["soak", "--fault", "meteor"]).expect_error(2, &["meteor", "completion-drop"]);
}
