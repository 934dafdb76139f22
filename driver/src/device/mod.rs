//! A chip that is open: bring-up, firmware, resets, admin commands, telemetry, events.
//!
//! A [`Device`] is shared: clones are the same chip, and all its methods may be called from any thread. Work is
//! submitted through queues, one a thread: see [`crate::queue`].
//!
//! ```no_run
//! use auk_driver::{Device, OpenOptions, pci::Host};
//!
//! let host = Host::at("/");
//! let device = Device::open(&host, "0000:01:00.0".parse()?, &OpenOptions::default())?;
//! println!("{}: {} queues", device.name(), device.capabilities().io_queues());
//! println!("{:?}", device.telemetry()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admin;
mod capabilities;
mod context;
mod events;
mod firmware;
mod health;
mod inner;
mod lease;
mod logs;
mod memory;
mod notices;
mod open;
mod options;
mod pair;
mod program;
mod queue_number;
mod recovery;
mod remains;
mod reset;
mod watch;

use std::sync::Arc;

use auk_asic::admin::Identify;
use auk_asic::firmware::FirmwareVersion;

pub use capabilities::{Capabilities, Timeouts};
pub use context::{Context, ContextOptions};
pub use events::{ChipEvent, DeviceEvent};
pub use lease::{Holder, Lease};
pub use memory::DeviceMemory;
pub use options::OpenOptions;
pub use program::LoadedProgram;
pub use recovery::{Climbed, Recovery, RecoveryPolicy, Step};
pub use reset::ResetKind;

pub(crate) use context::ContextId;
pub(crate) use inner::{Inner, Life};
pub(crate) use pair::{NextSubmission, QueuePair};
pub(crate) use queue_number::QueueNumber;
pub(crate) use recovery::Ladder;
pub(crate) use remains::Hold;
pub(crate) use watch::Watch;
#[cfg(feature = "tokio")]
pub(crate) use {
    events::drain,
    watch::{Looks, Pulse},
};

use crate::dma::{DmaBuffer, DmaSpace};
use crate::error::Error;

/// A chip that is open. Clones are the same chip; it is closed when the last one, its queues and its memory are gone.
#[derive(Clone, Debug)]
pub struct Device {
    pub(crate) inner: Arc<Inner>,
}

impl Device {
    /// What messages call it: its address, or the name of its function.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What this instance of the chip has.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.inner.capabilities
    }

    /// What IDENTIFY said after the last bring-up.
    ///
    /// # Errors
    /// [`Error::Resetting`] when a reset failed and there has been no bring-up since.
    pub fn identity(&self) -> Result<Identify, Error> {
        self.inner.identity()
    }

    /// The firmware that runs, `None` in the loader.
    ///
    /// # Errors
    /// As [`Device::identity`].
    pub fn firmware_version(&self) -> Result<Option<FirmwareVersion>, Error> {
        Ok(FirmwareVersion::parse_optional(
            self.identity()?.firmware_version,
        ))
    }

    /// The space whose buffers the chip can reach.
    #[must_use]
    pub fn space(&self) -> &DmaSpace {
        &self.inner.space
    }

    /// A buffer in the device's space: [`DmaSpace::alloc`].
    ///
    /// # Errors
    /// [`Error::Dma`].
    pub fn buffer(&self, length: usize) -> Result<DmaBuffer, Error> {
        Ok(self.inner.space.alloc(length)?)
    }

    /// Whether the chip is there and serves commands; costs a register read. A polling loop of one's own should ask now
    /// and then: a chip that is gone completes nothing. If it is, the policy of [`OpenOptions::recovery`] is followed.
    ///
    /// # Errors
    /// [`Error::Faulted`], [`Error::Gone`], [`Error::Disconnected`], [`Error::NotReady`].
    pub fn check(&self) -> Result<(), Error> {
        let life = self.inner.life();
        let checked = self.inner.check_serving("the device");
        if let Err(error) = &checked {
            self.inner.met(life, error);
        }
        checked
    }
}
