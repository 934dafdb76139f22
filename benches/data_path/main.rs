//! The data path, from the driver to the simulated chip and back, beside what the machine can do at all.
//!
//! `cargo bench --bench data_path` ends with a table of ratios; the budgets in it are those of the project's design.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot go on has nothing to report"
)]
#![allow(
    missing_docs,
    reason = "criterion's macros and this program's own modules"
)]

mod report;
mod yardstick;

use std::time::{Duration, Instant};

use auk_asic::config::header;
use auk_asic::ident::{Model, ident_register};
use auk_driver::{Command, Device, IoQueue, OpenOptions, QueueOptions, WaitMode};
use auk_sim::{Chip, ChipProfile, Serving};
use auk_vfio_user::client::{Client, Options};
use auk_vfio_user::pci::{BAR0_REGION, CONFIG_REGION};
use criterion::Criterion;
use report::{Budget, Report, Row};
use yardstick::{EventfdRoundTrip, RingFloor};

const DEPTH: u32 = 256;
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Polls in a row without a completion after which the chip is asked whether it is well, and how often that is right.
const IDLE_POLLS: u64 = 1 << 24;
const MOST_CHECKS: u32 = 1000;

const ROWS: [Row; 7] = [
    Row {
        what: "nop, 1 in flight",
        yardstick: "ring floor, 1",
        budget: Budget::Time(1.5),
    },
    Row {
        what: "nop, 32 in flight",
        yardstick: "ring floor, 32",
        budget: Budget::Rate(0.6),
    },
    Row {
        what: "nop, 128 in flight",
        yardstick: "ring floor, 128",
        budget: Budget::Rate(0.6),
    },
    Row {
        what: "copy 4 KiB, 32 in flight",
        yardstick: "memcpy 4 KiB",
        budget: Budget::PerSecond(4e6),
    },
    Row {
        what: "copy 1 MiB, 4 in flight",
        yardstick: "memcpy 1 MiB",
        budget: Budget::Rate(0.95),
    },
    Row {
        what: "nop by interrupt, 1 in flight",
        yardstick: "eventfd round trip",
        budget: Budget::Time(0.7),
    },
    Row {
        what: "register read over the socket",
        yardstick: "eventfd round trip",
        budget: Budget::Rate(0.95),
    },
];

fn main() {
    let report = Report::default();
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    nops(&mut criterion, &report);
    copies(&mut criterion, &report);
    messages(&mut criterion, &report);
    criterion.final_summary();
    report.print(&ROWS);
}

/// A chip in this process, at the other end of a socket.
struct Rig {
    queue: IoQueue,
    device: Device,
    _serving: Serving,
    _chip: Chip,
}

impl Rig {
    fn new() -> Self {
        let chip = Chip::new(ChipProfile::silicon(1)).expect("a chip");
        let (serving, socket) = chip.connect().expect("a server");
        let device =
            Device::from_socket("bench", socket, &OpenOptions::default()).expect("a device");
        let queue = device
            .create_queue(&QueueOptions::default().depth(DEPTH))
            .expect("a queue");
        Self {
            queue,
            device,
            _serving: serving,
            _chip: chip,
        }
    }

    /// The time of `count` commands with up to `in_flight` of them under way.
    fn run(&mut self, command: &Command<'_>, count: u64, in_flight: u64) -> Duration {
        let start = Instant::now();
        let (mut submitted, mut done) = (0, 0);
        let (mut idle, mut checks) = (0, 0);
        while done < count {
            while submitted < count && submitted - done < in_flight {
                self.queue.push(command).expect("room in the queue");
                submitted += 1;
            }
            self.queue.ring().expect("a doorbell");
            idle += 1;
            for completion in self.queue.completions() {
                completion.result.expect("success");
                done += 1;
                idle = 0;
            }
            if idle == IDLE_POLLS {
                self.device.check().expect("a chip that is well");
                (idle, checks) = (0, checks + 1);
                assert!(checks < MOST_CHECKS, "the chip completes nothing");
            }
        }
        start.elapsed()
    }
}

fn nops(criterion: &mut Criterion, report: &Report) {
    let mut group = criterion.benchmark_group("nop");
    for (what, floor, in_flight) in [
        ("nop, 1 in flight", "ring floor, 1", 1),
        ("nop, 32 in flight", "ring floor, 32", 32),
        ("nop, 128 in flight", "ring floor, 128", 128),
    ] {
        group.bench_function(floor, |bencher| {
            bencher.iter_custom(|count| {
                report.sample(floor, count, || {
                    RingFloor::start(DEPTH as usize).run(count, in_flight)
                })
            });
        });
        let mut rig = Rig::new();
        group.bench_function(what, |bencher| {
            bencher.iter_custom(|count| {
                report.sample(what, count, || rig.run(&Command::nop(), count, in_flight))
            });
        });
    }
    group.finish();
}

fn copies(criterion: &mut Criterion, report: &Report) {
    let mut group = criterion.benchmark_group("copy");
    for (what, memcpy, bytes, in_flight) in [
        ("copy 4 KiB, 32 in flight", "memcpy 4 KiB", 4 * KIB, 32),
        ("copy 1 MiB, 4 in flight", "memcpy 1 MiB", MIB, 4),
    ] {
        let source = vec![7_u8; bytes];
        let mut target = vec![0_u8; bytes];
        group.bench_function(memcpy, |bencher| {
            bencher.iter_custom(|count| {
                report.sample(memcpy, count, || {
                    let start = Instant::now();
                    for _ in 0..count {
                        std::hint::black_box(&mut target)
                            .copy_from_slice(std::hint::black_box(&source));
                    }
                    start.elapsed()
                })
            });
        });
        let mut rig = Rig::new();
        let host = rig.device.buffer(bytes).expect("host memory");
        let local = rig.device.alloc(bytes as u64).expect("device memory");
        host.write(0, &source).expect("a filled buffer");
        let command = Command::copy(&local, &host, bytes as u64);
        group.bench_function(what, |bencher| {
            bencher.iter_custom(|count| {
                report.sample(what, count, || rig.run(&command, count, in_flight))
            });
        });
    }
    group.finish();
}

fn messages(criterion: &mut Criterion, report: &Report) {
    let mut group = criterion.benchmark_group("message");
    let floor = "eventfd round trip";
    group.bench_function(floor, |bencher| {
        bencher.iter_custom(|count| {
            report.sample(floor, count, || EventfdRoundTrip::start().run(count))
        });
    });

    let mut rig = Rig::new();
    rig.queue.set_wait_mode(WaitMode::Interrupt);
    let what = "nop by interrupt, 1 in flight";
    group.bench_function(what, |bencher| {
        bencher.iter_custom(|count| {
            report.sample(what, count, || {
                let start = Instant::now();
                for _ in 0..count {
                    let ticket = rig
                        .queue
                        .submit(&Command::nop())
                        .expect("room in the queue");
                    rig.queue.wait(ticket, PATIENCE).expect("success");
                }
                start.elapsed()
            })
        });
    });

    let chip = Chip::new(ChipProfile::silicon(1)).expect("a chip");
    let (_serving, socket) = chip.connect().expect("a server");
    let client =
        Client::from_fd(socket, Options::default(), Instant::now() + PATIENCE).expect("a client");
    // Registers answer once memory space is enabled.
    client
        .region_write(
            CONFIG_REGION,
            header::COMMAND.into(),
            &header::COMMAND_MEMORY.to_le_bytes(),
            Instant::now() + PATIENCE,
        )
        .expect("memory space enabled");
    let what = "register read over the socket";
    group.bench_function(what, |bencher| {
        bencher.iter_custom(|count| {
            report.sample(what, count, || {
                let mut identity = [0; 4];
                let start = Instant::now();
                for _ in 0..count {
                    client
                        .region_read(BAR0_REGION, 0, &mut identity, start + PATIENCE)
                        .expect("an answer");
                }
                let time = start.elapsed();
                assert_eq!(u32::from_le_bytes(identity), ident_register(Model::Silicon));
                time
            })
        });
    });
    group.finish();
}
