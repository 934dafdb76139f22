//! Readers: small processes that make every read that may block.
//!
//! A config read of a function that resets sleeps in the kernel, for a minute when the reset fails, and
//! a process with a thread in that state can neither exit nor be restarted. So the agent reads
//! nothing of a device itself: a [`Pool`] of readers does, each over a socket with bounded messages.
//! A reader keeps the descriptors of its components. One that is late is left behind with the
//! component that holds it, and the others of its components move to another at once.

mod command;
mod held;
mod job;
mod life;
mod pool;
mod serve;
mod serving;
mod wire;

pub use command::ReaderCommand;
pub(crate) use job::{Done, Job};
pub(crate) use pool::Pool;
pub use serve::run_process;
#[cfg(fuzzing)]
pub use wire::fuzz_reader_wire;
