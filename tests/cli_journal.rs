//! What `auk agent` writes into systemd's journal, with a socket in place of journald's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Instant;

use cli_support::{Running, SOON, SimHost, eventually};
use nix::sys::signal::Signal;

/// An entry of the journal by the names of its fields.
type Entry = BTreeMap<String, String>;

/// A directory that is `/run/systemd/journal` to who is started here.
struct Journal {
    directory: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Journal {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("socket")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { directory, socket }
    }

    /// An agent whose stderr is a file, which `JOURNAL_STREAM` says is the journal or not; `None` where nobody may mount.
    fn agent(&self, host: &SimHost, stderr: &File, is_journal: bool) -> Option<Running> {
        let mount = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal";
        let may = Command::new("unshare")
            .args(["-rm", "sh", "-c", mount])
            .output();
        if !may.is_ok_and(|outcome| outcome.status.success()) {
            eprintln!(
                "SKIPPED: a journal of one's own needs a mount namespace, which this user may not have"
            );
            return None;
        }
        let script = format!(
            r#"{mount} && mount --bind "$1" /run/systemd/journal && exec "$2" agent --interval 100 --root "$3""#
        );
        let metadata = stderr.metadata().unwrap();
        let inode = metadata.ino() + u64::from(!is_journal);
        let mut command = Command::new("unshare");
        command
            .args(["-rm", "sh", "-c", &script, "sh"])
            .arg(self.directory.path())
            .arg(env!("CARGO_BIN_EXE_auk"))
            .arg(&host.root)
            .env_remove("AUK_LOG")
            .env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().unwrap());
        Some(Running(command.spawn().unwrap()))
    }

    /// Sends to it until it takes no more.
    fn fill(&self) {
        let somebody = UnixDatagram::unbound().unwrap();
        somebody.set_nonblocking(true).unwrap();
        let path = self.directory.path().join("socket");
        while somebody.send_to(b"MESSAGE=filler\n", &path).is_ok() {}
    }

    /// Reads what it was filled with.
    fn empty(&self) {
        self.until("the end of the filler", |_| {
            self.socket.set_nonblocking(true).unwrap();
            let rest = self.socket.recv(&mut [0; 64]).is_ok();
            self.socket.set_nonblocking(false).unwrap();
            !rest
        });
    }

    /// Reads on until an entry is as wanted.
    #[track_caller]
    fn until(&self, what: &str, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let start = Instant::now();
        let mut last = Entry::new();
        while start.elapsed() < SOON {
            let mut datagram = vec![0; 64 << 10];
            let length = self.socket.recv(&mut datagram).expect("an entry in time");
            last = entry(&datagram[..length]);
            if wanted(&last) {
                return last;
            }
        }
        panic!("no {what}; the last was {last:?}");
    }
}

/// Takes an entry apart, as systemd.io/JOURNAL_NATIVE_PROTOCOL has it: `NAME=value`, or the name, the length in eight
/// bytes and the value.
fn entry(mut bytes: &[u8]) -> Entry {
    let mut fields = Entry::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        let line = String::from_utf8(line.to_vec()).unwrap();
        if let Some((name, value)) = line.split_once('=') {
            fields.insert(name.to_owned(), value.to_owned());
            bytes = rest;
            continue;
        }
        let (length, rest) = rest.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap());
        let (value, rest) = rest.split_at(usize::try_from(length).unwrap());
        fields.insert(line, String::from_utf8(value.to_vec()).unwrap());
        bytes = &rest[1..];
    }
    fields
}

#[test]
fn a_change_of_state_is_an_entry_with_its_facts_as_fields() {
    let host = SimHost::start(1, 0);
    let journal = Journal::new();
    let path = host.directory.path().join("stderr");
    let stderr = File::create(&path).unwrap();
    let Some(agent) = journal.agent(&host, &stderr, true) else {
        return;
    };
    let named =
        |entry: &Entry, name: &str, value: &str| entry.get(name).is_some_and(|v| v == value);
    let healthy = journal.until("healthy chip", |entry| {
        named(entry, "AUK_TO", "healthy")
            && named(entry, "AUK_COMPONENT", "0000:01:00.0")
            && !entry.contains_key("AUK_CHECK")
    });
    assert_eq!(healthy["PRIORITY"], "6");
    host.auk(&["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .expect_code(0);
    let check = journal.until("unhealthy check", |entry| {
        named(entry, "AUK_TO", "unhealthy") && named(entry, "AUK_CHECK", "ecc_ue")
    });
    assert_eq!(check["PRIORITY"], "6");
    assert!(check["AUK_EVIDENCE"].contains("ecc_ue 0 -> 1"), "{check:?}");
    let ill = journal.until("unhealthy chip", |entry| {
        named(entry, "AUK_TO", "unhealthy") && !entry.contains_key("AUK_CHECK")
    });
    assert_eq!(ill["SYSLOG_IDENTIFIER"], "auk");
    assert_eq!(ill["PRIORITY"], "4");
    assert_eq!(ill["AUK_COMPONENT"], "0000:01:00.0");
    assert_eq!(ill["AUK_FROM"], "healthy");
    assert!(ill["AUK_EVENT"].parse::<u64>().is_ok(), "{ill:?}");
    assert!(!ill["AUK_SERIAL"].is_empty(), "{ill:?}");
    let message = format!("0000:01:00.0 is unhealthy: {}", ill["AUK_REASON"]);
    assert_eq!(ill["MESSAGE"], message);
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
    // The line for who started it is no log line; nothing else comes as text beside the entries.
    let lines = fs::read_to_string(path).unwrap();
    assert_eq!(lines.lines().count(), 1, "{lines}");
}

#[test]
fn a_journald_that_does_not_read_holds_up_nobody_and_what_it_missed_is_counted() {
    let host = SimHost::start(1, 0);
    let journal = Journal::new();
    journal.fill();
    let path = host.directory.path().join("stderr");
    let stderr = File::create(&path).unwrap();
    let Some(agent) = journal.agent(&host, &stderr, true) else {
        return;
    };
    let until = |what: &str, code: i32| {
        eventually(what, || {
            (host.auk(&["status"]).code == Some(code)).then_some(())
        });
    };
    // Each change of state is an entry that is not taken.
    until("a healthy host", 0);
    host.auk(&["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .expect_code(0);
    until("an unhealthy host", 1);
    journal.empty();
    host.auk(&["hold", "0000:01:00.0", "--reason", "it is read again"])
        .expect_code(0);
    let gap = journal.until("word of what was dropped", |entry| {
        entry["MESSAGE"].contains("log entries were dropped")
    });
    assert_eq!(gap["PRIORITY"], "4");
    let dropped = gap["MESSAGE"].split(' ').next().unwrap();
    assert!(dropped.parse::<u64>().unwrap() >= 2, "{gap:?}");
    journal.until("the entry itself", |entry| entry["MESSAGE"] == "order");
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn a_stderr_that_is_not_the_journal_gets_lines() {
    let host = SimHost::start(1, 0);
    let journal = Journal::new();
    let path = host.directory.path().join("stderr");
    let stderr = File::create(&path).unwrap();
    let Some(_agent) = journal.agent(&host, &stderr, false) else {
        return;
    };
    eventually("a healthy host", || {
        (host.auk(&["status"]).code == Some(0)).then_some(())
    });
    host.auk(&["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .expect_code(0);
    eventually("a line on it", || {
        let lines = fs::read_to_string(&path).unwrap();
        lines.contains("0000:01:00.0 is unhealthy: ").then_some(())
    });
    journal.socket.set_nonblocking(true).unwrap();
    assert!(journal.socket.recv(&mut [0; 16]).is_err());
}
