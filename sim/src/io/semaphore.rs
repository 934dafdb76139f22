//! SIGNAL and WAIT.

use std::time::{Duration, Instant};

use auk_asic::Status;
use auk_asic::submission::Operand;

use super::{Job, Progress, Started};
use crate::memory::{Direction, Memory};
use crate::resources::Resources;

/// Does a SIGNAL: the new value.
///
/// # Errors
/// The status of the completion.
pub(super) fn signal(
    resources: &Resources,
    context: u32,
    dst: Operand,
    value: u64,
) -> Result<u64, Status> {
    if !dst.address.is_multiple_of(8) {
        return Err(Status::Misaligned);
    }
    resources.check(context, dst, 8, Direction::Both)?;
    resources.memory.signal(dst, value)
}

/// A WAIT whose semaphore has not got there yet.
#[derive(Debug)]
pub(crate) struct Wait {
    src: Operand,
    value: u64,
    deadline: Instant,
}

/// Begins a WAIT.
///
/// # Errors
/// The status of the completion.
pub(super) fn wait(
    resources: &Resources,
    context: u32,
    src: Operand,
    value: u64,
    timeout_ms: u32,
) -> Result<Started, Status> {
    if !src.address.is_multiple_of(8) {
        return Err(Status::Misaligned);
    }
    resources.check(context, src, 8, Direction::Read)?;
    let timeout = match timeout_ms {
        0 => resources.command_timeout,
        milliseconds => Duration::from_millis(u64::from(milliseconds)),
    };
    let mut job = Wait {
        src,
        value,
        deadline: Instant::now() + timeout,
    };
    Ok(match job.advance(&resources.memory) {
        Progress::Done(outcome) => Started::Done(outcome),
        Progress::More | Progress::Blocked(_) => Started::Job(Job::Wait(job)),
    })
}

impl Wait {
    pub(super) fn advance(&mut self, memory: &Memory) -> Progress {
        let seen = match memory.semaphore(self.src) {
            Ok(seen) => seen,
            Err(status) => return Progress::Done(Err(status)),
        };
        if seen >= self.value {
            Progress::Done(Ok(seen))
        } else if Instant::now() >= self.deadline {
            Progress::Done(Err(Status::TimedOut))
        } else {
            Progress::Blocked(self.deadline)
        }
    }

    pub(super) fn operands(&self) -> [Option<(Operand, u64)>; 3] {
        [Some((self.src, 8)), None, None]
    }
}
