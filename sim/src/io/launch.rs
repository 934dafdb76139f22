//! LAUNCH: the checks that all kernels share, and the checksum.

use auk_asic::Status;
use auk_asic::program::{Gemm, PARAMS_ALIGN, Program};
use auk_asic::submission::Operand;

use super::{EmbeddingJob, GemmJob, Job, Progress, overlap};
use crate::kernels::Crc32c;
use crate::memory::{Direction, Memory, advance};
use crate::resources::Resources;

/// What a LAUNCH names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operands {
    pub(crate) dst: Operand,
    pub(crate) src: Operand,
    pub(crate) params: Operand,
    /// Bytes at `src`.
    pub(crate) length: u64,
    pub(crate) rows: u32,
}

/// Begins a program.
///
/// # Errors
/// The status of the completion.
pub(crate) fn launch(
    resources: &mut Resources,
    context: u32,
    program: Program,
    operands: Operands,
) -> Result<Job, Status> {
    match program {
        Program::Gemm(gemm) => {
            check_gemm(resources, context, &gemm, &operands)?;
            Ok(Job::Gemm(Box::new(GemmJob::new(gemm, operands))))
        }
        Program::EmbeddingSum { rows, columns } => {
            let job = EmbeddingJob::new(resources, context, (rows, columns), operands)?;
            Ok(Job::Embedding(Box::new(job)))
        }
        Program::Checksum => {
            let nothing = Operand::host(0);
            if operands.rows != 0 || operands.dst != nothing || operands.params != nothing {
                return Err(Status::InvalidField);
            }
            if operands.length == 0 {
                return Err(Status::InvalidField);
            }
            resources.check(context, operands.src, operands.length, Direction::Read)?;
            Ok(Job::Checksum(Box::new(ChecksumJob {
                src: operands.src,
                left: operands.length,
                crc: Crc32c::new(),
                scratch: Vec::new(),
            })))
        }
    }
}

fn check_gemm(
    resources: &Resources,
    context: u32,
    gemm: &Gemm,
    operands: &Operands,
) -> Result<(), Status> {
    let Operands {
        dst,
        src,
        params,
        length,
        rows,
    } = *operands;
    if rows == 0 || length != gemm.input_bytes(rows) {
        return Err(Status::InvalidField);
    }
    if src.address % gemm.precision.operand_bytes() != 0
        || dst.address % gemm.precision.output_bytes() != 0
        || params.address % PARAMS_ALIGN != 0
    {
        return Err(Status::Misaligned);
    }
    let output = gemm.output_bytes(rows);
    let params_length = gemm.params().length;
    check_disjoint((dst, output), (src, length), (params, params_length))?;
    resources.check(context, src, length, Direction::Read)?;
    resources.check(context, params, params_length, Direction::Read)?;
    resources.check(context, dst, output, Direction::Write)
}

/// An output over its own input would depend on the order of the work.
pub(super) fn check_disjoint(
    output: (Operand, u64),
    input: (Operand, u64),
    params: (Operand, u64),
) -> Result<(), Status> {
    if overlap(output, input) || overlap(output, params) {
        Err(Status::InvalidField)
    } else {
        Ok(())
    }
}

/// Bytes that one step sums.
const STEP: u64 = 256 << 10;

/// A checksum under way.
#[derive(Debug)]
pub(crate) struct ChecksumJob {
    src: Operand,
    left: u64,
    crc: Crc32c,
    scratch: Vec<u8>,
}

impl ChecksumJob {
    pub(super) fn advance(&mut self, memory: &mut Memory) -> Progress {
        let step = self.left.min(STEP);
        self.scratch.resize(step as usize, 0);
        if let Err(status) = memory.read(self.src, &mut self.scratch) {
            return Progress::Done(Err(status));
        }
        self.crc.update(&self.scratch);
        self.src = advance(self.src, step);
        self.left -= step;
        if self.left == 0 {
            Progress::Done(Ok(u64::from(self.crc.finish())))
        } else {
            Progress::More
        }
    }

    pub(super) fn operands(&self) -> [Option<(Operand, u64)>; 3] {
        [Some((self.src, self.left)), None, None]
    }
}
