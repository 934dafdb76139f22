//! A process that is killed while a chip works for it: the chip's DMA to its memory ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failing helper is a failing test"
)]

mod driver_support;

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use auk_driver::dma::{HugePages, SpaceOptions};
use auk_driver::{Command, Device, DmaSpace, OpenOptions, QueueOptions};
use driver_support::*;

/// Tells this program, run once more, to be the job, and where its chip is.
const JOB: &str = "AUK_TEST_JOB";
/// What the job's buffer begins with, before the chip fills it.
const MARK: &[u8; 8] = b"a tensor";
const FILLED: [u8; 8] = [0xAA; 8];
/// Where in the buffer the semaphore is that the chip waits for.
const SEMAPHORE: u64 = 4096;

/// Submits a command that waits and one that fills the buffer after it, and never ends.
fn job(socket: &Path) {
    let space = DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never));
    let options = OpenOptions::default().space(&space);
    let socket = UnixStream::connect(socket).unwrap();
    let device = Device::from_socket("a job's chip", socket, &options).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let buffer = space.alloc(2 << 20).unwrap();
    buffer.write(0, MARK).unwrap();
    let commands = [
        Command::wait((&buffer, SEMAPHORE), 1, 9_000),
        Command::fill(&buffer, u64::from_le_bytes(FILLED), SEMAPHORE).fenced(),
    ];
    queue.submit_batch(&commands, &mut Vec::new()).unwrap();
    println!("\nat work");
    std::io::stdout().flush().unwrap();
    loop {
        thread::park();
    }
}

struct Job {
    process: Child,
    buffer: File,
}

impl Job {
    fn start(socket: &Path) -> Self {
        let mut process = Process::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", TEST])
            .env(JOB, socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap() == "at work"),
            "the job fails"
        );
        let buffer = memory_of(process.id()).expect("the job's buffer");
        Self { process, buffer }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn signal(&self) {
        self.buffer
            .write_all_at(&1u64.to_le_bytes(), SEMAPHORE)
            .unwrap();
    }

    fn found(&self) -> [u8; 8] {
        let mut found = [0; 8];
        self.buffer.read_exact_at(&mut found, 0).unwrap();
        found
    }
}

/// The memory of a process that begins with the mark: it outlives the process for who has it open.
fn memory_of(process: u32) -> Option<File> {
    for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        let path = entry.unwrap().path();
        let memory = fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().contains("auk-dma"));
        if !memory {
            continue;
        }
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut found = [0; 8];
        file.read_exact_at(&mut found, 0).unwrap();
        if found == *MARK {
            return Some(file);
        }
    }
    None
}

const TEST: &str = "the_chip_no_longer_writes_the_memory_of_a_process_that_was_killed";

#[test]
fn the_chip_no_longer_writes_the_memory_of_a_process_that_was_killed() {
    if let Some(socket) = env::var_os(JOB) {
        return job(Path::new(&socket));
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("chip");
    let chip = chip();
    let _serving = chip.serve(&socket).unwrap();

    // As long as the job lives, the chip does as it was told.
    let mut alive = Job::start(&socket);
    alive.signal();
    let end = Instant::now() + SOON;
    while alive.found() != FILLED {
        assert!(Instant::now() < end, "the chip does not work");
        thread::sleep(Duration::from_millis(1));
    }
    alive.kill();

    let mut killed = Job::start(&socket);
    killed.kill();
    // The next client is served when the one before has been cleaned up after.
    let device = loop {
        let stream = UnixStream::connect(&socket).unwrap();
        match Device::from_socket("the next job's chip", stream, &OpenOptions::default()) {
            Ok(device) => break device,
            Err(error) => assert!(Instant::now() < end + SOON, "{error}"),
        }
    };
    killed.signal();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let memory = device.alloc(4096).unwrap();
    for _ in 0..100 {
        queue.run(&Command::fill(&memory, 1, 4096), SOON).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(killed.found(), *MARK);
    assert_strict(&chip);
}
