//! Interrupts through eventfds: `VFIO_DEVICE_SET_IRQS`.

use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::c_int;
use nix::errno::Errno;
use vfio_bindings::bindings::vfio;

use super::Vfio;
use super::errno::Call;
use super::ioctl;
use crate::bus::{BusError, Function, Interrupt, IrqInfo};

/// Takes a vector's eventfd back.
const NO_EVENTFD: c_int = -1;

/// How many vectors of each kind are enabled. The kernel answers EINVAL to disabling what is not enabled, and lets vectors be
/// added on some kernels only.
#[derive(Debug, Default)]
pub(super) struct Enabled(Mutex<[u32; vfio::VFIO_PCI_NUM_IRQS as usize]>);

impl Enabled {
    fn lock(&self) -> MutexGuard<'_, [u32; vfio::VFIO_PCI_NUM_IRQS as usize]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Function::enable_interrupts`].
    pub(super) fn enable(
        &self,
        device: &OwnedFd,
        kind: Interrupt,
        eventfds: &[BorrowedFd<'_>],
    ) -> Result<(), BusError> {
        let index = kind.index();
        let mut enabled = self.lock();
        let now = &mut enabled[index as usize];
        let count = u32::try_from(eventfds.len()).unwrap_or(u32::MAX);
        if *now != count {
            disable(device, index, now)?;
        }
        if count == 0 {
            return Ok(());
        }
        let fds: Vec<c_int> = eventfds.iter().map(AsRawFd::as_raw_fd).collect();
        let result = set_eventfds(device, index, 0, &fds);
        *now = count;
        if result.is_err() {
            // Some of the vectors may have been set; the error that the caller gets is the first one.
            if let Err(error) = disable(device, index, now) {
                tracing::debug!(%error, ?kind, "disabling interrupts that were not enabled");
            }
            *now = 0;
        }
        result
    }

    /// As [`Function::disable_interrupts`].
    pub(super) fn disable(&self, device: &OwnedFd, kind: Interrupt) -> Result<(), BusError> {
        let index = kind.index();
        disable(device, index, &mut self.lock()[index as usize])
    }
}

/// A count of 0 is what disables; any other would fire the vectors.
fn disable(device: &OwnedFd, index: u32, enabled: &mut u32) -> Result<(), BusError> {
    if *enabled == 0 {
        return Ok(());
    }
    let flags = vfio::VFIO_IRQ_SET_DATA_NONE | vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
    ioctl::set_irqs(device, [flags, index, 0, 0], &[])
        .map_err(|errno| Call::SetIrqs.error(errno))?;
    *enabled = 0;
    Ok(())
}

fn set_eventfds(device: &OwnedFd, index: u32, start: u32, fds: &[c_int]) -> Result<(), BusError> {
    let flags = vfio::VFIO_IRQ_SET_DATA_EVENTFD | vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
    let count = u32::try_from(fds.len()).unwrap_or(u32::MAX);
    let left = ioctl::set_irqs(device, [flags, index, start, count], fds)
        .map_err(|errno| Call::SetIrqs.error(errno))?;
    if left > 0 {
        // Not an error number: the host could have given so many, and has given none.
        return Err(BusError::Unsupported {
            what: Call::SetIrqs.name().to_owned(),
            reason: format!(
                "{count} vectors were asked for, and this host has {left} for the function"
            ),
        });
    }
    Ok(())
}

pub(super) fn info(device: &OwnedFd, kind: Interrupt) -> Result<IrqInfo, BusError> {
    let mut info = vfio::vfio_irq_info {
        index: kind.index(),
        ..Default::default()
    };
    match ioctl::exchange(device, &mut info) {
        Ok(_) => Ok(IrqInfo {
            count: info.count,
            eventfd: info.flags & vfio::VFIO_IRQ_INFO_EVENTFD != 0,
            maskable: info.flags & vfio::VFIO_IRQ_INFO_MASKABLE != 0,
            automasked: info.flags & vfio::VFIO_IRQ_INFO_AUTOMASKED != 0,
            noresize: info.flags & vfio::VFIO_IRQ_INFO_NORESIZE != 0,
        }),
        // The error interrupt of a function that is not PCI Express, and kinds that came later than the kernel.
        Err(Errno::EINVAL) => Ok(IrqInfo::default()),
        Err(errno) => Err(Call::IrqInfo.error(errno)),
    }
}

impl Vfio {
    /// Holds vectors back; what fires meanwhile stays pending. vfio-pci can do that to INTx alone.
    ///
    /// # Errors
    /// [`BusError::Unsupported`] for a kind that cannot be masked, and what the kernel says.
    pub fn mask(&self, kind: Interrupt, vectors: Range<u32>) -> Result<(), BusError> {
        self.maskable(kind)?;
        self.act(vfio::VFIO_IRQ_SET_ACTION_MASK, kind, vectors)
    }

    /// Lets vectors through again. INTx needs it after each time that it has fired.
    ///
    /// # Errors
    /// As [`Vfio::mask`].
    pub fn unmask(&self, kind: Interrupt, vectors: Range<u32>) -> Result<(), BusError> {
        self.maskable(kind)?;
        self.act(vfio::VFIO_IRQ_SET_ACTION_UNMASK, kind, vectors)
    }

    /// Fires vectors as if the function had; for tests.
    ///
    /// # Errors
    /// [`BusError`]: the kind is not enabled, or has no such vectors.
    pub fn trigger(&self, kind: Interrupt, vectors: Range<u32>) -> Result<(), BusError> {
        self.act(vfio::VFIO_IRQ_SET_ACTION_TRIGGER, kind, vectors)
    }

    /// Gives one vector of an enabled kind another eventfd, or none. Vectors beyond those that were enabled can be had only on
    /// kernels that add vectors one by one (for MSI-X since Linux 6.4).
    ///
    /// # Errors
    /// [`BusError::Unsupported`] for a vector that cannot be added, and what the kernel says.
    pub fn set_vector(
        &self,
        kind: Interrupt,
        vector: u32,
        eventfd: Option<BorrowedFd<'_>>,
    ) -> Result<(), BusError> {
        let index = kind.index();
        let mut enabled = self.enabled.lock();
        let now = &mut enabled[index as usize];
        if vector >= *now {
            let info = self.interrupts(kind)?;
            let reason = if vector >= info.count {
                Some(format!(
                    "the function has {} vectors of that kind",
                    info.count
                ))
            } else if *now == 0 {
                Some("the kind is not enabled".to_owned())
            } else if info.noresize {
                Some(format!(
                    "{now} vectors are enabled, and this kernel adds none without disabling them all"
                ))
            } else {
                None
            };
            if let Some(reason) = reason {
                return Err(BusError::Unsupported {
                    what: format!("vector {vector} of {kind:?}"),
                    reason,
                });
            }
        }
        let fd = eventfd.map_or(NO_EVENTFD, |fd| fd.as_raw_fd());
        set_eventfds(&self.device, index, vector, &[fd])?;
        *now = (*now).max(vector + 1);
        Ok(())
    }

    fn maskable(&self, kind: Interrupt) -> Result<(), BusError> {
        if self.interrupts(kind)?.maskable {
            return Ok(());
        }
        Err(BusError::Unsupported {
            what: format!("masking {kind:?}"),
            reason:
                "the kernel does not mask this kind; take the eventfd of the vector back instead"
                    .to_owned(),
        })
    }

    fn act(&self, action: u32, kind: Interrupt, vectors: Range<u32>) -> Result<(), BusError> {
        // A count of 0 would disable the whole kind.
        if vectors.is_empty() {
            return Ok(());
        }
        let flags = vfio::VFIO_IRQ_SET_DATA_NONE | action;
        let count = vectors.end - vectors.start;
        let set = [flags, kind.index(), vectors.start, count];
        ioctl::set_irqs(&self.device, set, &[]).map_err(|errno| Call::SetIrqs.error(errno))?;
        Ok(())
    }
}
