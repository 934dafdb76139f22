//! From nothing to work: a chip's first completion, a host's start, and what a host costs that nobody uses.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use auk_asic::State;
use auk_driver::{Command, Device, OpenOptions, QueueOptions};
use auk_sim::host::{Host, SimulatedHost};
use auk_sim::{Chip, ChipProfile};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::time::TimeVal;

use crate::pairs::{Bench, Groups};
use crate::report::{Bound, Budget, Row, Unit};
use crate::rig::PATIENCE;

const CHIPS: usize = 8;
const NICS: usize = 8;
const IDLE: Duration = Duration::from_secs(3);
/// A tmpfs wherever there is one.
const TMPFS: &str = "/dev/shm";

pub(crate) fn measure(bench: &mut Bench) {
    bench.processors.release();
    let row = |what, unit, most| Row {
        what,
        unit,
        least: Groups::ONE,
        reference: None,
        budget: Budget::Value(Bound::AtMost(most)),
    };
    let chip = Chip::new(ChipProfile::silicon(1)).expect("a chip");
    let what = "open to first completion";
    bench.alone(row(what, Unit::Milliseconds, 30.0), || open(&chip));

    let elsewhere = std::env::temp_dir();
    for (what, below) in [
        ("host of 8 chips and 8 NICs, on tmpfs", Path::new(TMPFS)),
        ("host of 8 chips and 8 NICs, temporary files", &elsewhere),
    ] {
        if below == Path::new(TMPFS) && !is_tmpfs(below) {
            println!("SKIPPED: {what}: {TMPFS} is none here");
            continue;
        }
        bench.alone(row(what, Unit::Milliseconds, 200.0), || start(below).1);
    }

    if !bench.chosen() {
        return;
    }
    bench.processors.release();
    let (_host, _) = start(&elsewhere);
    let before = busy();
    let since = Instant::now();
    thread::sleep(IDLE);
    let each = (busy() - before).div_f64(since.elapsed().as_secs_f64());
    let what = "host of 8 chips and 8 NICs, idle";
    bench.tell(row(what, Unit::PercentOfCore, 2.0), each);
}

/// The time from a connected socket to a command that has ended, on a chip whose firmware runs.
fn open(chip: &Chip) -> Duration {
    while chip.state() != State::Running {
        thread::sleep(Duration::from_millis(1));
    }
    let (_serving, socket) = chip.connect().expect("a server");
    let start = Instant::now();
    let device = Device::from_socket("bench", socket, &OpenOptions::default()).expect("a device");
    let mut queue = device
        .create_queue(&QueueOptions::default())
        .expect("a queue");
    queue.run(&Command::nop(), PATIENCE).expect("success");
    start.elapsed()
}

/// A host below a directory that is removed after it, and how long it took until its chips had booted.
fn start(below: &Path) -> ((SimulatedHost, tempfile::TempDir), Duration) {
    let directory = tempfile::tempdir_in(below).expect("a directory");
    let root = directory.path().join("host");
    let start = Instant::now();
    let host = Host::builder(root).chips(CHIPS).nics(NICS).start();
    let time = start.elapsed();
    ((host.expect("a host"), directory), time)
}

fn is_tmpfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

/// Processor time of this process so far.
fn busy() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("what this process used");
    let time = |value: TimeVal| {
        Duration::from_secs(value.tv_sec() as u64) + Duration::from_micros(value.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}
