//! The reset ladder's upper steps: restart of the firmware, reset of the function.

use std::sync::{Arc, MutexGuard, TryLockError};
use std::time::Duration;

use auk_asic::State;
use auk_asic::bar0::{self, Control};
use auk_asic::config::header;

use super::Device;
use super::inner::Inner;
use crate::bus::{BusError, FunctionConfig};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::pci::ConfigSpace;

/// What a reset takes beside the chip's own time: the kernel waits up to 700 ms for transactions to end, and always 100 ms
/// after FLR (`pci_wait_for_pending`, `pcie_flr` of `drivers/pci/pci.c`).
pub(super) const RESET_BY_KERNEL: Duration = Duration::from_secs(2);

/// How to reset a device. All end all queues, contexts, programs and allocations; `docs/hardware.md` has the table of
/// what survives what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetKind {
    /// The firmware starts anew and a fault is cleared; what device memory holds is kept.
    FirmwareRestart,
    /// The function is reset (FLR); device memory is scrubbed, the firmware runs on, and so does a fault.
    Flr,
    /// The bus or slot is reset, with the same outcome as FLR, for a function that no longer does that. Kernel VFIO alone can, and only where
    /// nobody else's function is on that bus.
    HotReset,
}

impl Device {
    /// Resets the device and brings it up again. Everything that was made before is [`Error::Stale`] afterwards, commands
    /// in flight end as that, once each.
    ///
    /// Waits for the chip as long as it advertises for that, at most; requests to the bus have their own time beside, 10 s
    /// each with a simulator. After an error the device may be reset again.
    ///
    /// # Errors
    /// [`Error::Resetting`] when another thread is at it, [`Error::Faulted`] when the chip faults again or, after FLR,
    /// still does; [`Error::NotReady`] when the firmware's image was refused and the loader runs, in which case the
    /// admin queue serves and firmware can be installed; [`Error::TimedOut`], [`Error::Gone`], [`Error::Disconnected`].
    pub fn reset(&self, kind: ResetKind) -> Result<(), Error> {
        let inner = &self.inner;
        let _alone = inner.alone()?;
        inner.reset_alone(kind)
    }

    /// Restarts the firmware: [`Device::reset`] with [`ResetKind::FirmwareRestart`]. The way back from a fault, and into a
    /// new firmware.
    ///
    /// # Errors
    /// As [`Device::reset`].
    pub fn restart_firmware(&self) -> Result<(), Error> {
        self.reset(ResetKind::FirmwareRestart)
    }
}

impl Inner {
    /// The right to reset the device, which one thread has at a time.
    pub(super) fn alone(&self) -> Result<MutexGuard<'_, ()>, Error> {
        match self.resetting.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::Resetting {
                device: Arc::clone(&self.name),
            }),
        }
    }

    /// Ends the device's life: whoever uses it is told, until a reset succeeds.
    pub(super) fn give_up_admin(&self) {
        self.begin_reset();
        self.set_identity(None);
        if let Some(admin) = self.admin().take() {
            // Its rings, and what its commands name, until the reset has succeeded.
            self.keep_until_reset(admin.life(), admin.into_remains());
        }
    }

    /// Resets the device, for who has the right to.
    pub(super) fn reset_alone(&self, kind: ResetKind) -> Result<(), Error> {
        tracing::info!(device = %self.name, ?kind, "resetting");
        self.give_up_admin();
        let status = match kind {
            ResetKind::FirmwareRestart => self.restart()?,
            ResetKind::Flr => self.reset_function(|deadline| self.function.reset(deadline))?,
            ResetKind::HotReset => {
                self.reset_function(|deadline| self.function.hot_reset(deadline))?
            }
        };
        self.end_reset();
        if status.faulted() {
            return Err(self.fault_error());
        }
        let timeouts = self.capabilities.timeouts();
        self.bring_up(Deadline::after(timeouts.ready + timeouts.command))?;
        match self.state()? {
            State::Running => Ok(()),
            state => Err(Error::NotReady {
                device: Arc::clone(&self.name),
                what: "work",
                state,
            }),
        }
    }

    pub(super) fn reset_deadline(&self) -> Deadline {
        Deadline::after(self.capabilities.timeouts().flr + RESET_BY_KERNEL)
    }

    fn restart(&self) -> Result<bar0::Status, Error> {
        let before = self.read_register(bar0::GENERATION)?;
        if let Err(error) = self.quiesce() {
            // A firmware that hangs does not end its queues; the restart does.
            tracing::debug!(%error, "before the restart");
        }
        let deadline = Deadline::after(self.capabilities.timeouts().restart);
        self.write_register(bar0::CONTROL, Control::new().with_restart(true).into_bits())?;
        loop {
            let status = self.wait_status("the restart of the firmware", deadline, |status| {
                status.faulted() || matches!(status.state(), Ok(State::Loader | State::Running))
            })?;
            // The state alone may be the old one's.
            if self.read_register(bar0::GENERATION)? != before || self.is_image_refused(status)? {
                return Ok(status);
            }
            if deadline.is_over() {
                return Err(Error::TimedOut {
                    device: Arc::clone(&self.name),
                    what: "the restart of the firmware",
                    waited: deadline.elapsed(),
                    heartbeat: crate::error::Heartbeat::Unknown,
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the loader runs because it refused the active slot's image.
    fn is_image_refused(&self, status: bar0::Status) -> Result<bool, Error> {
        Ok(status.state() == Ok(State::Loader) && self.read_register(bar0::FAULT)? != 0)
    }

    /// Why a reset failed. Of a function that is not there the bus says no more than that it cannot reset it.
    fn reset_error(&self, source: BusError) -> Error {
        let config = FunctionConfig(&*self.function);
        if !source.is_final() && matches!(config.read_u16(header::VENDOR), Ok(u16::MAX)) {
            return Error::Gone {
                device: Arc::clone(&self.name),
                found: u32::MAX,
            };
        }
        self.bus_error("resetting the function", source)
    }

    fn reset_function(
        &self,
        reset: impl FnOnce(Deadline) -> Result<(), BusError>,
    ) -> Result<bar0::Status, Error> {
        if let Err(error) = self.disable_interrupts() {
            tracing::debug!(%error, "before the reset");
        }
        if let Err(error) = self.quiesce() {
            tracing::debug!(%error, "before the reset");
        }
        let timeouts = self.capabilities.timeouts();
        self.stops_decoding();
        reset(self.reset_deadline()).map_err(|source| self.reset_error(source))?;
        self.decode()?;
        self.settle(Deadline::after(timeouts.flr + timeouts.ready))
    }
}
