//! A wrong bit in what a command has written.

use auk_asic::io::IoCommand;
use auk_asic::program::Program;
use auk_asic::submission::{Operand, Submission};

use crate::memory::{Memory, advance};
use crate::resources::Resources;

/// What a command writes, of which one bit is to be wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flip {
    to: Operand,
    bytes: u64,
}

impl Flip {
    /// In so many bytes.
    pub(crate) const fn within(to: Operand, bytes: u64) -> Self {
        Self { to, bytes }
    }

    /// What an entry of a queue of `context` will have written; `None` for what writes no data.
    pub(crate) fn of(entry: &Submission, context: u32, resources: &Resources) -> Option<Self> {
        match IoCommand::decode(entry).ok()? {
            IoCommand::Copy { dst, length, .. } | IoCommand::Fill { dst, length, .. } => {
                Some(Self {
                    to: dst,
                    bytes: length,
                })
            }
            IoCommand::Launch {
                program, dst, rows, ..
            } => match resources.programs.get(program, context).ok()? {
                Program::Gemm(gemm) => Some(Self {
                    to: dst,
                    bytes: gemm.output_bytes(rows),
                }),
                Program::EmbeddingSum { columns, .. } => Some(Self {
                    to: dst,
                    bytes: u64::from(rows) * u64::from(columns) * 4,
                }),
                Program::Checksum => None,
            },
            _ => None,
        }
    }

    /// Makes the bit wrong: one in the middle, so that neither the first nor the last byte gives it away.
    pub(crate) fn make(self, memory: &mut Memory) {
        let at = advance(self.to, self.bytes / 2);
        let mut byte = [0];
        let flipped = memory.read(at, &mut byte).and_then(|()| {
            let [value] = byte;
            memory.write(at, &[value ^ 1 << 3])
        });
        if let Err(status) = flipped {
            tracing::warn!(%status, "a bit that was to flip cannot be reached");
        }
    }
}
