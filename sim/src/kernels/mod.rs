//! The arithmetic: products of small tiles, and CRC-32C. Plain numbers in, plain numbers out.

mod crc32c;
mod int8;
mod sgemm;

pub(crate) use crc32c::Crc32c;
pub(crate) use int8::{pack_columns, pack_rows, product};
pub(crate) use sgemm::accumulate;
