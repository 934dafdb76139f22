//! What the kernel's error numbers mean here, and what to do about them.
//!
//! From `<linux/vfio.h>`, `<linux/iommufd.h>` and what `drivers/vfio` and `drivers/iommu/iommufd` return.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::bus::BusError;

/// What the kernel was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    OpenContainer,
    OpenGroup,
    GroupStatus,
    SetContainer,
    SetIommu,
    GetDevice,
    OpenCdev,
    OpenIommufd,
    Bind,
    IoasAlloc,
    Attach,
    IommuInfo,
    IovaRanges,
    MapType1,
    MapIoas,
    Unmap,
    DeviceInfo,
    RegionInfo,
    IrqInfo,
    SetIrqs,
    ReadRegion,
    WriteRegion,
    Reset,
    HotResetInfo,
    HotReset,
    LowPower,
}

impl Call {
    /// What is being done, for the beginning of a message.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::OpenContainer => "opening a VFIO container",
            Self::OpenGroup => "opening its IOMMU group",
            Self::GroupStatus => "asking for the state of its IOMMU group",
            Self::SetContainer => "putting its IOMMU group into a container",
            Self::SetIommu => "choosing the container's kind of IOMMU",
            Self::GetDevice => "taking the function from its group",
            Self::OpenCdev => "opening its VFIO device node",
            Self::OpenIommufd => "opening iommufd",
            Self::Bind => "binding it to iommufd",
            Self::IoasAlloc => "allocating an I/O address space",
            Self::Attach => "attaching it to an I/O address space",
            Self::IommuInfo | Self::IovaRanges => "asking which DMA addresses may be mapped",
            Self::MapType1 | Self::MapIoas => "mapping memory for DMA",
            Self::Unmap => "unmapping memory for DMA",
            Self::DeviceInfo => "asking what the device is",
            Self::RegionInfo => "asking for a region",
            Self::IrqInfo => "asking for interrupts",
            Self::SetIrqs => "setting interrupts",
            Self::ReadRegion => "reading a region",
            Self::WriteRegion => "writing a region",
            Self::Reset => "resetting",
            Self::HotResetInfo => "asking what a hot reset affects",
            Self::HotReset => "hot reset",
            Self::LowPower => "low power",
        }
    }

    /// The Linux release that brought it, where kernels without it are met.
    const fn since(self) -> Option<&'static str> {
        match self {
            Self::LowPower => Some("6.1"),
            Self::OpenIommufd | Self::IoasAlloc | Self::IovaRanges | Self::MapIoas => Some("6.2"),
            Self::OpenCdev | Self::Bind | Self::Attach => Some("6.6"),
            _ => None,
        }
    }

    /// What an error number means for this call, and what to do; the table.
    const fn advice(self, errno: Errno) -> &'static str {
        match (self, errno) {
            (Self::GetDevice, Errno::EINVAL) => {
                "the group is in no container with an IOMMU, or is not viable, or the function is not in it"
            }
            (Self::GetDevice | Self::Bind, Errno::EIO) => {
                "the function could not be woken or reset; it may be dead: look at the kernel log"
            }
            (Self::SetContainer, Errno::EINVAL) => {
                "the group's IOMMU does not go with those in the container, memory is mapped where it cannot reach, or the group \
                 is in another container"
            }
            (Self::SetContainer, Errno::EBUSY) => {
                "the group is in another container, or a driver of the kernel uses a member"
            }
            (Self::SetIommu, Errno::EINVAL) => {
                "the kernel refused the IOMMU of the group; look at the kernel log"
            }
            (Self::SetIommu, Errno::ENODEV) => {
                "no driver for this kind of IOMMU; load vfio_iommu_type1"
            }
            (Self::Bind, Errno::EINVAL) => {
                "another descriptor of the device is bound already, or it is no device of VFIO"
            }
            (Self::Attach, Errno::EINVAL) => "its IOMMU cannot take part in this address space",
            (Self::Attach, Errno::EADDRINUSE) => {
                "memory is mapped where the host reserves addresses for this function; attach it to a space of its own, or before \
                 memory is mapped"
            }
            (Self::MapType1 | Self::MapIoas, Errno::EEXIST) => {
                "something is mapped there already; whoever mapped it did not use this DmaSpace"
            }
            (Self::MapType1 | Self::MapIoas, Errno::EINVAL) => {
                "the range is not made of whole IOMMU pages, or not inside the allowed ranges"
            }
            (Self::MapType1 | Self::MapIoas, Errno::EFAULT) => {
                "the memory cannot be pinned: it is not mapped, or not writable"
            }
            (Self::MapType1 | Self::MapIoas, Errno::ENOMEM) => {
                "the kernel has no memory left for it, or others of this user have locked what its memlock limit (RLIMIT_MEMLOCK) leaves: \
                 raise that (LimitMEMLOCK=, ulimit -l), or grant CAP_IPC_LOCK"
            }
            (_, Errno::ENOMEM) => "the kernel has no memory left for it",
            (Self::Unmap, Errno::ENOENT) => "nothing is mapped there",
            (Self::Unmap, Errno::EINVAL) => "a mapping lies across the edge of the range",
            (Self::Unmap, Errno::EBUSY) => {
                "the kernel still uses the memory on behalf of another driver"
            }
            (Self::SetIrqs, Errno::EINVAL) => {
                "no such vectors, another kind of interrupts is enabled, or vectors cannot be added while others are enabled: disable \
                 first, then enable all at once"
            }
            (Self::SetIrqs, Errno::ENOSPC) => "the host has not that many interrupt vectors left",
            (Self::SetIrqs, Errno::EBADF) => "one of the descriptors is no eventfd",
            (Self::ReadRegion | Self::WriteRegion, Errno::EIO) => {
                "the function does not decode memory: COMMAND's memory enable is clear, it is in D3, or it is gone"
            }
            (Self::ReadRegion | Self::WriteRegion, Errno::EINVAL) => {
                "outside of the region, or the region cannot be accessed so"
            }
            (Self::ReadRegion | Self::WriteRegion, Errno::EFAULT) => {
                "the kernel could not carry the access out"
            }
            (Self::Reset | Self::HotReset, Errno::EAGAIN) => {
                "another reset or an error recovery of the same functions is under way; try again"
            }
            (Self::Reset | Self::HotReset, Errno::ENOTTY) => {
                "the function did not come back, or no reset method works; look at the kernel log"
            }
            (Self::HotResetInfo | Self::HotReset, Errno::EINVAL) => {
                "not all affected functions were named, or their bus cannot be reset"
            }
            (Self::HotReset, Errno::EPERM) => "an affected function is not ours",
            (Self::OpenGroup, Errno::EINVAL) => "it is no group of VFIO",
            (Self::RegionInfo | Self::IommuInfo, Errno::EOVERFLOW) => {
                "the answer is larger than any kernel makes it"
            }
            _ => "look at the kernel log",
        }
    }

    /// The error that `errno` is. Callers that know more look before they ask here.
    pub(super) fn error(self, errno: Errno) -> BusError {
        let what = self.name().to_owned();
        match errno {
            Errno::ENODEV if self != Self::SetIommu => BusError::Removed { what },
            Errno::ENOTTY if self.since().is_some() => BusError::Unsupported {
                what,
                reason: older_than(self.since().unwrap_or_default()),
            },
            Errno::ENOTTY if matches!(self, Self::SetIrqs) => BusError::Unsupported {
                what,
                reason: "the function has no such interrupts, or they cannot do that".to_owned(),
            },
            Errno::ENOSPC if self == Self::MapType1 => BusError::MappingLimit,
            Errno::EACCES | Errno::EPERM if self != Self::HotReset => BusError::NotPermitted {
                what,
                remedy: self.permission().to_owned(),
            },
            errno => BusError::Kernel {
                what,
                source: errno.into(),
                advice: self.advice(errno),
            },
        }
    }

    /// What is missing when a file of `/dev` is.
    pub(super) fn missing(self, path: PathBuf) -> BusError {
        BusError::NoInterface {
            what: self.name().to_owned(),
            path,
            remedy: match self {
                Self::OpenIommufd => {
                    "load the module iommufd (CONFIG_IOMMUFD), or open the function by its group"
                }
                Self::OpenCdev => {
                    "this kernel has no VFIO device nodes (Linux 6.6, CONFIG_VFIO_DEVICE_CDEV); open the function by its group"
                }
                Self::OpenGroup => {
                    "bind the function to vfio-pci; on kernels without CONFIG_VFIO_GROUP open it by its device node"
                }
                _ => "load the modules vfio-pci and vfio_iommu_type1",
            },
        }
    }

    const fn permission(self) -> &'static str {
        match self {
            Self::SetContainer | Self::SetIommu | Self::Bind | Self::Attach => {
                "the host's IOMMU does not remap interrupts, so that VFIO wants allow_unsafe_interrupts=1 of vfio_iommu_type1 or \
                 iommufd; in no-IOMMU mode the process needs CAP_SYS_RAWIO"
            }
            Self::OpenContainer => "the process needs read and write access to /dev/vfio/vfio",
            Self::OpenIommufd => {
                "the process needs read and write access to /dev/iommu (a udev rule, or a supplementary group)"
            }
            Self::OpenGroup | Self::GetDevice => {
                "the process needs read and write access to the group's file in /dev/vfio (a udev rule, or a supplementary group); in \
                 no-IOMMU mode CAP_SYS_RAWIO too"
            }
            Self::OpenCdev => {
                "the process needs read and write access to the device's file in /dev/vfio/devices (a udev rule, or a supplementary \
                 group)"
            }
            Self::MapType1 | Self::MapIoas => "the memory may not be written by this process",
            _ => "look at who may use the function, and at the kernel log",
        }
    }
}

/// Why a feature is lacking that came with Linux `release`.
pub(super) fn older_than(release: &str) -> String {
    let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "it came with Linux {release}, and this kernel ({}) does not have it",
        running.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_an_old_kernel_lacks_names_the_release_that_brought_it() {
        let error = Call::LowPower.error(Errno::ENOTTY);
        assert!(matches!(error, BusError::Unsupported { .. }));
        assert!(error.to_string().contains("Linux 6.1"), "{error}");
    }

    #[test]
    fn a_function_that_left_is_told_apart_from_everything_else() {
        for call in [
            Call::ReadRegion,
            Call::SetIrqs,
            Call::Reset,
            Call::GetDevice,
        ] {
            let error = call.error(Errno::ENODEV);
            assert!(matches!(error, BusError::Removed { .. }), "{error}");
            assert!(error.is_final());
        }
        let missing_driver = Call::SetIommu.error(Errno::ENODEV);
        assert!(missing_driver.to_string().contains("vfio_iommu_type1"));
    }

    #[test]
    fn the_limit_of_mappings_is_an_error_of_its_own() {
        assert!(matches!(
            Call::MapType1.error(Errno::ENOSPC),
            BusError::MappingLimit
        ));
    }

    #[test]
    fn missing_permission_says_which_file_or_parameter() {
        let group = Call::OpenGroup.error(Errno::EACCES);
        assert!(group.to_string().contains("/dev/vfio"), "{group}");
        let unsafe_interrupts = Call::SetContainer.error(Errno::EPERM);
        assert!(
            unsafe_interrupts
                .to_string()
                .contains("allow_unsafe_interrupts")
        );
    }

    #[test]
    fn every_refusal_says_what_was_done_to_what_and_why() {
        let error = Call::Attach.error(Errno::EADDRINUSE);
        let text = error.to_string();
        assert!(text.starts_with("attaching it"), "{text}");
        assert!(text.contains("reserves addresses"), "{text}");
    }
}
