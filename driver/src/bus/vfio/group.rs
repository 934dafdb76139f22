//! A legacy group: all functions that the IOMMU cannot tell apart.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use vfio_bindings::bindings::vfio;

use super::container::Container;
use super::errno::Call;
use super::{access, ioctl, node, users};
use crate::bus::BusError;
use crate::dma::DmaSpace;
use crate::pci::{Host, PciFunction};

/// An open group in its container. Dropped after the descriptors of its functions, and before the container.
#[derive(Debug)]
pub(super) struct Group {
    number: u32,
    fd: OwnedFd,
    container: Arc<Container>,
}

impl Group {
    /// The group of `function`, in a container of `space`'s if there is one that it goes into, else in a new one.
    pub(super) fn of(
        host: &Host,
        function: &PciFunction,
        space: &DmaSpace,
        unsafe_no_iommu: bool,
    ) -> Result<Arc<Self>, BusError> {
        let number = function.iommu_group()?.ok_or(BusError::NoIommu {
            remedy: "in no-IOMMU mode VFIO makes up a group when it is bound: set enable_unsafe_noiommu_mode=1 of the module vfio, \
                     and bind it again",
        })?;
        let containers = containers(space);
        if let Some(group) = containers
            .iter()
            .find_map(|container| container.group(number))
        {
            return Ok(group);
        }
        // The order that the kernel wants: container, group, the group into the container, the kind of IOMMU.
        let fresh = Container::open(host, !unsafe_no_iommu)?;
        let path = access::group_path(host, number, unsafe_no_iommu);
        let fd = node::open(Call::OpenGroup, &path, || {
            users::in_use(Call::OpenGroup, host, function)
        })?;
        if !is_viable(&fd)? {
            return Err(users::in_use(Call::GroupStatus, host, function));
        }
        let joined = containers
            .iter()
            .filter(|container| container.is_translated() && !unsafe_no_iommu)
            .find(|container| match container.join(fd.as_fd()) {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(group = number, %error, "a container of its own");
                    false
                }
            });
        let container = match joined {
            Some(container) => Arc::clone(container),
            None => {
                fresh.join(fd.as_fd())?;
                fresh
            }
        };
        let group = Arc::new(Self {
            number,
            fd,
            container,
        });
        group.container.keep(&group);
        Ok(group)
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// The descriptor of one function. The kernel wakes and resets the function meanwhile.
    pub(super) fn device(&self, name: &str) -> Result<OwnedFd, nix::errno::Errno> {
        let name = CString::new(name).map_err(|_| nix::errno::Errno::EINVAL)?;
        ioctl::device_fd(&self.fd, &name)
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The containers among what is attached to a space.
fn containers(space: &DmaSpace) -> Vec<Arc<Container>> {
    super::targets_of(space)
}

fn is_viable(fd: &OwnedFd) -> Result<bool, BusError> {
    let mut status = vfio::vfio_group_status::default();
    ioctl::exchange(fd, &mut status).map_err(|errno| Call::GroupStatus.error(errno))?;
    Ok(status.flags & vfio::VFIO_GROUP_FLAGS_VIABLE != 0)
}
