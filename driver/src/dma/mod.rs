//! Memory that chips can reach.
//!
//! A [`DmaSpace`] gives out [`DmaBuffer`]s and maps them for every function that is attached to it, at
//! the same IOVA for all. It maps in arenas of at least 2 MiB, so that thousands of buffers are few mappings,
//! and an arena is unmapped as a whole or not at all.
//!
//! ```no_run
//! use auk_driver::dma::DmaSpace;
//!
//! let space = DmaSpace::new();
//! let buffer = space.alloc(1 << 20)?;
//! buffer.write(0, b"tensor")?;
//! # Ok::<(), auk_driver::dma::DmaError>(())
//! ```

mod arena;
mod buffer;
mod copy;
mod error;
mod memory;
pub(crate) mod prefetch;
mod ranges;
mod space;
mod words;

pub use buffer::DmaBuffer;
pub use error::DmaError;
pub use memory::HugePages;
pub use space::{DmaSpace, DmaUsage};
pub(crate) use words::Words;

#[cfg(all(test, not(loom)))]
mod tests;
