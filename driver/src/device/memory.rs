//! Device memory.

use std::sync::{Arc, Weak};

use auk_asic::admin::{AdminCommand, MEMORY_GRANULE};

use super::Device;
use super::context::ContextId;
use super::inner::{Inner, Life, Sweeper};
use crate::deadline::Deadline;
use crate::error::Error;

/// Memory on the chip. A clone is the same memory; it is freed when the last handle is gone, and commands that
/// name it hold one until they end.
#[derive(Clone, Debug)]
pub struct DeviceMemory {
    pub(crate) allocation: Arc<Allocation>,
    /// After `allocation`: frees on the chip what the line above gave up.
    sweeper: Sweeper,
}

#[derive(Debug)]
pub(crate) struct Allocation {
    /// Not kept open by a command that holds this, and may itself be kept by the device until a reset.
    pub(crate) inner: Weak<Inner>,
    _context: ContextId,
    pub(crate) life: Life,
    pub(crate) address: u64,
    pub(crate) length: u64,
}

impl Drop for Allocation {
    /// Only notes it: the last handle may be a command's, on the hot path.
    fn drop(&mut self) {
        let command = AdminCommand::FreeMemory {
            address: self.address,
        };
        if let Some(inner) = self.inner.upgrade() {
            inner.leave(self.life, command);
        }
    }
}

impl DeviceMemory {
    pub(super) fn new(inner: &Arc<Inner>, context: &ContextId, length: u64) -> Result<Self, Error> {
        let life = inner.running_life()?;
        inner.sweep();
        let command = AdminCommand::AllocMemory {
            length,
            align: MEMORY_GRANULE,
            context: context.number(),
        };
        let deadline = Deadline::after(inner.capabilities.timeouts().command);
        let address =
            inner.execute_in(life, command, None, "allocating device memory", deadline)?;
        let memory = inner.capabilities.memory();
        if address.checked_add(length).is_none_or(|end| end > memory)
            || address % MEMORY_GRANULE != 0
        {
            return Err(inner.malformed(auk_asic::Malformed {
                what: "address of an allocation",
                found: address,
                expected: "a page of device memory",
            }));
        }
        Ok(Self {
            allocation: Arc::new(Allocation {
                inner: Arc::downgrade(inner),
                _context: context.clone(),
                life,
                address,
                length,
            }),
            sweeper: Sweeper::new(inner),
        })
    }

    /// Where it begins in the chip's memory.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.allocation.address
    }

    /// Bytes that were asked for.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an allocation is never empty")]
    #[inline]
    pub fn len(&self) -> u64 {
        self.allocation.length
    }

    /// Whether no reset has taken it away.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.sweeper.inner().life() == self.allocation.life
    }
}

impl Device {
    /// Allocates `length` bytes of device memory.
    ///
    /// # Errors
    /// [`Error::Command`] with [`OutOfMemory`](auk_asic::Status::OutOfMemory) when there is not as much in one piece;
    /// [`Error::TimedOut`], what has become of the chip.
    pub fn alloc(&self, length: u64) -> Result<DeviceMemory, Error> {
        DeviceMemory::new(&self.inner, &ContextId::owner(), length)
    }
}
