//! What the driver returns of each fault of a chip, and how it gets the chip back: the driver's columns of `docs/faults.md`, made by
//! `cargo test --test faults_driver -- --ignored`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod driver_support;
#[path = "faults_support/page.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the page itself is made by another file"
)]
mod page;

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use auk_asic::program::{Activation, Gemm, Precision, Program};
use auk_driver::{
    Command, Device, DeviceMemory, DmaBuffer, Error, IoQueue, LoadedProgram, OpenOptions,
    QueueOptions, Recovery, ResetKind, Step, WaitMode,
};
use auk_sim::inject::{Occasion, Target, Verb};
use auk_sim::{Chip, ChipProfile, Timing};
use driver_support::*;
use page::Table;

const TABLE: &str = "driver.tsv";
const COLUMNS: [&str; 4] = ["fault", "the driver returns", "recovered by", "in"];

/// Chips that are played at a time: each waits most of the time.
const AT_ONCE: usize = 6;
/// How often the job tries its work until the fault has befallen it.
const TRIES: u32 = 3;
/// Upper bounds that times are told in, in seconds. The check allows for a busy machine.
const BOUNDS: [u64; 4] = [1, 3, 10, 30];
const SLACK: Duration = Duration::from_secs(30);

const GEMM: Gemm = Gemm {
    precision: Precision::Int8 { requantise: false },
    inner: 4,
    columns: 4,
    bias: false,
    activation: Activation::None,
};

/// A job with a known answer, and all that a reset takes away from it.
struct Job {
    queue: IoQueue,
    input: DmaBuffer,
    output: DmaBuffer,
    local: DeviceMemory,
    params: DeviceMemory,
    program: LoadedProgram,
    /// Each time the work is on other data: what was there before is no answer.
    times: u32,
}

impl Job {
    fn new(device: &Device, wait: WaitMode) -> Result<Self, Error> {
        let mut queue = device.create_queue(&QueueOptions::default().wait_mode(wait))?;
        let params = device.alloc(GEMM.params().length)?;
        queue.upload(&params, 0, &vec![2; GEMM.params().length as usize], SOON)?;
        Ok(Self {
            input: device.buffer(4096)?,
            output: device.buffer(4096)?,
            local: device.alloc(4096)?,
            program: device.load(&Program::Gemm(GEMM))?,
            params,
            queue,
            times: 0,
        })
    }

    /// Does the work. `false` when the answer is wrong.
    fn work(&mut self) -> Result<bool, Error> {
        self.times += 1;
        let data = auk_chip_checks::pattern(self.times as u8, 4096);
        self.input.write(0, &data)?;
        self.output.write(0, &[0; 4096])?;
        self.queue
            .execute(&Command::copy(&self.local, &self.input, 4096))?;
        self.queue
            .execute(&Command::copy(&self.output, &self.local, 4096))?;
        let mut found = vec![0; 4096];
        self.output.read(0, &mut found)?;
        let copied = found == data;
        self.input.write(0, &[1; 4])?;
        let product = Command::gemm(&self.program, 1, &self.output, &self.input, &self.params);
        self.queue.execute(&product)?;
        let mut sums = [0; 16];
        self.output.read(0, &mut sums)?;
        Ok(copied && sums.to_vec() == 8i32.to_le_bytes().repeat(4))
    }
}

/// What is told of a fault.
#[derive(Debug)]
struct Row {
    returns: String,
    recovered_by: String,
    took: Duration,
}

fn variant(error: &Error) -> String {
    let debug = format!("{error:?}");
    let end = debug.find(|c: char| !c.is_alphanumeric());
    let name = &debug[..end.unwrap_or(debug.len())];
    match error {
        Error::Command { status, .. } => format!("`Error::Command`, {status:?}"),
        Error::Faulted {
            fault: Some(fault), ..
        } => format!("`Error::Faulted`, {fault:?}"),
        Error::NotReady { state, .. } => format!("`Error::NotReady`, {state:?}"),
        _ => format!("`Error::{name}`"),
    }
}

fn steps(recovery: &Recovery) -> String {
    let steps: Vec<_> = recovery
        .steps
        .iter()
        .map(|climbed| match &climbed.error {
            None => climbed.step.name().to_owned(),
            Some(_) => format!("{} (in vain)", climbed.step.name()),
        })
        .collect();
    match &steps[..] {
        [] => "nothing to do".to_owned(),
        steps => steps.join(", "),
    }
}

fn hasty_chip() -> Chip {
    Chip::new(ChipProfile {
        timing: Timing {
            command_ms: 1_000,
            restart_ms: 1_000,
            ..Timing::default()
        },
        ..profile()
    })
    .unwrap()
}

fn verb_of(name: &str) -> Verb {
    let line = match name {
        "link-width" => r#"{"verb":"link-width","target":"","lanes":2}"#.to_owned(),
        // As long as a look at the chip takes on a busy machine.
        "link-flap" => r#"{"verb":"link-flap","target":"","down_ms":2000}"#.to_owned(),
        "link-speed" => r#"{"verb":"link-speed","target":"","generation":2}"#.to_owned(),
        // A boot that is slower than the chip says.
        "slow-boot" => r#"{"verb":"slow-boot","target":"","ms":1500}"#.to_owned(),
        _ => format!(r#"{{"verb":"{name}","target":""}}"#),
    };
    auk_sim::inject::Injection::parse(line.as_bytes())
        .unwrap()
        .verb
}

/// Plays a fault on a chip of its own.
fn play(verb: &Verb) -> Row {
    let chip = hasty_chip();
    let Opened { device, serving } = open(&chip);
    let mut serving = Some(serving);
    let waits_for_interrupts = matches!(
        verb,
        Verb::InterruptLost | Verb::InterruptSpurious { .. } | Verb::InterruptStorm { .. }
    );
    let wait = if waits_for_interrupts {
        WaitMode::Interrupt
    } else {
        WaitMode::Polled
    };
    let mut job = Job::new(&device, wait).unwrap();
    assert!(job.work().unwrap(), "{}: before", verb.name());
    let begun = Instant::now();
    chip.inject(verb.clone()).unwrap();
    // As a host does, or as its end does.
    if matches!(verb, Verb::Remove | Verb::ProcessKill) {
        serving = None;
    }
    let met = match verb.entry().occasion {
        Occasion::Reset => device.reset(ResetKind::Flr),
        Occasion::Boot => device.restart_firmware(),
        _ => Ok(()),
    };
    let reset_ends_the_job = matches!(verb.entry().occasion, Occasion::Reset | Occasion::Boot);
    let mut outcome = met.map(|()| true);
    if matches!(verb, Verb::ImageRot { .. }) {
        outcome = device.restart_firmware().map(|()| true);
    }
    for _ in 0..TRIES {
        if !matches!(outcome, Ok(true)) || reset_ends_the_job {
            break;
        }
        outcome = job.work();
    }
    if matches!(verb, Verb::BarOnes { .. }) {
        outcome = device.check().map(|()| true);
    }
    let strays = job.queue.strays();
    let returns = match &outcome {
        Ok(true) if strays > 0 => "success; a stray is counted".to_owned(),
        Ok(true) => "success".to_owned(),
        Ok(false) => "success, and a wrong answer".to_owned(),
        Err(error) if strays > 0 => format!("{}; a stray is counted", variant(error)),
        Err(error) => variant(error),
    };
    let recovered_by = recover(&chip, &device, &mut job, &outcome, reset_ends_the_job);
    let took = begun.elapsed();
    // Whatever it was: who opens the chip next has it work, and nothing undefined was done to it on the way.
    chip.inject(Verb::Heal).unwrap();
    if *verb == Verb::Remove {
        chip.inject(Verb::Return).unwrap();
    }
    drop(job);
    drop(device);
    drop(serving);
    let again = try_open(&chip, &OpenOptions::default().restart_faulted(true)).unwrap();
    if !matches!(verb, Verb::ImageRot { .. }) {
        again.restart_firmware().unwrap();
        let mut job = Job::new(&again, wait).unwrap();
        assert!(job.work().unwrap(), "{}: afterwards", verb.name());
    }
    drop(again);
    assert_strict(&chip);
    Row {
        returns,
        recovered_by,
        took,
    }
}

fn recover(
    chip: &Chip,
    device: &Device,
    job: &mut Job,
    outcome: &Result<bool, Error>,
    all: bool,
) -> String {
    if matches!(outcome, Ok(true)) {
        return String::new();
    }
    if matches!(outcome, Ok(false)) {
        return "the job, which does it again".to_owned();
    }
    if matches!(
        outcome,
        Err(Error::Command { .. } | Error::Malformed { .. })
    ) && matches!(job.work(), Ok(true))
    {
        return "nothing to do".to_owned();
    }
    let mut climb = || {
        if all {
            device.recover(Step::HotReset)
        } else {
            job.queue.recover(Step::HotReset)
        }
    };
    match climb() {
        Ok(recovery) => steps(&recovery),
        Err(first) => {
            let tried = match &first {
                Error::NotRecovered { .. } => "the ladder in vain",
                _ => "the ladder at once in vain",
            };
            chip.inject(Verb::Heal).unwrap();
            match climb() {
                Ok(recovery) => format!("{tried}; once it is healed: {}", steps(&recovery)),
                Err(_) => format!("{tried}; by opening it again, or by new firmware"),
            }
        }
    }
}

fn bound(took: Duration) -> u64 {
    let seconds = took.as_secs_f64();
    let bound = BOUNDS.into_iter().find(|bound| seconds < *bound as f64);
    bound.unwrap_or_else(|| panic!("it took {took:?}"))
}

fn all() -> Vec<(String, Row)> {
    let chips = Verb::CATALOGUE.iter().filter(|entry| {
        // PCIe errors that the host counts are no fault of the chip's.
        entry.target != Target::Nic
            && !matches!(entry.name, "heal" | "return")
            && !entry.name.starts_with("aer-")
    });
    let waiting: Mutex<Vec<_>> = Mutex::new(chips.rev().map(|entry| entry.name).collect());
    let rows = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(name) = waiting.lock().unwrap().pop() else {
                        return;
                    };
                    let row = play(&verb_of(name));
                    rows.lock().unwrap().push((name.to_owned(), row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    let place = |name: &str| Verb::CATALOGUE.iter().position(|entry| entry.name == name);
    rows.sort_by_key(|(name, _)| place(name));
    rows
}

#[test]
#[ignore = "writes the driver's columns of docs/faults.md"]
fn write_the_table() {
    let rows = all().into_iter().map(|(name, row)| {
        let within = format!("{} s", bound(row.took));
        vec![name, row.returns, row.recovered_by, within]
    });
    let table = Table {
        columns: COLUMNS.map(str::to_owned).to_vec(),
        rows: rows.collect(),
    };
    table.write(TABLE);
}

#[test]
fn each_fault_of_a_chip_is_told_and_got_over_as_the_page_says() {
    let table = Table::read(TABLE);
    assert_eq!(table.columns, COLUMNS);
    let rows = all();
    let found: Vec<_> = rows
        .iter()
        .map(|(name, row)| [name.as_str(), &row.returns, &row.recovered_by])
        .collect();
    let told: Vec<_> = table
        .rows
        .iter()
        .map(|row| [row[0].as_str(), &row[1], &row[2]])
        .collect();
    assert_eq!(
        found, told,
        "`cargo test --test faults_driver -- --ignored` writes it anew"
    );
    for ((name, row), told) in rows.iter().zip(&table.rows) {
        let within: u64 = told[3].trim_end_matches(" s").parse().unwrap();
        let most = Duration::from_secs(within) + SLACK;
        assert!(row.took < most, "{name}: {:?}, not {within} s", row.took);
    }
}
