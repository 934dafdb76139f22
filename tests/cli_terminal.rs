//! The command on a terminal: width and colour.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod cli_support;

use std::fs::File;
use std::io::Read;
use std::process::Command;
use std::thread;

use cli_support::{SimHost, command, ended};
use nix::pty::{Winsize, openpty};

/// What the command writes to a terminal of so many columns.
fn on_terminal(columns: u16, command: &mut Command) -> String {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(Some(&size), None).unwrap();
    let mut child = command.stdout(terminal.slave).spawn().unwrap();
    // The command holds the other copy of the slave, and the read ends when it is closed as well.
    command.stdout(std::process::Stdio::null());
    let mut master = File::from(terminal.master);
    let text = thread::spawn(move || {
        let mut text = Vec::new();
        // A terminal whose other end is closed reads as an error, EIO.
        let _ = master.read_to_end(&mut text);
        String::from_utf8(text).unwrap().replace('\r', "")
    });
    assert_eq!(ended(&mut child).code(), Some(0));
    text.join().unwrap()
}

fn list(host: &SimHost) -> Command {
    let mut list = command(&["list"]);
    list.arg("--root").arg(&host.root).env("TERM", "xterm");
    list
}

#[test]
fn a_terminal_gets_colours_unless_no_color_is_set() {
    let host = SimHost::start(1, 1);
    let text = on_terminal(100, &mut list(&host));
    assert!(text.contains("\u{1b}["), "{text}");
    let text = on_terminal(100, list(&host).env("NO_COLOR", "1"));
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn a_terminal_of_twenty_columns_gets_lists_that_fit() {
    let host = SimHost::start(1, 1);
    let text = on_terminal(20, list(&host).env("NO_COLOR", "1"));
    assert!(
        text.contains("0000:01:00.0\n  model  A1\n  state  Running\n"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 20),
        "{text}"
    );
}

#[test]
fn a_terminal_that_does_not_know_its_width_gets_a_table() {
    let host = SimHost::start(1, 0);
    let text = on_terminal(0, list(&host).env("NO_COLOR", "1"));
    assert_eq!(text.lines().count(), 2, "{text}");
}
