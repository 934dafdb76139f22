//! The command line itself: help, completions, nonsense, and how output ends.

mod cli_support;

use std::io;
use std::process::Stdio;

use cli_support::{auk, command, ended, run};

#[test]
fn help_names_every_subcommand_and_every_exit_code() {
    let help = auk(&["--help"]).expect_code(0).stdout;
    for part in [
        "list",
        "show",
        "report",
        "bind",
        "unbind",
        "doctor",
        "status",
        "agent",
        "sim",
        "demo",
        "completions",
        "--root",
        "Exit codes:",
        "AUK_ROOT",
    ] {
        assert!(help.contains(part), "no {part} in {help}");
    }
}

#[test]
fn the_help_of_each_subcommand_has_examples() {
    for subcommand in [
        vec!["list"],
        vec!["show"],
        vec!["report"],
        vec!["bind"],
        vec!["unbind"],
        vec!["doctor"],
        vec!["status"],
        vec!["agent"],
        vec!["sim", "host"],
        vec!["sim", "inject"],
        vec!["completions"],
    ] {
        let mut args = subcommand.clone();
        args.push("--help");
        let help = auk(&args).expect_code(0).stdout;
        assert!(help.contains("Examples:"), "{subcommand:?}: {help}");
        assert!(
            help.contains(&format!("  auk {}", subcommand.join(" "))),
            "{help}"
        );
    }
}

#[test]
fn a_command_line_without_sense_ends_in_2() {
    for args in [
        vec![],
        vec!["fly"],
        vec!["list", "--colour"],
        vec!["show"],
        vec!["report"],
        vec!["bind"],
        vec!["unbind", "chip0"],
        vec!["completions", "tcl"],
        vec!["agent", "--interval", "0"],
        vec!["agent", "--listen", "nowhere"],
        vec!["sim", "host", "--chips", "-1"],
    ] {
        let outcome = auk(&args).expect_code(2);
        assert!(
            outcome.stderr.contains("Usage:") || outcome.stderr.contains("--help"),
            "{outcome:?}"
        );
    }
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = auk(&["completions", shell]).expect_code(0).stdout;
        assert!(
            script.contains("auk") && script.contains("inject"),
            "{shell}: {script}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let (mut said, stderr) = io::pipe().unwrap();
    let mut child = command(&["completions", "bash"])
        .stdout(writer)
        .stderr(stderr)
        .spawn()
        .unwrap();
    assert_eq!(ended(&mut child).code(), Some(0));
    let mut text = String::new();
    io::Read::read_to_string(&mut said, &mut text).unwrap();
    assert_eq!(text, "");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut child = command(&["completions", "bash"])
        .stdout(full)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(ended(&mut child).code(), Some(3));
}

#[test]
fn a_log_filter_without_sense_is_told_and_does_no_harm() {
    let outcome = run(command(&["completions", "bash"]).env("AUK_LOG", "=,=")).expect_code(0);
    assert!(outcome.stderr.contains("AUK_LOG"), "{outcome:?}");
}
