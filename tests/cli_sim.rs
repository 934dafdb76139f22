//! `auk sim host` and `auk sim inject`.

mod cli_support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;

use cli_support::{Running, SimHost, auk, auk_at, command, eventually, run, sim_host};
use nix::sys::signal::Signal;

#[test]
fn the_ready_line_names_devices_that_answer() {
    let host = SimHost::start(2, 1);
    assert_eq!(host.ready["pid"], host.running.pid());
    let chips = host.ready["chips"].as_array().unwrap();
    assert_eq!(chips.len(), 2);
    for chip in chips {
        UnixStream::connect(chip["socket"].as_str().unwrap()).unwrap();
    }
    assert_eq!(host.ready["nics"][0]["interface"], "eth0");
}

#[test]
fn each_signal_that_ends_it_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("host");
        let (running, _) = sim_host(&root, 2, 2);
        assert_eq!(running.stop(signal).code(), Some(0), "{signal}");
        assert!(!root.exists(), "{signal}: {}", root.display());
    }
}

#[test]
fn a_relative_root_is_told_in_full() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(&["sim", "host", "--json", "--root", "host"]);
    let (_running, line) = Running::start(command.current_dir(directory.path()), false);
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let root = Path::new(ready["root"].as_str().unwrap());
    assert!(root.is_absolute() && root.ends_with("host"), "{line}");
    auk_at(root, &["list"]).expect_code(0);
}

#[test]
fn a_directory_that_was_there_stays_and_is_empty_again() {
    let directory = tempfile::tempdir().unwrap();
    let (running, _) = sim_host(directory.path(), 1, 1);
    assert_eq!(running.stop(Signal::SIGINT).code(), Some(0));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_a_killed_host_left_is_no_hindrance() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("host");
    let (running, _) = sim_host(&root, 2, 0);
    running.stop(Signal::SIGKILL);
    auk_at(&root, &["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .expect_error(3, &["no simulated host answers", "hint:"]);
    let (running, _) = sim_host(&root, 1, 0);
    let list = auk_at(&root, &["list"]).expect_code(0).stdout;
    assert!(!list.contains("0000:02:00.0"), "{list}");
    assert_eq!(running.stop(Signal::SIGINT).code(), Some(0));
}

#[test]
fn a_host_can_start_again_where_an_agent_watched_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("host");
    let (running, _) = sim_host(&root, 1, 0);
    let (agent, _) = cli_support::agent(&root, &[]);
    assert_eq!(running.stop(Signal::SIGINT).code(), Some(0));
    let (running, _) = sim_host(&root, 1, 0);
    assert_eq!(agent.stop(Signal::SIGINT).code(), Some(0));
    assert_eq!(running.stop(Signal::SIGINT).code(), Some(0));
    let (_running, _) = sim_host(&root, 1, 0);
}

#[test]
fn a_host_runs_on_when_nobody_reads_its_ready_line() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("host");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(&["sim", "host", "--chips", "1", "--nics", "0"]);
    let child = command
        .arg("--root")
        .arg(&root)
        .stdout(writer)
        .spawn()
        .unwrap();
    let running = Running(child);
    eventually("a host that answers", || {
        let injected = auk_at(&root, &["sim", "inject", "ecc-ce", "0000:01:00.0"]);
        (injected.code == Some(0)).then_some(())
    });
    assert_eq!(running.stop(Signal::SIGINT).code(), Some(0));
    assert!(!root.exists());
}

#[test]
fn a_simulated_host_takes_no_directory_of_others() {
    auk(&["sim", "host"]).expect_error(3, &["not /", "hint:", "--root"]);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.tex"), "").unwrap();
    auk_at(directory.path(), &["sim", "host"]).expect_error(3, &["is not empty", "thesis.tex"]);
    assert!(directory.path().join("thesis.tex").exists());
    let host = SimHost::start(1, 0);
    host.auk(&["sim", "host"])
        .expect_error(3, &["live simulated host", &host.running.pid().to_string()]);
    host.auk(&["show", "01:00.0", "--open"]).expect_code(0);
}

#[test]
fn more_devices_than_a_host_has_room_for_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("host");
    auk_at(&root, &["sim", "host", "--chips", "1000000"]).expect_error(3, &["at most", "1000000"]);
    auk_at(&root, &["sim", "host", "--nics", "65"]).expect_error(3, &["at most", "65"]);
    assert!(!root.exists());
}

#[test]
fn a_root_longer_than_a_socket_address_is_served_and_asked() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("x".repeat(120));
    let (_host, _) = sim_host(&root, 1, 0);
    auk_at(&root, &["sim", "inject", "ecc-ue", "0000:01:00.0"]).expect_code(0);
    auk_at(&root, &["show", "0000:01:00.0", "--open"]).expect_error(3, &["stopped on"]);
}

#[test]
fn each_fault_can_be_asked_for() {
    let host = SimHost::start(2, 1);
    for (args, verb) in [
        (vec!["ecc-ce", "0000:01:00.0", "--count", "7"], "ecc-ce"),
        (
            vec!["link-width", "0000:01:00.0", "--lanes", "2"],
            "link-width",
        ),
        (
            vec!["carrier-flap", "eth0", "--count", "2", "--down-ms", "5"],
            "carrier-flap",
        ),
        (vec!["port-speed", "eth0", "--mbit", "100000"], "port-speed"),
        (vec!["port-errors", "eth0", "--count", "9"], "port-errors"),
        (vec!["port-drops", "eth0", "--count", "9"], "port-drops"),
        (vec!["rdma-port", "eth0"], "rdma-port"),
        (vec!["driver-reload", "eth0"], "driver-reload"),
        (vec!["ecc-ue", "0000:01:00.0"], "ecc-ue"),
        (vec!["firmware-hang", "0000:02:00.0"], "firmware-hang"),
    ] {
        let args: Vec<_> = ["sim", "inject", "--json"]
            .into_iter()
            .chain(args)
            .collect();
        let done = host.auk(&args).expect_code(0).json();
        assert_eq!(done["verb"], verb);
    }
    let chip = eventually("the counters", || {
        let chip = host.auk(&["show", "01:00.0", "--json"]).json();
        (chip["vital_signs"]["ecc_uncorrectable"] == 1).then_some(chip)
    });
    assert_eq!(chip["vital_signs"]["ecc_correctable"], 7);
    assert_eq!(
        chip["vital_signs"]["last_fault"]["fault"],
        "EccUncorrectable"
    );
    host.auk(&["show", "01:00.0", "--open"])
        .expect_error(3, &["stopped on EccUncorrectable", "hint:"]);
}

#[test]
fn a_fault_that_makes_no_sense_is_refused() {
    let host = SimHost::start(1, 1);
    let inject = |args: &[&str]| {
        let args: Vec<_> = ["sim", "inject"].iter().chain(args).copied().collect();
        host.auk(&args)
    };
    inject(&["meteor", "0000:01:00.0"]).expect_error(2, &["meteor"]);
    inject(&["ecc-ce", "0000:01:00.0", "--count", "0"]).expect_error(3, &["ecc-ce", "count"]);
    inject(&["ecc-ue", "0000:01:00.0", "--times", "3"]).expect_error(2, &["every_ms"]);
    inject(&["ecc-ue", "0000:01:00.0", "--opcode", "dance"]).expect_error(2, &["dance", "copy"]);
    inject(&["link-width", "0000:01:00.0"]).expect_error(2, &["--lanes"]);
    inject(&["ecc-ue", "0000:09:00.0"]).expect_error(3, &["0000:09:00.0", "0000:01:00.0"]);
    inject(&["ecc-ue", "eth0"]).expect_error(3, &["ecc-ue", "eth0"]);
    inject(&["carrier-flap", "0000:01:00.0"]).expect_error(3, &["carrier-flap", "0000:01:00.0"]);
    inject(&["link-width", "0000:01:00.0", "--lanes", "3"]).expect_error(3, &["link-width"]);
}

#[test]
fn the_catalogue_says_of_each_fault_what_it_looks_like() {
    let all = auk(&["sim", "faults", "--json"]).expect_code(0).json();
    let faults = all["faults"].as_array().unwrap();
    assert!(faults.len() > 50);
    for fault in faults {
        let name = fault["name"].as_str().unwrap();
        let one = auk(&["sim", "faults", name]).expect_code(0);
        let looks = fault["looks"].as_str().unwrap();
        let first = looks.split(' ').next().unwrap();
        assert!(one.stdout.contains(first), "{name}: {}", one.stdout);
    }
    auk(&["sim", "faults", "meteor"]).expect_error(3, &["meteor", "hint:"]);
}

#[test]
fn a_script_gives_a_host_its_faults() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("faults.toml");
    let root = directory.path().join("host");
    let start = || {
        let mut command = command(&["sim", "host", "--chips", "1", "--nics", "0", "--json"]);
        command.arg("--root").arg(&root);
        command.arg("--faults").arg(&script);
        command
    };
    run(&mut start()).expect_error(3, &["faults.toml"]);
    fs::write(&script, "[[fault]]\ntarget = \"0000:01:00.0\"\n").unwrap();
    run(&mut start()).expect_error(3, &["faults.toml", "fault 1", "verb"]);
    fs::write(
        &script,
        "[[fault]]\ntarget = \"0000:09:00.0\"\nverb = \"ecc-ue\"\n",
    )
    .unwrap();
    run(&mut start()).expect_error(3, &["fault 1", "0000:09:00.0"]);
    assert!(!root.exists(), "a host that does not start leaves nothing");
    fs::write(
        &script,
        "[[fault]]\ntarget = \"0000:01:00.0\"\nverb = \"ecc-ce\"\ncount = 7\nafter_ms = 50\n",
    )
    .unwrap();
    let (_running, _ready) = Running::start(&mut start(), false);
    eventually("the errors", || {
        let chip = auk_at(&root, &["show", "01:00.0", "--json"]).json();
        (chip["vital_signs"]["ecc_correctable"] == 7).then_some(())
    });
}

#[test]
fn a_fault_needs_a_host_that_runs() {
    let directory = tempfile::tempdir().unwrap();
    let outcome = run(command(&["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .arg("--root")
        .arg(directory.path()));
    outcome.expect_error(3, &["no simulated host answers", "hint:", "--root"]);
    assert!(!Path::new(&directory.path().join("run")).exists());
}
