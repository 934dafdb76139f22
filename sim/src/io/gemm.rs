//! LAUNCH of a matrix product, tile by tile.
//!
//! A step reads a tile of A and a panel of B into private memory, so that nothing that another
//! process changes meanwhile is ever behind a reference, and adds their product to the sums. The
//! last step of a tile finishes the sums and writes them out.

use auk_asic::Status;
use auk_asic::program::{Activation, Gemm, Precision, Scale};
use auk_asic::submission::Operand;
use half::bf16;
use zerocopy::{FromBytes, IntoBytes};

use super::Progress;
use super::launch::Operands;
use crate::kernels;
use crate::memory::{Memory, advance};

/// Rows, columns and products of a tile: 2 million products, well under a millisecond.
const ROWS: u64 = 32;
const COLUMNS: u64 = 128;
const INNER: u64 = 512;

/// The operands of the tiles at hand as the kernel wants them, and the sums of one tile.
///
/// Of B there is a panel for every [`INNER`] products, read when the first row of tiles needs it
/// and kept for the other rows: 32 MiB at most.
#[derive(Debug)]
enum Tile {
    Int {
        a: Vec<i16>,
        panels: Vec<Vec<i16>>,
        sums: Vec<i32>,
    },
    Float {
        a: Vec<f32>,
        panels: Vec<Vec<f32>>,
        sums: Vec<f32>,
    },
}

/// A matrix product under way: rows of tiles within columns of tiles.
#[derive(Debug)]
pub(crate) struct GemmJob {
    gemm: Gemm,
    operands: Operands,
    row: u64,
    column: u64,
    k: u64,
    tile: Tile,
    bytes: Vec<u8>,
}

impl GemmJob {
    pub(super) fn new(gemm: Gemm, operands: Operands) -> Self {
        let tile = match gemm.precision {
            Precision::Int8 { .. } => Tile::Int {
                a: Vec::new(),
                panels: Vec::new(),
                sums: Vec::new(),
            },
            Precision::Bf16 | Precision::F32 => Tile::Float {
                a: Vec::new(),
                panels: Vec::new(),
                sums: Vec::new(),
            },
        };
        Self {
            gemm,
            operands,
            row: 0,
            column: 0,
            k: 0,
            tile,
            bytes: Vec::new(),
        }
    }

    pub(super) fn operands(&self) -> [Option<(Operand, u64)>; 3] {
        let Operands {
            dst,
            src,
            params,
            length,
            rows,
        } = self.operands;
        [
            Some((dst, self.gemm.output_bytes(rows))),
            Some((src, length)),
            Some((params, self.gemm.params().length)),
        ]
    }

    pub(super) fn advance(&mut self, memory: &mut Memory) -> Progress {
        match self.step(memory) {
            Ok(true) => Progress::More,
            Ok(false) => Progress::Done(Ok(0)),
            Err(status) => Progress::Done(Err(status)),
        }
    }

    /// Rows, columns and products of the tile at hand.
    fn shape(&self) -> (u64, u64, u64) {
        (
            ROWS.min(u64::from(self.operands.rows) - self.row),
            COLUMNS.min(u64::from(self.gemm.columns) - self.column),
            INNER.min(u64::from(self.gemm.inner) - self.k),
        )
    }

    /// One tile's products. False when all is done.
    fn step(&mut self, memory: &mut Memory) -> Result<bool, Status> {
        let (rows, columns, inner) = self.shape();
        self.load_a(memory)?;
        if self.row == 0 {
            self.load_b(memory)?;
        }
        let sums = (rows * columns) as usize;
        let begins = self.k == 0;
        let panel = (self.k / INNER) as usize;
        match &mut self.tile {
            Tile::Int {
                a,
                panels,
                sums: out,
            } => {
                if begins {
                    out.clear();
                    out.resize(sums, 0);
                }
                kernels::product(a, &panels[panel], inner as usize, out);
            }
            Tile::Float {
                a,
                panels,
                sums: out,
            } => {
                if begins {
                    out.clear();
                    out.resize(sums, 0.0);
                }
                kernels::accumulate(a, &panels[panel], inner as usize, columns as usize, out);
            }
        }
        self.k += inner;
        if self.k < u64::from(self.gemm.inner) {
            return Ok(true);
        }
        self.finish(memory)?;
        self.k = 0;
        self.row += rows;
        if self.row < u64::from(self.operands.rows) {
            return Ok(true);
        }
        self.row = 0;
        self.column += columns;
        match &mut self.tile {
            Tile::Int { panels, .. } => panels.clear(),
            Tile::Float { panels, .. } => panels.clear(),
        }
        Ok(self.column < u64::from(self.gemm.columns))
    }

    fn load_a(&mut self, memory: &mut Memory) -> Result<(), Status> {
        let (rows, _, inner) = self.shape();
        let size = self.gemm.precision.operand_bytes();
        let place = Place {
            stride: u64::from(self.gemm.inner) * size,
            first: self.row,
            rows,
            offset: self.k * size,
            length: inner * size,
        };
        place.read(memory, self.operands.src, &mut self.bytes)?;
        match &mut self.tile {
            Tile::Int { a, .. } => kernels::pack_rows(&self.bytes, a),
            Tile::Float { a, .. } => widen(self.gemm.precision, &self.bytes, a),
        }
        Ok(())
    }

    /// Reads the next panel of B.
    fn load_b(&mut self, memory: &mut Memory) -> Result<(), Status> {
        let (_, columns, inner) = self.shape();
        let size = self.gemm.precision.operand_bytes();
        let place = Place {
            stride: u64::from(self.gemm.columns) * size,
            first: self.k,
            rows: inner,
            offset: self.column * size,
            length: columns * size,
        };
        place.read(memory, self.operands.params, &mut self.bytes)?;
        match &mut self.tile {
            Tile::Int { panels, .. } => {
                let mut panel = Vec::new();
                kernels::pack_columns(&self.bytes, columns as usize, &mut panel);
                panels.push(panel);
            }
            Tile::Float { panels, .. } => {
                let mut panel = Vec::new();
                widen(self.gemm.precision, &self.bytes, &mut panel);
                panels.push(panel);
            }
        }
        Ok(())
    }

    /// Bias, activation and requantisation, and out.
    fn finish(&mut self, memory: &mut Memory) -> Result<(), Status> {
        let (rows, columns, _) = self.shape();
        let layout = self.gemm.params();
        let params = self.operands.params;
        let width = columns as usize;
        let relu = self.gemm.activation == Activation::Relu;
        let (from, column) = (self.column, &mut self.bytes);
        let mut part = |at: Option<u64>, size: u64| -> Result<Option<Vec<u8>>, Status> {
            let Some(at) = at else {
                return Ok(None);
            };
            column.resize((columns * size) as usize, 0);
            memory.read(advance(params, at + from * size), column)?;
            Ok(Some(column.clone()))
        };
        let bias = part(layout.bias, 4)?;
        let scales = part(layout.scales, Scale::SIZE as u64)?;
        match &mut self.tile {
            Tile::Int { sums, .. } => {
                add_bias(sums, width, bias.as_deref(), i32::wrapping_add);
                if relu {
                    sums.iter_mut().for_each(|sum| *sum = (*sum).max(0));
                }
                match scales {
                    Some(bytes) => requantise(sums, &bytes, width, &mut self.bytes)?,
                    None => set_bytes(sums.as_bytes(), &mut self.bytes),
                }
            }
            Tile::Float { sums, .. } => {
                add_bias(sums, width, bias.as_deref(), |a: f32, b| a + b);
                if relu {
                    sums.iter_mut().for_each(|sum| *sum = sum.max(0.0));
                }
                set_bytes(sums.as_bytes(), &mut self.bytes);
            }
        }
        let size = self.gemm.precision.output_bytes();
        let place = Place {
            stride: u64::from(self.gemm.columns) * size,
            first: self.row,
            rows,
            offset: self.column * size,
            length: columns * size,
        };
        place.write(memory, self.operands.dst, &self.bytes)
    }
}

fn set_bytes(from: &[u8], to: &mut Vec<u8>) {
    to.clear();
    to.extend_from_slice(from);
}

fn add_bias<T: FromBytes + Copy>(
    sums: &mut [T],
    columns: usize,
    bias: Option<&[u8]>,
    add: impl Fn(T, T) -> T,
) {
    let Some(bias) = bias else {
        return;
    };
    for row in sums.chunks_exact_mut(columns) {
        for (sum, bytes) in row.iter_mut().zip(bias.chunks_exact(size_of::<T>())) {
            if let Ok(bias) = T::read_from_bytes(bytes) {
                *sum = add(*sum, bias);
            }
        }
    }
}

/// # Errors
/// [`Status::InvalidField`] when a scale is out of its range.
fn requantise(
    sums: &[i32],
    scales: &[u8],
    columns: usize,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    let scales: Vec<Scale> = scales
        .chunks_exact(Scale::SIZE)
        .filter_map(|bytes| Scale::read_from_bytes(bytes).ok())
        .collect();
    if !scales.iter().all(|scale| scale.is_valid()) {
        return Err(Status::InvalidField);
    }
    out.clear();
    for row in sums.chunks_exact(columns) {
        let values = row.iter().zip(&scales);
        out.extend(values.map(|(&sum, scale)| scale.apply(sum) as u8));
    }
    Ok(())
}

/// The numbers in `bytes` as f32.
fn widen(precision: Precision, bytes: &[u8], out: &mut Vec<f32>) {
    out.clear();
    match precision {
        Precision::Bf16 => out.extend(
            bytes
                .chunks_exact(2)
                .map(|pair| bf16::from_le_bytes([pair[0], pair[1]]).to_f32()),
        ),
        Precision::F32 | Precision::Int8 { .. } => out.extend(
            bytes
                .chunks_exact(4)
                .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])),
        ),
    }
}

/// A rectangle of a row-major matrix, in bytes.
struct Place {
    /// From row to row of the matrix.
    stride: u64,
    /// First row.
    first: u64,
    rows: u64,
    /// From the beginning of a row.
    offset: u64,
    /// Of each row.
    length: u64,
}

impl Place {
    fn read(
        &self,
        memory: &mut Memory,
        matrix: Operand,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Status> {
        bytes.resize((self.rows * self.length) as usize, 0);
        let mut from = advance(matrix, self.first * self.stride + self.offset);
        if self.length == self.stride {
            return memory.read(from, bytes);
        }
        for row in bytes.chunks_exact_mut(self.length as usize) {
            memory.read(from, row)?;
            from = advance(from, self.stride);
        }
        Ok(())
    }

    fn write(&self, memory: &mut Memory, matrix: Operand, bytes: &[u8]) -> Result<(), Status> {
        let mut to = advance(matrix, self.first * self.stride + self.offset);
        if self.length == self.stride {
            return memory.write(to, bytes);
        }
        for row in bytes.chunks_exact(self.length as usize) {
            memory.write(to, row)?;
            to = advance(to, self.stride);
        }
        Ok(())
    }
}
