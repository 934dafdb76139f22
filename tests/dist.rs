//! What `dist/` has for systemd, judged by systemd's own tools.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use auk_health::Config;
use tempfile::TempDir;

fn dist(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dist")
        .join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(dist(file)).unwrap()
}

/// Runs one of systemd's tools. Where there is none these tests fail: nothing would have been tested.
#[track_caller]
fn systemd(tool: &str, args: &[&str], files: &[&Path]) -> (Output, String) {
    let output = Command::new(tool)
        .args(args)
        .args(files)
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_PAGER", "")
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap_or_else(|error| {
            panic!("{tool} cannot be run, so the units are NOT TESTED: {error}; install Debian's package systemd")
        });
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output, said)
}

/// How exposed a unit is by systemd's own count, from 0 to 10.
#[track_caller]
fn exposure(unit: &str) -> f64 {
    let path = dist(unit);
    let (_, said) = systemd(
        "systemd-analyze",
        &["security", "--offline=true", "--no-pager"],
        &[&path],
    );
    let level = said.lines().find_map(|line| {
        let (_, level) = line.split_once("Overall exposure level for ")?;
        level.split_whitespace().nth(1)?.parse().ok()
    });
    level.unwrap_or_else(|| panic!("no exposure level in {said}"))
}

/// A copy of a unit that runs the program of these tests.
fn unit_with_this_program(directory: &TempDir, unit: &str) -> PathBuf {
    let path = directory.path().join(unit);
    fs::write(
        &path,
        text(unit).replace("/usr/bin/auk", env!("CARGO_BIN_EXE_auk")),
    )
    .unwrap();
    path
}

#[test]
fn the_agent_is_hardly_exposed() {
    let level = exposure("auk-agent.service");
    assert!(level <= 2.0, "exposure {level}, at most 2.0 wanted");
}

#[test]
fn the_opener_is_exposed_by_its_two_privileges_only() {
    let level = exposure("auk-agent-opener.service");
    assert!(level <= 2.0, "exposure {level}, at most 2.0 wanted");
    let unit = text("auk-agent-opener.service");
    assert!(
        unit.contains("\nCapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYSLOG\n"),
        "{unit}"
    );
}

#[test]
fn the_agent_has_no_capability_and_a_user_of_its_own() {
    let unit = text("auk-agent.service");
    for line in [
        "User=auk",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "NoNewPrivileges=yes",
    ] {
        assert!(unit.lines().any(|found| found == line), "no {line}");
    }
}

/// The check `limits` shows what a unit gets that sets none.
#[test]
fn the_agent_sets_no_limit_that_it_compares() {
    let unit = text("auk-agent.service");
    for key in ["LimitNOFILE=", "LimitMEMLOCK="] {
        assert!(!unit.lines().any(|line| line.starts_with(key)), "{key}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let directory = tempfile::tempdir().unwrap();
    let opener = unit_with_this_program(&directory, "auk-agent-opener.service");
    let agent = unit_with_this_program(&directory, "auk-agent.service");
    let args = ["verify", "--man=no", "--recursive-errors=yes"];
    let (output, said) = systemd("systemd-analyze", &args, &[&agent, &opener]);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn every_command_of_the_units_is_one_that_auk_has() {
    for unit in ["auk-agent.service", "auk-agent-opener.service"] {
        for line in text(unit)
            .lines()
            .filter(|line| line.contains("/usr/bin/auk"))
        {
            let (_, command) = line.split_once("/usr/bin/auk ").unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_auk"))
                .args(command.split(' '))
                .arg("--help")
                .output()
                .unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
    }
}

/// Users and directories are made below a root, and a lease that one user's job left can be taken by another's.
#[test]
fn users_and_directories_are_made_as_the_agent_and_jobs_need_them() {
    let root = tempfile::tempdir().unwrap();
    for (directory, file, from) in [
        ("usr/lib/sysusers.d", "auk.conf", "auk.sysusers.conf"),
        ("usr/lib/tmpfiles.d", "auk.conf", "auk.tmpfiles.conf"),
    ] {
        let directory = root.path().join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(dist(from), directory.join(file)).unwrap();
    }
    fs::create_dir_all(root.path().join("etc")).unwrap();
    let at_root = format!("--root={}", root.path().display());
    let (output, said) = systemd("systemd-sysusers", &[&at_root, "auk.conf"], &[]);
    assert!(output.status.success(), "{said}");
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let groups = fs::read_to_string(root.path().join("etc/group")).unwrap();
    assert!(
        users.contains("auk:x:") && groups.contains("auk-jobs:x:"),
        "{users}{groups}"
    );
    if !nix::unistd::geteuid().is_root() {
        // Only root may give directories away; that the file parses is all that can be seen here.
        let (_, said) = systemd("systemd-tmpfiles", &[&at_root, "--create", "auk.conf"], &[]);
        assert!(!said.contains("auk.conf:"), "{said}");
        return;
    }
    let args = [at_root.as_str(), "--create", "auk.conf"];
    let (output, said) = systemd("systemd-tmpfiles", &args, &[]);
    assert!(output.status.success(), "{said}");
    let path = root.path().join("run/auk/lease");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(&metadata) & 0o7777,
        0o2775
    );
    let lease = path.join("0000:01:00.0");
    fs::write(&lease, "").unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&lease).unwrap());
    assert_eq!(
        mode & 0o777,
        0o664,
        "another user of the group cannot take it"
    );
}

#[test]
fn the_sample_configuration_changes_nothing_and_is_right_where_it_is_uncommented() {
    let path = dist("agent.toml");
    let sample = text("agent.toml");
    let config = Config::from_text(&path, &sample).unwrap();
    assert_eq!(config.hash(), Config::default().hash());
    let all: String = sample
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = Config::from_text(&path, &all).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.settings.manifest.accelerators.len(), 1);
    assert_eq!(config.hooks.len(), 1);
}
