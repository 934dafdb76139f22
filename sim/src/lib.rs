//! The simulated A1, and the simulated host around it.
//!
//! A [`Chip`] implements `docs/hardware.md` as a vfio-user device. It shares with the driver only
//! the crate `auk-asic`, so that each checks the other.

mod accesses;
mod admin;
mod arming;
mod chip;
mod config_space;
mod context;
mod device;
mod engine;
mod fault;
pub mod firmware;
mod gate;
pub mod host;
pub mod inject;
mod io;
mod kernels;
mod life;
mod log;
mod machine;
mod memory;
mod msix_table;
mod profile;
mod queue;
mod registers;
mod resources;
mod ring;
mod serve;
mod strict;
mod telemetry;
mod vitals;

pub use accesses::Connection;
pub use chip::{Chip, ChipError};
pub use device::ChipDevice;
pub use profile::{ChipProfile, Link, ProfileError, Timing};
pub use serve::{ServeError, Serving};
pub use strict::Violation;

/// The snippet of `docs/simulator.md`, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/simulator.md")]
struct Page;
