//! Userspace driver of the A1 over VFIO and vfio-user.
//!
//! The way in is [`Device::open`], or [`pci::Host`] for looking around first; `docs/driver.md` is the tour. Each
//! module uses only those before it: [`pci`], [`bus`], [`mmio`], [`dma`], [`ring`], [`device`], [`queue`]; [`report`] reads
//! of all of them.
//! `unsafe` is in [`mmio`], [`dma`], `bus/vfio/ioctl.rs` and, with the feature `tokio`, `queue/future/interrupt.rs`.

pub mod bus;
mod deadline;
pub mod device;
pub mod dma;
mod error;
pub mod mmio;
pub mod pci;
pub mod queue;
mod random;
pub mod report;
pub mod ring;

pub use deadline::Deadline;
pub use device::{
    Capabilities, ChipEvent, Context, ContextOptions, Device, DeviceEvent, DeviceMemory, Holder,
    Lease, LoadedProgram, OpenOptions, Recovery, RecoveryPolicy, ResetKind, Step,
};
pub use dma::{DmaBuffer, DmaSpace};
pub use error::{Error, Heartbeat};
pub use mmio::install_sigbus_handler;
#[cfg(feature = "tokio")]
pub use queue::{AsyncQueue, Submitted};
pub use queue::{
    Command, Completion, Completions, IoQueue, Place, QueueHealth, QueueOptions, Ticket, WaitMode,
};
pub use report::Report;

/// The snippets of `docs/driver.md`, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/driver.md")]
struct Tour;
