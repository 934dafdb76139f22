//! `auk report` on chips of a simulated host, in all states.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failing test")]

mod cli_support;

use auk_driver::pci::Host;
use auk_driver::{Device, OpenOptions};
use cli_support::{Outcome, SimHost, auk_at, eventually};
use serde_json::Value;

const CHIP: &str = "0000:01:00.0";

fn inject(host: &SimHost, fault: &str) {
    host.auk(&["sim", "inject", fault, CHIP]).expect_code(0);
}

fn report(host: &SimHost, more: &[&str]) -> Outcome {
    host.auk(&[&["report", CHIP, "--json"], more].concat())
}

/// The parts that are not in a report.
fn missing(report: &Value) -> Vec<&str> {
    let parts = report["missing"].as_array().unwrap().iter();
    parts.map(|part| part["part"].as_str().unwrap()).collect()
}

fn why(report: &Value) -> &str {
    report["missing"][0]["why"].as_str().unwrap()
}

#[test]
fn a_chip_that_is_well_has_all_parts() {
    let host = SimHost::start(1, 0);
    let found = report(&host, &[]).expect_code(0).json();
    assert_eq!(found["version"], 1);
    assert_eq!(found["device"], CHIP);
    assert_eq!(missing(&found), [""; 0]);
    assert_eq!(found["vital_signs"]["state"], "Running");
    assert_eq!(found["registers"]["FAULT"], 0);
    assert_eq!(found["telemetry"]["commands_failed"], 0);
    assert_eq!(found["firmware_slots"][0]["booted_from"], true);
    assert_eq!(found["crash_log"], Value::Null);
    assert_eq!(found["function"]["driver"], "vfio-pci");
    assert!(!found["event_log"].as_array().unwrap().is_empty());

    let text = host.auk(&["report", "01:00.0"]).expect_code(0).stdout;
    for section in [
        "Report on",
        "Registers",
        "Telemetry",
        "Event log",
        "Firmware slots",
    ] {
        assert!(text.contains(section), "no {section} in {text}");
    }
    assert!(!text.contains("Not in this report"), "{text}");
}

#[test]
fn a_chip_that_crashed_says_so_and_has_its_logs_after_a_restart() {
    let host = SimHost::start(1, 0);
    inject(&host, "firmware-crash");
    let found = eventually("the fault among the vital signs", || {
        let found = report(&host, &[]).expect_code(1).json();
        (found["vital_signs"]["fault"] == "FirmwareCrash").then_some(found)
    });
    let error = found["error"].as_str().unwrap();
    assert!(error.contains("FirmwareCrash"), "{error}");
    assert_ne!(found["registers"]["FAULT"], 0);
    assert_eq!(
        missing(&found),
        ["crash log", "event log", "firmware slots"]
    );

    let found = report(&host, &["--restart"]).expect_code(1).json();
    assert_eq!(missing(&found), [""; 0]);
    assert_eq!(found["crash_log"]["fault"], "FirmwareCrash");
    assert_eq!(found["crash_log"]["generation"], 1);
    let step = found["recovered_by"][0].as_str().unwrap();
    assert!(step.starts_with("firmware restart"), "{step}");

    // It is well again, and remembers. The files of the tree follow the chip by and by.
    let text = eventually("a report that all is well", || {
        let outcome = host.auk(&["report", CHIP]);
        (outcome.code == Some(0)).then_some(outcome.stdout)
    });
    assert!(
        text.contains("Crash log") && text.contains("FirmwareCrash"),
        "{text}"
    );
}

#[test]
fn a_chip_in_the_loader_has_its_logs() {
    let host = SimHost::start(1, 0);
    inject(&host, "image-rot");
    inject(&host, "firmware-crash");
    // The restart ends in the loader.
    report(&host, &["--restart"]).expect_code(1);
    let found = eventually("the loader", || {
        let found = report(&host, &[]).expect_code(1).json();
        (found["vital_signs"]["state"] == "Loader").then_some(found)
    });
    assert_eq!(missing(&found), [""; 0]);
    assert_eq!(found["vital_signs"]["fault"], "ImageRejected");
}

#[test]
fn a_chip_that_somebody_has_is_not_touched() {
    let host = SimHost::start(1, 0);
    let address = CHIP.parse().unwrap();
    let device = Device::open(&Host::at(&host.root), address, &OpenOptions::default()).unwrap();
    let memory = device.alloc(4096).unwrap();
    let found = report(&host, &[]).expect_code(1).json();
    assert_eq!(found["vital_signs"]["state"], "Running");
    assert_eq!(found["registers"], Value::Null);
    assert!(why(&found).contains("in use by"), "{found}");
    device.check().unwrap();
    assert!(memory.is_alive());
}

#[test]
fn a_chip_that_is_not_to_be_touched_has_what_sysfs_shows() {
    let host = SimHost::start(1, 0);
    let found = report(&host, &["--passive"]).expect_code(0).json();
    assert_eq!(found["vital_signs"]["generation"], 1);
    assert_eq!(found["telemetry"], Value::Null);
    assert!(why(&found).contains("--passive"), "{found}");
}

#[test]
fn a_chip_that_has_fallen_off_the_bus_says_what_could_not_be_had() {
    let host = SimHost::start(1, 0);
    inject(&host, "config-ones");
    let found = eventually("the chip's end", || {
        let found = report(&host, &["--timeout", "2"]).json();
        found["vital_signs"].is_null().then_some(found)
    });
    assert!(!missing(&found).is_empty());
    assert_ne!(found["error"], Value::Null);
    report(&host, &["--timeout", "2"]).expect_code(1);
}

#[test]
fn a_report_goes_to_a_file() {
    let host = SimHost::start(1, 0);
    let path = host.directory.path().join("report");
    let file = path.to_str().unwrap();
    let outcome = report(&host, &["-o", file]).expect_code(0);
    assert_eq!(outcome.stdout, "");
    assert!(outcome.stderr.contains(file), "{outcome:?}");
    let found: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(found["device"], CHIP);
    host.auk(&["report", CHIP, "-o", file]).expect_code(0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("Report on 0000:01:00.0"), "{text}");
    report(&host, &["-o", "/nowhere/at/all"]).expect_error(3, &["/nowhere/at/all"]);
}

#[test]
fn what_is_no_chip_has_no_report() {
    let host = SimHost::start(1, 1);
    host.auk(&["report", "41:00.0"])
        .expect_error(3, &["this is none", "auk show"]);
    host.auk(&["report", "07:00.0"])
        .expect_error(3, &["there are 0000:01:00.0"]);
    auk_at(&host.root, &["report", CHIP, "--passive", "--restart"]).expect_code(2);
}
