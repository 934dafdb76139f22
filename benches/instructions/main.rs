//! Instructions that the driver executes for a command, counted by Valgrind's callgrind: the same number whatever else the
//! machine does, so that CI can compare it.
//!
//! `cargo bench --bench instructions` counts, prints a table and fails when a count is above what [`COUNTS`] allows. The
//! chip is in the same process, in threads of its own; only what happens inside [`counted_submit`] and [`counted_reap`] is
//! counted, and the chip is done with a batch before it is reaped, so that no waiting is counted.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot go on has nothing to report"
)]

use std::env;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command as Process, ExitCode};
use std::thread;
use std::time::Duration;

use auk_driver::{Command, Device, IoQueue, OpenOptions, QueueOptions, Ticket};
use auk_sim::{Chip, ChipProfile};

/// What is counted, and how many instructions of a command were counted when this was last changed. A change to the driver that
/// makes it more by [`GROWTH`] fails; one that makes it less is written down here.
const COUNTS: [Count; 2] = [
    Count {
        what: "nop",
        committed: 119.0,
    },
    Count {
        what: "copy",
        committed: 232.0,
    },
];
/// The most that a command may cost, by the project's design.
const BUDGET: f64 = 120.0;
/// The compiler may come to lay out code a little differently.
const GROWTH: f64 = 1.05;

const BATCH: usize = 32;
/// The difference of two runs is of whole batches only: what is done once falls out.
const BATCHES: [usize; 2] = [16, 80];
/// Between two looks at whether the chip is done with a batch, and how often it may not be.
const PAUSE: Duration = Duration::from_millis(2);
const MOST_PAUSES: u32 = 10_000;
/// Given to this program by itself, with what to do and how many batches.
const COUNTED: &str = "--counted";

struct Count {
    what: &'static str,
    committed: f64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|one| one == COUNTED) {
        let batches = arguments[at + 2].parse().expect("a number of batches");
        run(&arguments[at + 1], batches);
        return ExitCode::SUCCESS;
    }
    let mut fits = true;
    println!("instructions a command, submitted and reaped in batches of {BATCH}\n");
    println!(
        "{:<6} {:>8} {:>10} {:>8}",
        "what", "counted", "committed", "budget"
    );
    for Count { what, committed } in COUNTS {
        let [few, many] = BATCHES.map(|batches| count(what, batches));
        let commands = (BATCHES[1] - BATCHES[0]) * BATCH;
        let counted = (many - few) as f64 / commands as f64;
        println!("{what:<6} {counted:>8.1} {committed:>10.1} {BUDGET:>8.1}");
        fits &= counted <= committed * GROWTH;
    }
    match fits {
        true => ExitCode::SUCCESS,
        false => {
            println!("\nmore than was committed in benches/instructions/main.rs");
            ExitCode::FAILURE
        }
    }
}

/// Counts by running this program again, under callgrind.
fn count(what: &str, batches: usize) -> u64 {
    let directory = tempfile::tempdir().expect("a directory for what callgrind writes");
    let written = directory.path().join("out");
    let program = env::current_exe().expect("the path of this program");
    let done = Process::new("valgrind")
        .args([
            "--tool=callgrind",
            "--fair-sched=yes",
            "--collect-atstart=no",
        ])
        .args([
            "--toggle-collect=*counted_submit*",
            "--toggle-collect=*counted_reap*",
        ])
        .arg(format!("--callgrind-out-file={}", written.display()))
        .arg(program)
        .args([COUNTED, what, &batches.to_string()])
        .output()
        .expect("valgrind; on Debian: apt-get install valgrind");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    total(&written)
}

/// The instructions that callgrind's file sums up in its line `totals:`.
fn total(written: &Path) -> u64 {
    let text = std::fs::read_to_string(written).expect("what callgrind wrote");
    text.lines()
        .find_map(|line| line.strip_prefix("totals:"))
        .and_then(|total| total.trim().parse().ok())
        .expect("a line of totals")
}

fn run(what: &str, batches: usize) {
    // A chip that never sleeps, as silicon does not: nobody has to wake it by a message.
    let profile = ChipProfile {
        parking: false,
        ..ChipProfile::silicon(1)
    };
    let chip = Chip::new(profile).expect("a chip");
    let (_serving, socket) = chip.connect().expect("a server");
    let device = Device::from_socket("bench", socket, &OpenOptions::default()).expect("a device");
    let options = QueueOptions::default().depth(2 * BATCH as u32);
    let mut queue = device.create_queue(&options).expect("a queue");
    let host = device.buffer(4096).expect("host memory");
    let local = device.alloc(4096).expect("device memory");
    let command = match what {
        "nop" => Command::nop(),
        "copy" => Command::copy(&local, &host, 4096),
        other => panic!("{other} is not counted"),
    };
    let commands = [command; BATCH];
    let mut tickets = Vec::with_capacity(BATCH);
    for batch in 1..=batches {
        counted_submit(&mut queue, &commands, &mut tickets);
        wait_until_done(&device, batch * BATCH);
        assert_eq!(counted_reap(&mut queue), BATCH, "all are done");
        tickets.clear();
    }
}

/// Waits until the chip's own telemetry counts so many commands.
fn wait_until_done(device: &Device, commands: usize) {
    for _ in 0..MOST_PAUSES {
        // Callgrind can make the chip's updates come during each of the driver's tries to read a table that holds still.
        let telemetry = device.telemetry();
        if telemetry.is_ok_and(|table| table.commands_ok >= commands as u64) {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("{commands} commands are not done after a long while");
}

#[inline(never)]
fn counted_submit(queue: &mut IoQueue, commands: &[Command<'_>], tickets: &mut Vec<Ticket>) {
    queue
        .submit_batch(black_box(commands), tickets)
        .expect("room in the queue");
}

#[inline(never)]
fn counted_reap(queue: &mut IoQueue) -> usize {
    let mut done = 0;
    for completion in queue.completions() {
        done += usize::from(completion.result.is_ok());
    }
    done
}
