//! Reports that the driver makes and writes by itself.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failing test")]

mod driver_support;

use std::path::Path;

use auk_driver::{Command, OpenOptions, QueueOptions, RecoveryPolicy};
use auk_sim::Chip;
use auk_sim::inject::Verb;
use driver_support::*;
use serde_json::Value;

/// Values that a job has, and that must not be found in a report.
const SECRETS: [u64; 3] = [0x0123_4567_89AB_CDEF, 0x1122_3344_5566_7788, 987_654_321];

fn options(directory: &Path, policy: RecoveryPolicy) -> OpenOptions {
    OpenOptions::default().reports(directory).recovery(policy)
}

fn written(directory: &Path) -> Vec<String> {
    let files = std::fs::read_dir(directory).unwrap();
    files
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

/// The one report that is there.
#[track_caller]
fn only(directory: &Path) -> Value {
    let reports = written(directory);
    assert_eq!(reports.len(), 1, "{reports:?}");
    serde_json::from_str(&reports[0]).unwrap()
}

/// Works on a chip, and meets its crash three times.
fn crash(chip: &Chip, opened: &Opened) {
    let mut queue = opened.create_queue(&QueueOptions::default()).unwrap();
    let memory = opened.alloc(4096).unwrap();
    let semaphore = opened.buffer(8).unwrap();
    let [pattern, signalled, awaited] = SECRETS;
    queue
        .run(&Command::fill(&memory, pattern, 4096), SOON)
        .unwrap();
    queue
        .run(&Command::signal(&semaphore, signalled), SOON)
        .unwrap();
    let wait = Command::wait(&semaphore, signalled + awaited, 9_000);
    let ticket = queue.submit(&wait).unwrap();
    chip.inject(Verb::FirmwareCrash).unwrap();
    queue.wait(ticket, SOON).unwrap_err();
    let _ = opened.check();
    let _ = opened.alloc(4096);
}

fn commands(report: &Value, queue: u64) -> Vec<(&str, Option<&str>)> {
    let queues = report["queues"].as_array().unwrap();
    let found = queues.iter().find(|found| found["queue"] == queue).unwrap();
    let commands = found["commands"].as_array().unwrap().iter();
    commands
        .map(|command| {
            (
                command["opcode"].as_str().unwrap(),
                command["status"].as_str(),
            )
        })
        .collect()
}

#[test]
fn a_fault_is_reported_once_with_its_logs_when_the_policy_has_brought_the_chip_back() {
    let directory = tempfile::tempdir().unwrap();
    let chip = chip();
    let opened = try_open(
        &chip,
        &options(directory.path(), RecoveryPolicy::DeviceOnly),
    )
    .unwrap();
    crash(&chip, &opened);
    let report = only(directory.path());
    assert!(report["error"].as_str().unwrap().contains("FirmwareCrash"));
    assert_eq!(report["vital_signs"]["fault"], "FirmwareCrash");
    assert_eq!(report["crash_log"]["fault"], "FirmwareCrash");
    assert_eq!(
        commands(&report, 1),
        [
            ("Fill", Some("Success")),
            ("Signal", Some("Success")),
            ("Wait", None)
        ]
    );
    assert!(commands(&report, 0).contains(&("CreateQueue", Some("Success"))));
    assert!(
        report["recovered_by"][0]
            .as_str()
            .unwrap()
            .starts_with("firmware restart")
    );
    let missing = report["missing"].as_array().unwrap();
    assert!(missing.is_empty(), "{missing:?}");

    // The next life has a report of its own.
    crash(&chip, &opened);
    assert_eq!(written(directory.path()).len(), 2);
}

#[test]
fn nothing_of_a_job_s_data_is_in_a_report() {
    let directory = tempfile::tempdir().unwrap();
    let chip = chip();
    let opened = try_open(&chip, &options(directory.path(), RecoveryPolicy::Full)).unwrap();
    crash(&chip, &opened);
    let text = written(directory.path()).concat().to_lowercase();
    for secret in SECRETS.into_iter().chain([SECRETS[1] + SECRETS[2]]) {
        assert!(!text.contains(&secret.to_string()), "{secret} in {text}");
        assert!(
            !text.contains(&format!("{secret:x}")),
            "{secret:x} in {text}"
        );
    }
}

#[test]
fn without_a_recovery_a_report_says_why_it_has_no_logs() {
    let directory = tempfile::tempdir().unwrap();
    let chip = chip();
    let opened = try_open(&chip, &options(directory.path(), RecoveryPolicy::Off)).unwrap();
    crash(&chip, &opened);
    let report = only(directory.path());
    assert_eq!(report["crash_log"], Value::Null);
    let missing = report["missing"].as_array().unwrap();
    let parts: Vec<_> = missing.iter().map(|missing| &missing["part"]).collect();
    assert_eq!(parts, ["crash log", "event log", "firmware slots"]);
    assert!(
        missing[0]["why"]
            .as_str()
            .unwrap()
            .contains("FirmwareCrash")
    );
    assert_eq!(commands(&report, 1).len(), 3);
}

#[test]
fn a_chip_that_is_gone_has_a_report_of_what_the_driver_knows() {
    let directory = tempfile::tempdir().unwrap();
    let chip = chip();
    let Opened { device, serving } =
        try_open(&chip, &options(directory.path(), RecoveryPolicy::Full)).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
    drop(serving);
    assert!(queue.run(&Command::nop(), SOON).is_err());
    device.check().unwrap_err();
    let report = only(directory.path());
    assert_eq!(report["registers"], Value::Null);
    let commands = commands(&report, 1);
    assert_eq!(commands[0], ("Nop", Some("Success")));
}

#[test]
fn a_report_that_cannot_be_written_changes_no_error() {
    let chip = chip();
    let nowhere = Path::new("/nowhere/at/all");
    let opened = try_open(&chip, &options(nowhere, RecoveryPolicy::DeviceOnly)).unwrap();
    crash(&chip, &opened);
    opened.check().unwrap();
}

#[test]
fn a_report_by_call_changes_nothing() {
    let chip = chip();
    let opened = open(&chip);
    let mut queue = opened.create_queue(&QueueOptions::default()).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
    let report = opened.report();
    assert_eq!(report.missing, []);
    assert_eq!(report.telemetry.unwrap()["commands_ok"], 1);
    assert_eq!(report.queues[1].commands[0].opcode, "Nop");
    queue.run(&Command::nop(), SOON).unwrap();
    drop(queue);
    assert_eq!(opened.report().queues.len(), 1);
    assert_strict(&chip);
}
