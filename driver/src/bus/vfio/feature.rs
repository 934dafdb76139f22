//! Device features: low power.

use std::os::fd::{AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio;

use super::Vfio;
use super::errno::Call;
use super::ioctl;
use crate::bus::BusError;

impl Vfio {
    /// Lets the host put the function into a low-power state, D3cold if the platform can, or takes that back. While it may,
    /// mapped BARs must not be touched (SIGBUS); any other access wakes the function for as long as it takes.
    ///
    /// # Errors
    /// [`BusError::Unsupported`] on kernels before Linux 6.1, and what the kernel says.
    pub fn low_power(&self, enter: bool) -> Result<(), BusError> {
        self.set_feature(
            if enter {
                vfio::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
            } else {
                vfio::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT
            },
            &[],
        )
    }

    /// As [`Vfio::low_power`], until the function wakes for whatever reason: then `wakeup`, an eventfd, is signalled, and the
    /// function stays awake.
    ///
    /// # Errors
    /// As [`Vfio::low_power`].
    pub fn low_power_until_wakeup(&self, wakeup: BorrowedFd<'_>) -> Result<(), BusError> {
        // `struct vfio_device_low_power_entry_with_wakeup`: the descriptor and a reserved word.
        let data = [wakeup.as_raw_fd().cast_unsigned(), 0];
        self.set_feature(vfio::VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, &data)
    }

    fn set_feature(&self, feature: u32, data: &[u32]) -> Result<(), BusError> {
        let call = Call::LowPower;
        self.resets.idle(call)?;
        let set = feature | vfio::VFIO_DEVICE_FEATURE_SET;
        ioctl::feature(&self.device, set | vfio::VFIO_DEVICE_FEATURE_PROBE, &[])
            .and_then(|()| ioctl::feature(&self.device, set, data))
            .map_err(|errno| call.error(errno))
    }
}
