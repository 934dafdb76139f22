//! Random jobs, each with an answer that is known before the chip gives one.

use std::time::Duration;

use auk_asic::program::{Activation, Gemm, Precision, Program};
use auk_driver::{
    Command, Device, DeviceMemory, DmaBuffer, Error, IoQueue, LoadedProgram, QueueOptions, Step,
    Ticket, WaitMode,
};
use fastrand::Rng;

use super::ledger::{Ledger, Signal};

/// Bytes that a job moves at most.
const MOST: usize = 64 << 10;
/// Longest wait for a command. Far beyond what it takes on a busy machine, so that only a fault makes it time out.
const PATIENCE: Duration = Duration::from_secs(2);
const IMPATIENCE: Duration = Duration::from_millis(50);
/// Longest wait for an abort.
const ABORT: Duration = Duration::from_secs(2);

/// The matrix product that jobs run.
const GEMM: Gemm = Gemm {
    precision: Precision::Int8 { requantise: false },
    inner: 64,
    columns: 32,
    bias: false,
    activation: Activation::None,
};
const MOST_ROWS: usize = 32;

/// A job: what to do, and with what.
#[derive(Clone, Debug)]
pub(super) struct Job {
    kind: Kind,
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// To device memory and back.
    Copy,
    /// A pattern over device memory, and back.
    Fill(u64),
    /// A matrix product.
    Product { rows: usize },
    /// Commands that do nothing, as many.
    Nops(usize),
}

impl Job {
    pub(super) fn random(random: &mut Rng) -> Self {
        let kind = match random.u8(0..4) {
            0 => Kind::Copy,
            1 => Kind::Fill(random.u64(..)),
            2 => Kind::Product {
                rows: random.usize(1..=MOST_ROWS),
            },
            _ => Kind::Nops(random.usize(1..=32)),
        };
        let length = match kind {
            Kind::Product { rows } => rows * GEMM.inner as usize,
            Kind::Nops(_) => 0,
            _ => random.usize(1..=MOST),
        };
        let mut data = vec![0; length];
        random.fill(&mut data);
        Self { kind, data }
    }

    /// What the chip is to answer, from the processor.
    fn answer(&self) -> Vec<u8> {
        match self.kind {
            Kind::Copy => self.data.clone(),
            Kind::Fill(pattern) => {
                let bytes = pattern.to_le_bytes();
                bytes.into_iter().cycle().take(self.data.len()).collect()
            }
            Kind::Product { rows } => product(&self.data, &weights(), rows),
            Kind::Nops(_) => Vec::new(),
        }
    }
}

/// The weights of the product: the same for all.
fn weights() -> Vec<u8> {
    let mut random = Rng::with_seed(0xA1);
    let mut weights = vec![0; GEMM.params().length as usize];
    random.fill(&mut weights);
    weights
}

fn product(a: &[u8], b: &[u8], rows: usize) -> Vec<u8> {
    let (inner, columns) = (GEMM.inner as usize, GEMM.columns as usize);
    let mut output = Vec::with_capacity(rows * columns * 4);
    for row in a.chunks_exact(inner).take(rows) {
        for column in 0..columns {
            let pairs = row.iter().zip(b.iter().skip(column).step_by(columns));
            let sum: i32 = pairs
                .map(|(a, b)| i32::from(*a as i8) * i32::from(*b as i8))
                .sum();
            output.extend_from_slice(&sum.to_le_bytes());
        }
    }
    output
}

/// What a job's thread has of a chip: all that a reset takes away.
pub(super) struct Bench<'a> {
    ledger: &'a Ledger,
    queue: IoQueue,
    input: DmaBuffer,
    output: DmaBuffer,
    local: DeviceMemory,
    params: DeviceMemory,
    program: LoadedProgram,
    tickets: Vec<Ticket>,
    /// Of commands that did not end in time, and whose outcome is still to be had.
    overdue: Vec<Ticket>,
    strays: u64,
}

impl<'a> Bench<'a> {
    /// Sets everything up; `random` has a say in how the queue waits.
    pub(super) fn set_up(
        device: &Device,
        random: &mut Rng,
        ledger: &'a Ledger,
    ) -> Result<Self, Error> {
        let mode = match random.u8(0..3) {
            0 => WaitMode::Polled,
            1 => WaitMode::Interrupt,
            _ => WaitMode::Mixed {
                spin: Duration::from_micros(50),
            },
        };
        let mut queue = device.create_queue(&QueueOptions::default().wait_mode(mode))?;
        let params = device.alloc(GEMM.params().length)?;
        queue.upload(&params, 0, &weights(), PATIENCE)?;
        Ok(Self {
            input: device.buffer(MOST)?,
            output: device.buffer(MOST)?,
            local: device.alloc(MOST as u64)?,
            program: device.load(&Program::Gemm(GEMM))?,
            params,
            queue,
            ledger,
            tickets: Vec::new(),
            overdue: Vec::new(),
            strays: 0,
        })
    }

    /// Does a job. `Some` says what is wrong with the answer.
    pub(super) fn run(&mut self, job: &Job) -> Result<Option<String>, Error> {
        let length = job.data.len() as u64;
        self.input.write(0, &job.data)?;
        let expected = job.answer();
        // What was there before is no answer.
        self.output.write(0, &vec![0xEE; expected.len()])?;
        let back = |bytes: u64| Command::copy(&self.output, &self.local, bytes).fenced();
        let commands: Vec<Command<'_>> = match job.kind {
            Kind::Copy => vec![
                Command::copy(&self.local, &self.input, length),
                back(length),
            ],
            Kind::Fill(pattern) => vec![Command::fill(&self.local, pattern, length), back(length)],
            Kind::Product { rows } => {
                let rows = rows as u32;
                vec![
                    Command::gemm(&self.program, rows, &self.local, &self.input, &self.params),
                    back(GEMM.output_bytes(rows)),
                ]
            }
            Kind::Nops(count) => std::iter::repeat_with(Command::nop).take(count).collect(),
        };
        let mut tickets = std::mem::take(&mut self.tickets);
        let mut outcome = self.queue.submit_batch(&commands, &mut tickets);
        let count = tickets.len() as u64;
        self.ledger.count(|counts| counts.submitted += count);
        for ticket in tickets.drain(..) {
            // Behind one that was lost, the others are there or lost as well.
            let patience = if outcome.is_ok() {
                PATIENCE
            } else {
                IMPATIENCE
            };
            let ended = self.outcome(ticket, patience);
            outcome = outcome.and(ended);
        }
        self.tickets = tickets;
        outcome?;
        let mut found = vec![0; expected.len()];
        self.output.read(0, &mut found)?;
        if found == expected {
            return Ok(None);
        }
        let wrong = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
        let all = expected.len();
        Ok(Some(format!("{wrong} of {all} bytes of {:?}", job.kind)))
    }

    /// The outcome of a command, which is there once. One that does not come in time is aborted, and its outcome had then, or when
    /// the queue was reset.
    fn outcome(&mut self, ticket: Ticket, patience: Duration) -> Result<(), Error> {
        let first = self.queue.wait(ticket, patience);
        let Err(late @ Error::TimedOut { .. }) = first else {
            return self.had(ticket, first);
        };
        match self.queue.abort(ticket, ABORT) {
            Ok(()) => {
                let aborted = self.queue.wait(ticket, Duration::ZERO);
                // That it was aborted is no news.
                let _ = self.had(ticket, aborted);
            }
            Err(_) => self.overdue.push(ticket),
        }
        Err(late)
    }

    /// An outcome was had: it must be one, and there must be no other.
    fn had(&mut self, ticket: Ticket, outcome: Result<u64, Error>) -> Result<(), Error> {
        let is_one = !matches!(outcome, Err(Error::TimedOut { .. } | Error::UnknownTicket));
        let again = self.queue.wait(ticket, Duration::ZERO);
        if is_one && matches!(again, Err(Error::UnknownTicket)) {
            self.ledger.count(|counts| counts.ended += 1);
        } else {
            let found = format!("an outcome of {outcome:?}, and then of {again:?}");
            self.ledger.signal(Signal::Wrong(found));
        }
        outcome.map(drop)
    }

    /// Gets the queue to work again, and the chip if need be. Whether all else must be made anew.
    pub(super) fn recover(&mut self) -> Result<bool, Error> {
        let recovery = self.queue.recover(Step::HotReset)?;
        for ticket in std::mem::take(&mut self.overdue) {
            let outcome = self.queue.wait(ticket, Duration::ZERO);
            // How it ended has been told by the error that led here.
            let _ = self.had(ticket, outcome);
        }
        self.strays = self.queue.strays();
        let steps = recovery.steps.iter();
        Ok(steps
            .map(|climbed| climbed.step)
            .any(|step| step > Step::QueueReset))
    }

    /// Completions of no command since this was asked last.
    pub(super) fn new_strays(&mut self) -> u64 {
        let all = self.queue.strays();
        all - std::mem::replace(&mut self.strays, all)
    }
}

impl Drop for Bench<'_> {
    /// With the queue goes what was overdue on it.
    fn drop(&mut self) {
        let count = self.overdue.len() as u64;
        self.ledger.count(|counts| counts.given_up += count);
    }
}
