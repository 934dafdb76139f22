//! Processes, what they cost, and what they answer.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A process that is told to end when this is dropped.
pub(crate) struct Child(process::Child);

/// What a process and its children have used.
pub(crate) struct Cost {
    /// CPU time of all, also of threads that have ended as far as the kernel tells.
    pub(crate) cpu: Duration,
    /// Bytes of the process alone, as `ps` has it.
    pub(crate) own_resident: u64,
    /// Bytes of all, what they share counted once.
    pub(crate) together: u64,
}

impl Child {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    /// `None` when there is no such program.
    pub(crate) fn try_start(command: &mut Command) -> Option<Self> {
        command.stdin(Stdio::null()).spawn().ok().map(Self)
    }

    /// Waits for the first line of its stdout.
    pub(crate) fn until_stdout(mut self) -> Self {
        let mut line = String::new();
        let stdout = self.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it ended at once");
        self
    }

    pub(crate) fn cost(&self) -> Cost {
        let own = self.0.id();
        let mut all = children(own);
        all.push(own);
        Cost {
            cpu: all.iter().map(|process| cpu(*process)).sum(),
            own_resident: kilobytes(own, "status", "VmRSS:") * 1024,
            together: all
                .iter()
                .map(|process| kilobytes(*process, "smaps_rollup", "Pss:") * 1024)
                .sum(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let process = i32::try_from(self.0.id()).map(nix::unistd::Pid::from_raw);
        // Ended already, if not.
        let _ = process.map(|process| nix::sys::signal::kill(process, nix::sys::signal::SIGTERM));
        let _ = self.0.wait();
    }
}

fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let mut found: Vec<u32> = numbers(&read(path));
    // Children of other threads of it.
    for thread in tasks(process) {
        let path = format!("/proc/{process}/task/{thread}/children");
        found.extend(numbers(&read(path)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn tasks(process: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{process}/task"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// CPU time of a process, in nanoseconds where the kernel counts these (Documentation/scheduler/sched-stats.rst).
fn cpu(process: u32) -> Duration {
    let of = |task| {
        let text = read(format!("/proc/{process}/task/{task}/schedstat"));
        text.split(' ')
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0)
    };
    tasks(process)
        .into_iter()
        .map(|task| Duration::from_nanos(of(task)))
        .sum()
}

fn kilobytes(process: u32, file: &str, name: &str) -> u64 {
    let text = read(format!("/proc/{process}/{file}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    value.unwrap_or(0)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The body of an answer to a GET.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some(body.to_owned())
}
