//! Opening a function by its own device node, behind iommufd.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use vfio_bindings::bindings::vfio;

use super::errno::Call;
use super::ioas::Ioas;
use super::ioctl::{self, BindIommufd};
use super::{access, blocking, node, users};
use crate::bus::BusError;
use crate::deadline::Deadline;
use crate::dma::DmaSpace;
use crate::pci::{Host, PciFunction};

/// A device that is bound to an iommufd, and attached to an address space there.
pub(super) struct Bound {
    pub(super) device: OwnedFd,
    pub(super) ioas: Arc<Ioas>,
}

pub(super) fn open(
    host: &Host,
    function: &PciFunction,
    space: &DmaSpace,
    deadline: Deadline,
) -> Result<Bound, BusError> {
    let path = access::cdev_path(host, function)?
        .ok_or_else(|| Call::OpenCdev.missing(function.path().join("vfio-dev")))?;
    let device = node::open_shared(Call::OpenCdev, &path)?;
    let known: Option<Arc<Ioas>> = super::targets_of(space).into_iter().next();
    let iommufd = match &known {
        Some(ioas) => Arc::clone(ioas.iommufd()),
        None => Arc::new(node::open_shared(
            Call::OpenIommufd,
            &access::iommufd_path(host),
        )?),
    };
    // The kernel wakes and resets the function meanwhile.
    let descriptor = Arc::clone(&iommufd);
    let (device, result) = blocking::within(Call::Bind.name(), deadline, move || {
        let result = blocking::again(deadline, || {
            ioctl::exchange(&device, &mut BindIommufd::to(&descriptor))
        });
        (device, result)
    })?;
    if let Err(errno) = result {
        // Ours must be closed for whoever else holds the node to be found.
        drop(device);
        return Err(match errno {
            // A device can be bound once at a time, and its group have one owner.
            Errno::EBUSY | Errno::EINVAL => users::in_use(Call::Bind, host, function),
            // Also what is said when a driver of the kernel owns the group.
            errno => users::in_the_way(Call::Bind, host, function)
                .unwrap_or_else(|| Call::Bind.error(errno)),
        });
    }
    if let Some(ioas) = known {
        match attach(&device, &ioas) {
            Ok(()) => return Ok(Bound { device, ioas }),
            Err(error) => tracing::debug!(%error, "an I/O address space of its own"),
        }
    }
    let ioas = Ioas::alloc(&iommufd)?;
    attach(&device, &ioas)?;
    Ok(Bound { device, ioas })
}

fn attach(device: &OwnedFd, ioas: &Ioas) -> Result<(), BusError> {
    let mut attach = vfio::vfio_device_attach_iommufd_pt {
        pt_id: ioas.id(),
        ..Default::default()
    };
    ioctl::exchange(device, &mut attach).map_err(|errno| Call::Attach.error(errno))?;
    Ok(())
}
