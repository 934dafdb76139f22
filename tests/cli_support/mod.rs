//! What the tests of the command share: running it with a deadline, and a simulated host of its making.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses its part, and a failing helper is a failing test"
)]

pub mod tree;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Generous: the machine that runs the tests may be busy.
pub const SOON: Duration = Duration::from_secs(30);

/// How a run of the command ended.
#[derive(Debug)]
pub struct Outcome {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Its output as JSON, in which all documents are.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    pub fn expect_error(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.stdout, "", "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
        self.expect_code(code)
    }
}

/// The command, without what the environment of the tests would tell it.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auk"));
    command.args(args).stdin(Stdio::null());
    for variable in ["AUK_ROOT", "AUK_LOG", "COLUMNS", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command
}

/// Runs the command to its end.
#[track_caller]
pub fn auk(args: &[&str]) -> Outcome {
    run(&mut command(args))
}

/// Runs the command on a root.
#[track_caller]
pub fn auk_at(root: &Path, args: &[&str]) -> Outcome {
    run(command(args).arg("--root").arg(root))
}

/// Runs a command to its end, which must come soon.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = reader(child.stdout.take().unwrap());
    let stderr = reader(child.stderr.take().unwrap());
    let status = ended(&mut child);
    Outcome {
        code: status.code(),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn reader(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

/// Waits for the end of a child.
#[track_caller]
pub fn ended(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > SOON {
            child.kill().unwrap();
            panic!("the command did not end within {SOON:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks again until the answer is yes.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < SOON, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A command that runs until it is told to stop. Dropped, it is killed.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts it and returns the first line of its stdout or stderr.
    #[track_caller]
    pub fn start(command: &mut Command, on_stderr: bool) -> (Self, String) {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
        let stderr: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
        let (told, drained) = if on_stderr {
            (stderr, stdout)
        } else {
            (stdout, stderr)
        };
        // Both are read to the end, so that the command never waits for a reader.
        let rest = reader(drained);
        let (first, line) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(told).lines().map_while(Result::ok);
            let _ = first.send(lines.next());
            lines.for_each(drop);
        });
        let running = Self(child);
        match line.recv_timeout(SOON) {
            Ok(Some(line)) => (running, line),
            Ok(None) => panic!("it ended at once: {}", rest.join().unwrap()),
            Err(_) => panic!("it said nothing within {SOON:?}"),
        }
    }

    /// Starts it and waits until a line of its stdout contains `text`. Its stderr is the caller's to read.
    #[track_caller]
    pub fn start_until(command: &mut Command, text: &str) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut running = Self(child);
        let stdout = running.0.stdout.take().unwrap();
        let (each, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Read on when nobody listens any more, so that the command never waits for a reader.
                let _ = each.send(line);
            }
        });
        let start = Instant::now();
        loop {
            let left = SOON.saturating_sub(start.elapsed());
            match lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return running,
                Ok(_) => {}
                Err(error) => panic!("it did not say {text:?}: {error}"),
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal and waits for the end.
    #[track_caller]
    pub fn stop(mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap());
        kill(pid, signal).unwrap();
        ended(&mut self.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended long ago, mostly.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A simulated host in a process of its own.
#[derive(Debug)]
pub struct SimHost {
    pub running: Running,
    pub root: PathBuf,
    pub ready: Value,
    pub directory: tempfile::TempDir,
}

impl SimHost {
    #[track_caller]
    pub fn start(chips: usize, nics: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("host");
        let (running, ready) = sim_host(&root, chips, nics);
        Self {
            running,
            root,
            ready,
            directory,
        }
    }

    #[track_caller]
    pub fn auk(&self, args: &[&str]) -> Outcome {
        auk_at(&self.root, args)
    }
}

/// Starts `auk sim host`, and returns it with its ready line.
#[track_caller]
pub fn sim_host(root: &Path, chips: usize, nics: usize) -> (Running, Value) {
    let (chips, nics) = (chips.to_string(), nics.to_string());
    let args = ["sim", "host", "--json", "--chips", &chips, "--nics", &nics];
    let (running, line) = Running::start(command(&args).arg("--root").arg(root), false);
    let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    (running, ready)
}

/// Starts `auk agent` with a short interval, and waits until it answers.
#[track_caller]
pub fn agent(root: &Path, args: &[&str]) -> (Running, String) {
    let mut command = command(&["agent", "--interval", "100"]);
    Running::start(command.args(args).arg("--root").arg(root), true)
}

/// A component of a status document.
#[track_caller]
pub fn component<'a>(status: &'a Value, address: &str) -> &'a Value {
    let components = status["components"].as_array().unwrap();
    let mut found = components
        .iter()
        .filter(|component| component["bdf"] == address);
    found
        .next()
        .unwrap_or_else(|| panic!("no {address} in {status}"))
}
