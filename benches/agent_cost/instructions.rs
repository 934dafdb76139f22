//! Instructions of a round, counted by Valgrind's callgrind: the same number whatever else the machine does.
//!
//! The agent is in one process, with its readers as threads. What the kernel does for it is not counted.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use auk_health::Agent;

use super::tree;

/// As `main`'s first argument, with a root and a number of rounds.
pub(crate) const ROUNDS: &str = "rounds";
/// What is done once falls out of the difference of two runs. Both end with the same number of slow looks.
const FEW_AND_MANY: [u32; 2] = [20, 60];
/// So long that no look is late, as callgrind makes an agent fifty times slower.
const INTERVAL: Duration = Duration::from_millis(1500);

/// An agent that ends after the time of so many rounds; nobody asks it for anything, as that would be counted.
pub(crate) fn run(root: &Path, rounds: u32) {
    let agent = Agent::builder(root)
        .interval(INTERVAL)
        .read_deadline(INTERVAL);
    let lasts = INTERVAL * rounds + INTERVAL / 2;
    let end = async move { tokio::time::sleep(lasts).await };
    agent.build().unwrap().run_until(end).unwrap();
}

/// Instructions of a round at so many sleeping chips; `None` without Valgrind.
pub(crate) fn of_a_round(chips: usize) -> Option<f64> {
    Command::new("valgrind").arg("--version").output().ok()?;
    let directory = tree::scratch();
    tree::still(directory.path(), chips);
    let [few, many] = FEW_AND_MANY.map(|rounds| count(directory.path(), rounds));
    let rounds = FEW_AND_MANY[1] - FEW_AND_MANY[0];
    Some((many - few) as f64 / f64::from(rounds))
}

fn count(root: &Path, rounds: u32) -> u64 {
    let written = root.join("callgrind");
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--fair-sched=yes"])
        .arg(format!("--callgrind-out-file={}", written.display()))
        .arg(env::current_exe().unwrap())
        .args([ROUNDS.as_ref(), root.as_os_str()])
        .arg(rounds.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let text = fs::read_to_string(written).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
    total.and_then(|total| total.trim().parse().ok()).unwrap()
}
