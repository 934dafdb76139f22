//! Agents whose readers are processes of the test program itself, which must have this test:
//!
//! ```ignore
//! #[test]
//! #[ignore = "runs as a reader process of the other tests"]
//! fn reader_process() {
//!     let _ = run_reader();
//! }
//! ```
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part, and a failing helper is a failing test"
)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use auk_health::verdict::HealthState;
use auk_health::{Agent, AgentHandle, Builder, ReaderCommand, Status};
use nix::unistd::Pid;

/// Generous: the machine that runs the tests may be busy.
pub const SOON: Duration = Duration::from_secs(20);

/// An agent that starts reader processes.
pub fn with_processes(root: &Path) -> Builder {
    let this = std::env::current_exe().unwrap();
    let arguments = ["reader_process", "--exact", "--ignored", "--test-threads=1"];
    // No test has this name, so the last argument only tells whose reader it is.
    let arguments = arguments
        .map(OsStr::new)
        .into_iter()
        .chain([root.as_os_str()]);
    Agent::builder(root).reader_command(ReaderCommand::new(this, arguments))
}

/// The readers of the agent of a root that have not ended.
pub fn readers_of(root: &Path) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").unwrap();
    let pid = |name: &OsStr| name.to_str()?.parse().ok();
    processes
        .filter_map(|entry| pid(&entry.ok()?.file_name()))
        .filter(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let last = arguments.split(|byte| *byte == 0).rev().nth(1);
            last == Some(root.as_os_str().as_bytes())
        })
        .map(Pid::from_raw)
        .collect()
}

/// Whether a process is in a sleep that no signal ends. Its first thread may be dead already.
pub fn sleeps_for_good(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let mut threads = threads.into_iter().flatten().flatten();
    threads.any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('D'));
        state == Some(true)
    })
}

#[track_caller]
pub fn wait(agent: &AgentHandle, what: &str, condition: impl FnMut(&Status) -> bool) -> Status {
    match agent.wait_until(SOON, condition) {
        Ok(status) => status,
        Err(error) => panic!("{what}: {error}: {:#?}", agent.status()),
    }
}

#[track_caller]
pub fn wait_for(agent: &AgentHandle, bdf: &str, state: HealthState) -> Status {
    wait(agent, &format!("{bdf} {state}"), |status| {
        status
            .component(bdf)
            .is_some_and(|component| component.state == state)
    })
}
