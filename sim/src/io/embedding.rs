//! LAUNCH of an embedding-bag sum.

use auk_asic::Status;
use auk_asic::program::PARAMS_ALIGN;
use auk_asic::submission::Operand;
use zerocopy::IntoBytes;

use super::Progress;
use super::launch::{Operands, check_disjoint};
use crate::memory::{Direction, Memory, advance};
use crate::resources::Resources;

/// Bytes of table that one step reads, about.
const STEP: u64 = 256 << 10;

/// An embedding sum under way.
///
/// The input is `offsets[bags + 1]`, then `indices[offsets[bags]]`; bag b sums the table's rows
/// `indices[offsets[b]..offsets[b + 1]]`, in that order.
#[derive(Debug)]
pub(crate) struct EmbeddingJob {
    operands: Operands,
    table_rows: u32,
    columns: u32,
    indices: u32,
    bag: u32,
    /// The bag's indices that are left, once the bag has begun.
    left: Option<std::ops::Range<u32>>,
    sum: Vec<f32>,
    row: Vec<f32>,
}

impl EmbeddingJob {
    /// # Errors
    /// The status of the completion.
    pub(super) fn new(
        resources: &mut Resources,
        context: u32,
        (table_rows, columns): (u32, u32),
        operands: Operands,
    ) -> Result<Self, Status> {
        let Operands {
            dst,
            src,
            params,
            length,
            rows: bags,
        } = operands;
        let offsets = 4 * (u64::from(bags) + 1);
        if bags == 0 || length < offsets {
            return Err(Status::InvalidField);
        }
        if src.address % 4 != 0 || dst.address % 4 != 0 || params.address % PARAMS_ALIGN != 0 {
            return Err(Status::Misaligned);
        }
        let row = u64::from(columns) * 4;
        let table = u64::from(table_rows) * row;
        let output = u64::from(bags) * row;
        check_disjoint((dst, output), (src, length), (params, table))?;
        resources.check(context, src, length, Direction::Read)?;
        resources.check(context, params, table, Direction::Read)?;
        resources.check(context, dst, output, Direction::Write)?;
        let last = advance(src, offsets - 4);
        let indices = read_u32(&mut resources.memory, last)?;
        if length != offsets + 4 * u64::from(indices) {
            return Err(Status::InvalidField);
        }
        Ok(Self {
            operands,
            table_rows,
            columns,
            indices,
            bag: 0,
            left: None,
            sum: vec![0.0; columns as usize],
            row: vec![0.0; columns as usize],
        })
    }

    pub(super) fn advance(&mut self, memory: &mut Memory) -> Progress {
        let row = u64::from(self.columns) * 4;
        for _ in 0..(STEP / row).max(1) {
            match self.step(memory) {
                Ok(true) => {}
                Ok(false) => return Progress::Done(Ok(0)),
                Err(status) => return Progress::Done(Err(status)),
            }
        }
        Progress::More
    }

    /// Begins a bag, adds one row, or ends a bag. False when all bags are done.
    fn step(&mut self, memory: &mut Memory) -> Result<bool, Status> {
        let Operands {
            dst, src, params, ..
        } = self.operands;
        let Some(left) = &mut self.left else {
            if self.bag == self.operands.rows {
                return Ok(false);
            }
            let at = advance(src, u64::from(self.bag) * 4);
            let (from, to) = (read_u32(memory, at)?, read_u32(memory, advance(at, 4))?);
            let starts_at_zero = self.bag != 0 || from == 0;
            if !starts_at_zero || from > to || to > self.indices {
                return Err(Status::IndexOutOfRange);
            }
            self.left = Some(from..to);
            self.sum.fill(0.0);
            return Ok(true);
        };
        let row_bytes = u64::from(self.columns) * 4;
        let Some(index) = left.next() else {
            let to = advance(dst, u64::from(self.bag) * row_bytes);
            memory.write(to, self.sum.as_bytes())?;
            self.bag += 1;
            self.left = None;
            return Ok(true);
        };
        let offsets = 4 * (u64::from(self.operands.rows) + 1);
        let table_row = read_u32(memory, advance(src, offsets + u64::from(index) * 4))?;
        if table_row >= self.table_rows {
            return Err(Status::IndexOutOfRange);
        }
        let from = advance(params, u64::from(table_row) * row_bytes);
        memory.read(from, self.row.as_mut_bytes())?;
        for (sum, value) in self.sum.iter_mut().zip(&self.row) {
            *sum += value;
        }
        Ok(true)
    }

    pub(super) fn operands(&self) -> [Option<(Operand, u64)>; 3] {
        let row = u64::from(self.columns) * 4;
        [
            Some((self.operands.dst, u64::from(self.operands.rows) * row)),
            Some((self.operands.src, self.operands.length)),
            Some((self.operands.params, u64::from(self.table_rows) * row)),
        ]
    }
}

fn read_u32(memory: &mut Memory, from: Operand) -> Result<u32, Status> {
    let mut bytes = [0; 4];
    memory.read(from, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
