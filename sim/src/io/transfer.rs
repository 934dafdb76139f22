//! COPY and FILL.

use auk_asic::Status;
use auk_asic::submission::Operand;
use auk_vfio_user::memory::Stores;

use super::{Job, Progress, Started, overlap};
use crate::memory::{Direction, Memory, advance};
use crate::resources::Resources;

/// Bytes that one step moves: some tenths of a millisecond.
const STEP: u64 = 1 << 20;
/// A copy from here on goes past the caches: source and destination together are more than the last level of most processors
/// holds, and the beginning would be gone from it before the end is copied.
const STREAMED: u64 = 32 << 20;

/// A copy under way: what is left of it.
#[derive(Debug)]
pub(crate) struct CopyJob {
    dst: Operand,
    src: Operand,
    left: u64,
    stores: Stores,
}

/// Begins a COPY.
///
/// # Errors
/// The status of the completion.
pub(super) fn copy(
    resources: &mut Resources,
    context: u32,
    dst: Operand,
    src: Operand,
    length: u64,
) -> Result<Started, Status> {
    check_length(resources, length)?;
    if overlap((dst, length), (src, length)) {
        return Err(Status::InvalidField);
    }
    resources.check(context, src, length, Direction::Read)?;
    resources.check(context, dst, length, Direction::Write)?;
    if length <= STEP {
        resources.memory.copy(dst, src, length, Stores::Cached)?;
        return Ok(Started::Done(Ok(0)));
    }
    Ok(Started::Job(Job::Copy(CopyJob {
        dst,
        src,
        left: length,
        stores: if length < STREAMED {
            Stores::Cached
        } else {
            Stores::Streaming
        },
    })))
}

impl CopyJob {
    pub(super) fn advance(&mut self, memory: &mut Memory) -> Progress {
        let step = self.left.min(STEP);
        if let Err(status) = memory.copy(self.dst, self.src, step, self.stores) {
            return Progress::Done(Err(status));
        }
        self.dst = advance(self.dst, step);
        self.src = advance(self.src, step);
        self.left -= step;
        if self.left == 0 {
            Progress::Done(Ok(0))
        } else {
            Progress::More
        }
    }

    pub(super) fn operands(&self) -> [Option<(Operand, u64)>; 3] {
        [
            Some((self.dst, self.left)),
            Some((self.src, self.left)),
            None,
        ]
    }
}

/// A fill under way: what is left of it. Every step but the last is whole patterns.
#[derive(Debug)]
pub(crate) struct FillJob {
    dst: Operand,
    left: u64,
    block: Vec<u8>,
}

/// Bytes of pattern that are written at once.
const BLOCK: usize = 64 << 10;

/// Begins a FILL.
///
/// # Errors
/// The status of the completion.
pub(super) fn fill(
    resources: &mut Resources,
    context: u32,
    dst: Operand,
    pattern: u64,
    length: u64,
) -> Result<Started, Status> {
    check_length(resources, length)?;
    resources.check(context, dst, length, Direction::Write)?;
    let patterns = length.div_ceil(8).min(BLOCK as u64 / 8) as usize;
    let mut job = FillJob {
        dst,
        left: length,
        block: pattern.to_le_bytes().repeat(patterns),
    };
    Ok(match job.advance(&mut resources.memory) {
        Progress::Done(outcome) => Started::Done(outcome),
        Progress::More | Progress::Blocked(_) => Started::Job(Job::Fill(job)),
    })
}

impl FillJob {
    pub(super) fn advance(&mut self, memory: &mut Memory) -> Progress {
        for _ in 0..STEP / BLOCK as u64 {
            let bytes = self.left.min(self.block.len() as u64);
            if let Err(status) = memory.write(self.dst, &self.block[..bytes as usize]) {
                return Progress::Done(Err(status));
            }
            self.dst = advance(self.dst, bytes);
            self.left -= bytes;
            if self.left == 0 {
                return Progress::Done(Ok(0));
            }
        }
        Progress::More
    }

    pub(super) fn operands(&self) -> [Option<(Operand, u64)>; 3] {
        [Some((self.dst, self.left)), None, None]
    }
}

fn check_length(resources: &Resources, length: u64) -> Result<(), Status> {
    if length == 0 || length > resources.max_transfer {
        Err(Status::InvalidField)
    } else {
        Ok(())
    }
}
