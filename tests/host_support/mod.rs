//! What the tests of the simulated host share.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses a part of it"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use auk_sim::ChipProfile;
use auk_sim::host::{Host, SimulatedHost};

/// Longest wait for anything; a wait that takes as long is a failure.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A directory for a tree: in memory where that can be had, because a host makes thousands of small files.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A host whose chips have little memory.
pub fn small_host(root: &Path, chips: u64, nics: usize) -> SimulatedHost {
    let mut builder = Host::builder(root).nics(nics);
    for serial in 1..=chips {
        builder = builder.chip(ChipProfile {
            memory: 1 << 20,
            ..ChipProfile::silicon(serial)
        });
    }
    builder.start().unwrap()
}

/// A text file of the tree.
pub fn read(root: &Path, path: &str) -> String {
    let path = root.join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Waits until something is so.
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !so() {
        assert!(Instant::now() < end, "{what} did not come in {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// What stays of a text when its values are taken out: its words' kinds, line by line.
pub fn shape(name: &str, text: &str) -> Vec<Vec<&'static str>> {
    let kind = |word: &str| {
        if word.starts_with("0x") {
            "hexadecimal"
        } else if word.parse::<i64>().is_ok() {
            "number"
        } else if word.contains('=') {
            "assignment"
        } else {
            "word"
        }
    };
    assert!(
        text.ends_with('\n') || text.is_empty(),
        "{name} does not end its line: {text:?}"
    );
    let mut shapes: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().map(kind).collect())
        .collect();
    // How many lines there are depends on kernel and device; what lines there are does not.
    shapes.dedup();
    // A link of unknown speed, ranges of processors, an override that is not set: words or numbers as it happens.
    if matches!(
        name,
        "local_cpulist"
            | "driver_override"
            | "max_link_speed"
            | "current_link_speed"
            | "reset_method"
            | "rate"
    ) {
        shapes.truncate(0);
    }
    shapes
}

/// How many threads of this process the simulator made.
pub fn simulator_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .filter(|name| name.starts_with("auk-sim"))
        .count()
}
