//! The A1 on paper: every register, descriptor, event, vital sign and image header as a type.
//!
//! This crate is the one source of truth in code; `docs/hardware.md` is the same for people, and a
//! test fails when the two differ. It does no I/O, holds no `unsafe` and needs no `std`, so the
//! driver, the simulator and the health agent can all depend on it and on nothing else of each
//! other.
//!
//! All numbers on the wire are little-endian. Whatever comes from a chip goes through a `parse` or
//! `decode` function, which refuses what is out of range with a [`Malformed`] or a [`Status`].

#![no_std]
#![forbid(unsafe_code)]

#[cfg(target_endian = "big")]
compile_error!("the A1's structures are little-endian and are mapped as they are");

#[macro_use]
mod macros;

pub mod admin;
pub mod bar0;
pub mod completion;
pub mod config;
pub mod doorbell;
pub mod event;
pub mod fault;
pub mod firmware;
pub mod ident;
pub mod io;
pub mod log;
pub mod msix;
pub mod program;
pub mod register;
pub mod state;
pub mod status;
pub mod submission;
pub mod telemetry;
pub mod vitals;

pub use fault::Fault;
pub use state::{SelfTest, State};
pub use status::{Scope, Status};

/// Bytes of the page that doorbells, queue memory and log buffers are measured in.
pub const PAGE: usize = 4096;

/// A value that the programming model does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: found {found:#x}, expected {expected}")]
pub struct Malformed {
    /// The field that was read.
    pub what: &'static str,
    /// What it held.
    pub found: u64,
    /// What `docs/hardware.md` allows there.
    pub expected: &'static str,
}
