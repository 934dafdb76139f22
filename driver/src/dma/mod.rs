//! Memory that chips can reach.
//!
//! A [`DmaSpace`] gives out [`DmaBuffer`]s and maps them for every function that is attached to it, at
//! the same IOVA for all. It maps in arenas of at least 2 MiB, which get larger with what the space holds, so that millions of
//! buffers are few mappings; an arena is unmapped as a whole or not at all. [`DmaSpace::register`] does the same for memory that
//! the job has already.
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
mod grow;
mod huge;
mod layout;
mod limits;
mod memory;
mod numa;
mod options;
mod pool;
pub(crate) mod prefetch;
mod ranges;
mod register;
mod slab;
mod space;
mod words;

pub use buffer::DmaBuffer;
pub use error::{DmaError, RegisterError};
pub use huge::HugePages;
pub use numa::NumaPlacement;
pub use options::SpaceOptions;
pub use space::{DmaSpace, DmaUsage};
pub(crate) use words::Words;

#[cfg(all(test, not(loom)))]
mod tests;
