//! Commands of the I/O queues.

use crate::Status;
use crate::submission::{Operand, Submission};

codes! {
    /// Opcodes of the I/O queues; bit n of CAP_OPS says that the chip knows opcode n.
    pub enum IoOpcode: u8 {
        /// Completes.
        Nop = 0,
        /// Copies bytes between any two operands.
        Copy = 1,
        /// Fills bytes with a repeated 8-byte pattern.
        Fill = 2,
        /// Runs a loaded program.
        Launch = 3,
        /// Adds to a 64-bit semaphore.
        Signal = 4,
        /// Waits until a 64-bit semaphore has reached a value.
        Wait = 5,
    }
}

/// An I/O command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoCommand {
    /// Completes.
    Nop,
    /// Copies `length` bytes from `src` to `dst`; overlapping operands are refused.
    Copy {
        /// Where to.
        dst: Operand,
        /// Where from.
        src: Operand,
        /// Bytes, 1 to CAP_LIMITS.max_transfer.
        length: u64,
    },
    /// Writes `pattern` over `length` bytes at `dst`, least significant byte first.
    Fill {
        /// Where to.
        dst: Operand,
        /// Repeated every 8 bytes; cut at the end.
        pattern: u64,
        /// Bytes, 1 to CAP_LIMITS.max_transfer.
        length: u64,
    },
    /// Runs a program on one input.
    Launch {
        /// Handle from LOAD_PROGRAM.
        program: u32,
        /// Rows of a GEMM or bags of an embedding sum; 0 for a checksum.
        rows: u32,
        /// Output.
        dst: Operand,
        /// Input.
        src: Operand,
        /// Parameters: weights, bias, scales, or a table, laid out as the program's header says.
        params: Operand,
        /// Bytes of input; must agree with `rows` and the program.
        length: u64,
    },
    /// Adds `value` to the semaphore at `dst` (8-byte aligned), with release ordering: all earlier
    /// fenced writes of the queue are visible first. The result is the new value.
    Signal {
        /// The semaphore.
        dst: Operand,
        /// What to add, modulo 2^64.
        value: u64,
    },
    /// Completes when the semaphore at `src` (8-byte aligned) is at least `value`, with
    /// [`Status::TimedOut`] after `timeout_ms`. The result is the value seen.
    Wait {
        /// The semaphore.
        src: Operand,
        /// What to wait for.
        value: u64,
        /// Milliseconds; 0 is TIMEOUT_COMMAND.
        timeout_ms: u32,
    },
}

impl IoCommand {
    /// The command's opcode.
    #[must_use]
    pub const fn opcode(&self) -> IoOpcode {
        match self {
            Self::Nop => IoOpcode::Nop,
            Self::Copy { .. } => IoOpcode::Copy,
            Self::Fill { .. } => IoOpcode::Fill,
            Self::Launch { .. } => IoOpcode::Launch,
            Self::Signal { .. } => IoOpcode::Signal,
            Self::Wait { .. } => IoOpcode::Wait,
        }
    }

    /// The submission entry, with command identifier 0.
    #[must_use]
    #[inline]
    pub const fn encode(&self) -> Submission {
        let opcode = self.opcode().code();
        match *self {
            Self::Nop => Submission::of(opcode, [0; 4]),
            Self::Copy { dst, src, length } => {
                Submission::of(opcode, [length, 0, 0, 0]).to(dst).from(src)
            }
            Self::Fill {
                dst,
                pattern,
                length,
            } => Submission::of(opcode, [length, pattern, 0, 0]).to(dst),
            Self::Launch {
                program,
                rows,
                dst,
                src,
                params,
                length,
            } => Submission::of(opcode, [length, program as u64, rows as u64, 0])
                .to(dst)
                .from(src)
                .with(params),
            Self::Signal { dst, value } => Submission::of(opcode, [value, 0, 0, 0]).to(dst),
            Self::Wait {
                src,
                value,
                timeout_ms,
            } => Submission::of(opcode, [value, timeout_ms as u64, 0, 0]).from(src),
        }
    }

    /// The command in a submission entry.
    ///
    /// # Errors
    /// The status that the chip completes the entry with: [`Status::InvalidOpcode`], or
    /// [`Status::InvalidField`] when a field is out of range or should be 0.
    pub fn decode(entry: &Submission) -> Result<Self, Status> {
        let opcode = IoOpcode::parse(entry.opcode).map_err(|_| Status::InvalidOpcode)?;
        let [a, b, c, _] = entry.args;
        let small = |value: u64| u32::try_from(value).map_err(|_| Status::InvalidField);
        let command = match opcode {
            IoOpcode::Nop => Self::Nop,
            IoOpcode::Copy => Self::Copy {
                dst: entry.dst()?,
                src: entry.src()?,
                length: a,
            },
            IoOpcode::Fill => Self::Fill {
                dst: entry.dst()?,
                pattern: b,
                length: a,
            },
            IoOpcode::Launch => Self::Launch {
                program: small(b)?,
                rows: small(c)?,
                dst: entry.dst()?,
                src: entry.src()?,
                params: entry.aux()?,
                length: a,
            },
            IoOpcode::Signal => Self::Signal {
                dst: entry.dst()?,
                value: a,
            },
            IoOpcode::Wait => Self::Wait {
                src: entry.src()?,
                value: a,
                timeout_ms: small(b)?,
            },
        };
        entry.unused_fields_are_zero(command.encode())?;
        Ok(command)
    }
}
