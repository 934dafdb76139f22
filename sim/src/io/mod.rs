//! Commands of the I/O queues.
//!
//! What is short is done at once; the rest becomes a [`Job`] that moves in steps of well under a
//! millisecond, so that nobody waits long for a register, an abort, an unmap or another queue.

mod embedding;
mod flip;
mod gemm;
mod launch;
mod semaphore;
mod transfer;

use std::time::Instant;

use auk_asic::Status;
use auk_asic::io::{IoCommand, IoOpcode};
use auk_asic::submission::{FLAG_FENCE, Operand, Space, Submission};

use crate::resources::Resources;

pub(crate) use flip::Flip;

use embedding::EmbeddingJob;
use gemm::GemmJob;
use launch::ChecksumJob;
use semaphore::Wait;
use transfer::{CopyJob, FillJob};

pub(crate) use launch::{Operands, launch};

/// How a command begins.
pub(crate) enum Started {
    /// And ends at once.
    Done(Result<u64, Status>),
    /// It takes steps.
    Job(Job),
}

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to do.
    More,
    /// Nothing can be done until a semaphore changes, or this time comes.
    Blocked(Instant),
    /// The command has ended.
    Done(Result<u64, Status>),
}

/// A command under way.
#[derive(Debug)]
pub(crate) enum Job {
    Copy(CopyJob),
    Fill(FillJob),
    Wait(Wait),
    Gemm(Box<GemmJob>),
    Embedding(Box<EmbeddingJob>),
    Checksum(Box<ChecksumJob>),
}

impl Job {
    /// Does one step.
    pub(crate) fn advance(&mut self, resources: &mut Resources) -> Progress {
        match self {
            Self::Copy(job) => job.advance(&mut resources.memory),
            Self::Fill(job) => job.advance(&mut resources.memory),
            Self::Wait(job) => job.advance(&resources.memory),
            Self::Gemm(job) => job.advance(&mut resources.memory),
            Self::Embedding(job) => job.advance(&mut resources.memory),
            Self::Checksum(job) => job.advance(&mut resources.memory),
        }
    }

    /// Whether the job counts as a launch in telemetry.
    pub(crate) fn is_launch(&self) -> bool {
        matches!(self, Self::Gemm(_) | Self::Embedding(_) | Self::Checksum(_))
    }

    /// Whether the job waits and does no work.
    pub(crate) fn is_wait(&self) -> bool {
        matches!(self, Self::Wait(_))
    }

    /// Whether the job uses any of these bytes of device memory.
    pub(crate) fn uses_local(&self, address: u64, length: u64) -> bool {
        let ranges: [Option<(Operand, u64)>; 3] = match self {
            Self::Copy(job) => job.operands(),
            Self::Fill(job) => job.operands(),
            Self::Wait(job) => job.operands(),
            Self::Gemm(job) => job.operands(),
            Self::Embedding(job) => job.operands(),
            Self::Checksum(job) => job.operands(),
        };
        ranges
            .into_iter()
            .flatten()
            .any(|range| overlap(range, (Operand::local(address), length)))
    }
}

/// Whether an entry is over so soon that completions before it may wait for its own.
#[inline]
pub(crate) fn is_short(entry: &Submission) -> bool {
    /// Bytes of a short copy or fill: about a microsecond.
    const SHORT: u64 = 16 << 10;
    let [length, ..] = entry.args;
    entry.opcode == IoOpcode::Nop.code() || length <= SHORT
}

/// The identifier of an entry that is a NOP and asks for nothing else; it needs no decoding.
#[inline]
pub(crate) fn plain_nop([first, rest @ ..]: [u64; 8]) -> Option<u16> {
    /// What of the first word may be anything: identifier and fence, which needs nothing, as a queue works on one command at a time,
    /// in order.
    const FREE: u64 = 0xFFFF << Submission::COMMAND_ID_SHIFT | (FLAG_FENCE as u64) << u8::BITS;
    let is_plain = first & !FREE | rest.iter().fold(0, |all, word| all | word) == 0;
    is_plain.then_some((first >> Submission::COMMAND_ID_SHIFT) as u16)
}

/// Begins a command of a queue of `context`.
#[inline]
pub(crate) fn start(entry: &Submission, context: u32, resources: &mut Resources) -> Started {
    match begin(entry, context, resources) {
        Ok(started) => started,
        Err(status) => Started::Done(Err(status)),
    }
}

fn begin(entry: &Submission, context: u32, resources: &mut Resources) -> Result<Started, Status> {
    match IoCommand::decode(entry)? {
        IoCommand::Nop => Ok(Started::Done(Ok(0))),
        IoCommand::Copy { dst, src, length } => {
            transfer::copy(resources, context, dst, src, length)
        }
        IoCommand::Fill {
            dst,
            pattern,
            length,
        } => transfer::fill(resources, context, dst, pattern, length),
        IoCommand::Launch {
            program,
            rows,
            dst,
            src,
            params,
            length,
        } => {
            let program = resources.programs.get(program, context)?;
            let operands = Operands {
                dst,
                src,
                params,
                length,
                rows,
            };
            launch(resources, context, program, operands).map(Started::Job)
        }
        IoCommand::Signal { dst, value } => semaphore::signal(resources, context, dst, value)
            .map(|result| Started::Done(Ok(result))),
        IoCommand::Wait {
            src,
            value,
            timeout_ms,
        } => semaphore::wait(resources, context, src, value, timeout_ms),
    }
}

/// Whether two ranges share a byte.
fn overlap(a: (Operand, u64), b: (Operand, u64)) -> bool {
    a.0.space == b.0.space
        && a.0.space != Space::Peer
        && a.0.address < b.0.address.saturating_add(b.1)
        && b.0.address < a.0.address.saturating_add(a.1)
}
