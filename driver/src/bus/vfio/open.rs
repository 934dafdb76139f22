//! Opening a function, by the way that is asked for or the best that there is.

use std::sync::Arc;
use std::time::Duration;

use super::device::Attachment;
use super::errno::Call;
use super::group::Group;
use super::{Access, Vfio, access, blocking, cdev};
use crate::bus::BusError;
use crate::deadline::Deadline;
use crate::dma::DmaSpace;
use crate::pci::{Bdf, ConfigSpace, Host, PciFunction};

/// The kernel wakes and resets a function that is opened, and gives a dead one a minute (`PCIE_RESET_READY_POLL_MS` of
/// `drivers/pci/pci.c`).
const OPEN: Duration = Duration::from_secs(65);
/// Header Type, PCI Express Base Specification 6.0, section 7.5.1.1.9; 0 below the multi-function bit is an endpoint.
const HEADER_TYPE: u16 = 0x0E;

impl Vfio {
    /// Opens the function at `bdf`. It joins the container or the address space of a function that is attached to `space`
    /// already, if it can, so that memory is mapped once for both.
    ///
    /// # Errors
    /// [`BusError::NotBound`], [`BusError::Bridge`], [`BusError::NoIommu`], [`BusError::GroupNotViable`],
    /// [`BusError::InUse`], [`BusError::NotPermitted`], [`BusError::NoInterface`], and what else the kernel says.
    pub fn open(host: &Host, bdf: Bdf, access: Access, space: &DmaSpace) -> Result<Self, BusError> {
        let deadline = Deadline::after(OPEN);
        let function = host.function(bdf)?;
        check(&function, access)?;
        match access {
            Access::Cdev => by_cdev(host, &function, space, deadline),
            Access::Group | Access::UnsafeNoIommu => {
                by_group(host, &function, access, space, deadline)
            }
            Access::Auto if has_cdev(host, &function) => {
                match by_cdev(host, &function, space, deadline) {
                    // Hosts let users at groups that never thought of iommufd.
                    Err(refused @ BusError::NotPermitted { .. }) => {
                        by_group(host, &function, Access::Group, space, deadline)
                            .map_err(|_| refused)
                    }
                    result => result,
                }
            }
            Access::Auto => by_group(host, &function, Access::Group, space, deadline),
        }
    }
}

fn has_cdev(host: &Host, function: &PciFunction) -> bool {
    access::iommufd_path(host).exists()
        && matches!(access::cdev_path(host, function), Ok(Some(path)) if path.exists())
}

/// What sysfs can tell before anything is opened.
fn check(function: &PciFunction, access: Access) -> Result<(), BusError> {
    let bdf = function.bdf();
    let header_type = function.config().and_then(|config| {
        config
            .read_u8(HEADER_TYPE)
            .map_err(|source| crate::pci::PciError::Config { bdf, source })
    })?;
    // All ones is a function that does not answer, which opening it will tell.
    if header_type & 0x7F != 0 && header_type != 0xFF {
        return Err(BusError::Bridge { bdf });
    }
    let group = function.group_members()?;
    if group.is_none_or(|group| group.is_noiommu) && access != Access::UnsafeNoIommu {
        return Err(BusError::NoIommu {
            remedy: "turn it on in the firmware and on the kernel's command line (intel_iommu=on), or open the function in no-IOMMU \
                     mode, which is unsafe",
        });
    }
    let driver = function.driver()?;
    // The drivers for devices that need their own (mlx5-vfio-pci) have it in their names; newer kernels show a directory too.
    let bound = driver.as_deref().is_some_and(|name| name.contains("vfio"))
        || function.vfio_device()?.is_some();
    if !bound {
        return Err(BusError::NotBound { bdf, driver });
    }
    Ok(())
}

fn by_cdev(
    host: &Host,
    function: &PciFunction,
    space: &DmaSpace,
    deadline: Deadline,
) -> Result<Vfio, BusError> {
    let bound = cdev::open(host, function, space, deadline)?;
    let attachment = Attachment::Ioas(bound.ioas);
    Vfio::over(host, function.bdf(), Access::Cdev, bound.device, attachment)
}

fn by_group(
    host: &Host,
    function: &PciFunction,
    access: Access,
    space: &DmaSpace,
    deadline: Deadline,
) -> Result<Vfio, BusError> {
    let bdf = function.bdf();
    let unsafe_no_iommu = access == Access::UnsafeNoIommu;
    if unsafe_no_iommu {
        tracing::warn!(%bdf, "opening without IOMMU: the function can write all memory of this host, and the kernel is tainted");
    }
    let group = Group::of(host, function, space, unsafe_no_iommu)?;
    let name = bdf.to_string();
    let opening = Arc::clone(&group);
    let device = blocking::within(Call::GetDevice.name(), deadline, move || {
        blocking::again(deadline, || opening.device(&name))
    })?
    .map_err(|errno| Call::GetDevice.error(errno))?;
    Vfio::over(host, bdf, access, device, Attachment::Group(group))
}
