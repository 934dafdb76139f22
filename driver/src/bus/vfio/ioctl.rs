//! The system calls of VFIO and iommufd, and the one place of this bus with `unsafe`.
//!
//! Each wrapper is sound for any argument: the kernel reads and writes the structure that the request names, of the size that the
//! wrapper puts into its first word, and memory behind addresses that come from a [`DmaRange`] only.

#![allow(
    unsafe_code,
    reason = "ioctl takes a pointer whose meaning depends on the request"
)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use iommufd_bindings as iommufd;
use libc::{c_int, c_ulong};
use nix::errno::Errno;
use vfio_bindings::bindings::vfio;

use super::info::Info;
use crate::bus::DmaRange;

/// `_IO(VFIO_TYPE, VFIO_BASE + n)`; on all architectures that Auk runs on `_IO` leaves size and direction 0.
const fn vfio_io(number: u32) -> u32 {
    (vfio::VFIO_TYPE as u32) << 8 | (vfio::VFIO_BASE + number)
}

/// `_IO(IOMMUFD_TYPE, command)`.
const fn iommufd_io(command: u32) -> u32 {
    (iommufd::IOMMUFD_TYPE as u32) << 8 | command
}

/// `VFIO_GET_API_VERSION`.
const GET_API_VERSION: u32 = vfio_io(0);
/// `VFIO_CHECK_EXTENSION`.
const CHECK_EXTENSION: u32 = vfio_io(1);
/// `VFIO_SET_IOMMU`.
const SET_IOMMU: u32 = vfio_io(2);
/// `VFIO_GROUP_SET_CONTAINER`.
const GROUP_SET_CONTAINER: u32 = vfio_io(4);
/// `VFIO_GROUP_GET_DEVICE_FD`.
const GROUP_GET_DEVICE_FD: u32 = vfio_io(6);
/// `VFIO_DEVICE_SET_IRQS`.
const DEVICE_SET_IRQS: u32 = vfio_io(10);
/// `VFIO_DEVICE_RESET`.
const DEVICE_RESET: u32 = vfio_io(11);
/// `VFIO_DEVICE_PCI_HOT_RESET`.
const DEVICE_PCI_HOT_RESET: u32 = vfio_io(13);
/// `VFIO_DEVICE_FEATURE`.
const DEVICE_FEATURE: u32 = vfio_io(17);
/// `VFIO_IOMMU_MAP_DMA`.
const IOMMU_MAP_DMA: u32 = vfio_io(13);
/// `IOMMU_IOAS_MAP`.
const IOAS_MAP: u32 = iommufd_io(iommufd::IOMMUFD_CMD_IOAS_MAP);
/// `IOMMU_IOAS_IOVA_RANGES`.
const IOAS_IOVA_RANGES: u32 = iommufd_io(iommufd::IOMMUFD_CMD_IOAS_IOVA_RANGES);

/// Most bytes that an answer may ask for: far more than any kernel fills, far less than hurts.
const MOST_INFO: usize = 1 << 20;
/// Most IOVA ranges that are asked for; hosts have a handful.
const MOST_RANGES: u32 = 1 << 16;

/// An argument of fixed size whose first word is that size.
///
/// # Safety
/// [`Self::REQUEST`] makes the kernel read and write at most the bytes that the first word says, every bit pattern of which
/// is valid, and nothing behind any address in them.
pub(super) unsafe trait Argument {
    /// The request that takes it.
    const REQUEST: u32;
    /// `argsz` or `size`.
    fn size_field(&mut self) -> &mut u32;
}

macro_rules! argument {
    ($type:ty, $field:ident, $request:expr) => {
        // SAFETY: the structure is plain integers, and the request is the one that its header documents for it.
        unsafe impl Argument for $type {
            const REQUEST: u32 = $request;
            fn size_field(&mut self) -> &mut u32 {
                &mut self.$field
            }
        }
    };
}

argument!(vfio::vfio_group_status, argsz, vfio_io(3));
argument!(vfio::vfio_device_info, argsz, vfio_io(7));
argument!(vfio::vfio_irq_info, argsz, vfio_io(9));
argument!(vfio::vfio_device_attach_iommufd_pt, argsz, vfio_io(19));
argument!(vfio::vfio_iommu_type1_dma_unmap, argsz, vfio_io(14));
argument!(
    iommufd::iommu_ioas_alloc,
    size,
    iommufd_io(iommufd::IOMMUFD_CMD_IOAS_ALLOC)
);
argument!(
    iommufd::iommu_ioas_unmap,
    size,
    iommufd_io(iommufd::IOMMUFD_CMD_IOAS_UNMAP)
);
argument!(
    iommufd::iommu_destroy,
    size,
    iommufd_io(iommufd::IOMMUFD_CMD_DESTROY)
);

/// The argument of `VFIO_DEVICE_BIND_IOMMUFD` as it was first released, without the token that later kernels take: they
/// treat a shorter structure as one without.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct BindIommufd {
    argsz: u32,
    flags: u32,
    iommufd: c_int,
    out_devid: u32,
}

impl BindIommufd {
    pub(super) fn to(iommufd: impl AsFd) -> Self {
        Self {
            iommufd: iommufd.as_fd().as_raw_fd(),
            ..Self::default()
        }
    }
}

argument!(BindIommufd, argsz, vfio_io(18));

/// Makes the call of `argument`'s type.
pub(super) fn exchange<T: Argument>(fd: impl AsFd, argument: &mut T) -> Result<c_int, Errno> {
    *argument.size_field() = size_of::<T>() as u32;
    // SAFETY: the kernel stays within the structure, by the contract of `Argument` and the size just written.
    unsafe { call(fd, T::REQUEST, std::ptr::from_mut(argument) as c_ulong) }
}

/// `VFIO_GET_API_VERSION`.
pub(super) fn api_version(container: impl AsFd) -> Result<c_int, Errno> {
    // SAFETY: the request takes no argument.
    unsafe { call(container, GET_API_VERSION, 0) }
}

/// `VFIO_CHECK_EXTENSION`.
pub(super) fn has_extension(container: impl AsFd, extension: u32) -> Result<bool, Errno> {
    // SAFETY: the argument is a number.
    let answer = unsafe { call(container, CHECK_EXTENSION, c_ulong::from(extension)) }?;
    Ok(answer > 0)
}

/// `VFIO_SET_IOMMU`.
pub(super) fn set_iommu(container: impl AsFd, kind: u32) -> Result<(), Errno> {
    // SAFETY: the argument is a number.
    unsafe { call(container, SET_IOMMU, c_ulong::from(kind)) }?;
    Ok(())
}

/// `VFIO_GROUP_SET_CONTAINER`.
pub(super) fn set_container(group: impl AsFd, container: impl AsFd) -> Result<(), Errno> {
    let number: c_int = container.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one int, which lives until the call is over.
    unsafe { call(group, GROUP_SET_CONTAINER, &raw const number as c_ulong) }?;
    Ok(())
}

/// `VFIO_GROUP_GET_DEVICE_FD`.
pub(super) fn device_fd(group: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the kernel reads a string that ends in a zero byte.
    let fd = unsafe { call(group, GROUP_GET_DEVICE_FD, name.as_ptr() as c_ulong) }?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `VFIO_DEVICE_RESET`.
pub(super) fn reset(device: impl AsFd) -> Result<(), Errno> {
    // SAFETY: the request takes no argument.
    unsafe { call(device, DEVICE_RESET, 0) }?;
    Ok(())
}

/// An info request whose answer has capabilities behind a structure of `fixed` bytes; `index` is the third word for requests
/// about one region.
pub(super) fn info(fd: impl AsFd, request: InfoRequest, index: Option<u32>) -> Result<Info, Errno> {
    let (number, fixed) = request.parts();
    let mut size = fixed;
    // The answer may have grown between two calls, but not for ever.
    for _ in 0..4 {
        let mut buffer = vec![0u64; size.div_ceil(8)];
        let room = size_of_val(buffer.as_slice());
        let words: &mut [u64] = &mut buffer;
        words[0] = u64::from_ne_bytes(pair(room as u32, 0));
        if let Some(index) = index {
            words[1] = u64::from_ne_bytes(pair(index, 0));
        }
        // SAFETY: the first word says how long the buffer is, and the kernel stays within it.
        let result = unsafe { call(&fd, number, words.as_mut_ptr() as c_ulong) };
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let answer = Info::new(bytes);
        let wanted = match (result, request) {
            // The count is filled in, and the entries are not.
            (Err(Errno::ENOSPC), InfoRequest::HotReset) => {
                let count = answer.u32(8).map_err(|_| Errno::EPROTO)? as usize;
                count
                    .checked_mul(size_of::<vfio::vfio_pci_dependent_device>())
                    .and_then(|bytes| bytes.checked_add(fixed))
                    .ok_or(Errno::EOVERFLOW)?
            }
            (Err(errno), _) => return Err(errno),
            (Ok(_), InfoRequest::HotReset) => return Ok(answer),
            (Ok(_), _) => answer.u32(0).map_err(|_| Errno::EPROTO)? as usize,
        };
        if wanted <= room && result.is_ok() {
            return Ok(answer);
        }
        if wanted > MOST_INFO {
            return Err(Errno::EOVERFLOW);
        }
        size = wanted.max(room + 8);
    }
    Err(Errno::EAGAIN)
}

/// Requests whose answer is as long as the kernel needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum InfoRequest {
    /// `VFIO_DEVICE_GET_REGION_INFO`.
    Region,
    /// `VFIO_IOMMU_GET_INFO`.
    Type1,
    /// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`.
    HotReset,
}

impl InfoRequest {
    const fn parts(self) -> (u32, usize) {
        match self {
            Self::Region => (vfio_io(8), size_of::<vfio::vfio_region_info>()),
            Self::Type1 => (vfio_io(12), size_of::<vfio::vfio_iommu_type1_info>()),
            Self::HotReset => (vfio_io(12), size_of::<vfio::vfio_pci_hot_reset_info>()),
        }
    }
}

/// `VFIO_DEVICE_SET_IRQS`. Gives what the kernel returned: more than 0 is how many vectors it could have had.
pub(super) fn set_irqs(
    device: impl AsFd,
    [flags, index, start, count]: [u32; 4],
    eventfds: &[c_int],
) -> Result<c_int, Errno> {
    let mut words = vec![0, flags, index, start, count];
    if flags & vfio::VFIO_IRQ_SET_DATA_EVENTFD != 0 && eventfds.len() != count as usize {
        return Err(Errno::EINVAL);
    }
    words.extend(eventfds.iter().map(|fd| fd.cast_unsigned()));
    // SAFETY: the kernel reads as many bytes as the first word will say, and descriptors that are wrong are refused.
    unsafe { sized(device, DEVICE_SET_IRQS, &mut words) }
}

/// `VFIO_DEVICE_PCI_HOT_RESET`.
pub(super) fn hot_reset(device: impl AsFd, groups: &[c_int]) -> Result<(), Errno> {
    let count = u32::try_from(groups.len()).map_err(|_| Errno::EINVAL)?;
    let mut words = vec![0, 0, count];
    words.extend(groups.iter().map(|fd| fd.cast_unsigned()));
    // SAFETY: as for `set_irqs`.
    unsafe { sized(device, DEVICE_PCI_HOT_RESET, &mut words) }?;
    Ok(())
}

/// `VFIO_DEVICE_FEATURE`, for features that are probed or set.
pub(super) fn feature(device: impl AsFd, flags: u32, data: &[u32]) -> Result<(), Errno> {
    let mut words = vec![0, flags & !vfio::VFIO_DEVICE_FEATURE_GET];
    words.extend(data);
    // SAFETY: as for `set_irqs`; nothing is written, because nothing is got.
    unsafe { sized(device, DEVICE_FEATURE, &mut words) }?;
    Ok(())
}

/// `VFIO_IOMMU_MAP_DMA`, for reading and writing.
pub(super) fn map_type1(container: impl AsFd, range: &DmaRange<'_>) -> Result<(), Errno> {
    let mut map = vfio::vfio_iommu_type1_dma_map {
        argsz: size_of::<vfio::vfio_iommu_type1_dma_map>() as u32,
        flags: vfio::VFIO_DMA_MAP_FLAG_READ | vfio::VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: range.address as u64,
        iova: range.iova,
        size: range.size,
    };
    // SAFETY: the structure is as long as it says. The memory that devices may write from now on belongs to the range's maker,
    // which keeps it mapped and sees it as atomics only, until it has been unmapped.
    unsafe { call(container, IOMMU_MAP_DMA, &raw mut map as c_ulong) }?;
    Ok(())
}

/// `IOMMU_IOAS_MAP`, at the range's IOVA, for reading and writing.
pub(super) fn map_ioas(iommufd: impl AsFd, ioas: u32, range: &DmaRange<'_>) -> Result<(), Errno> {
    let mut map = iommufd::iommu_ioas_map {
        size: size_of::<iommufd::iommu_ioas_map>() as u32,
        flags: iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA
            | iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE
            | iommufd::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE,
        ioas_id: ioas,
        __reserved: 0,
        user_va: range.address as u64,
        length: range.size,
        iova: range.iova,
    };
    // SAFETY: as for `map_type1`.
    unsafe { call(iommufd, IOAS_MAP, &raw mut map as c_ulong) }?;
    Ok(())
}

/// `IOMMU_IOAS_IOVA_RANGES`: first and last address of each range, and the alignment that mappings need.
pub(super) fn iova_ranges(iommufd: impl AsFd, ioas: u32) -> Result<(Vec<(u64, u64)>, u64), Errno> {
    let mut room: u32 = 16;
    for _ in 0..4 {
        let mut ranges = vec![iommufd::iommu_iova_range::default(); room as usize];
        let mut query = iommufd::iommu_ioas_iova_ranges {
            size: size_of::<iommufd::iommu_ioas_iova_ranges>() as u32,
            ioas_id: ioas,
            num_iovas: room,
            __reserved: 0,
            allowed_iovas: ranges.as_mut_ptr() as u64,
            out_iova_alignment: 0,
        };
        // SAFETY: the structure is as long as it says, and the array has as many entries as it says.
        match unsafe { call(&iommufd, IOAS_IOVA_RANGES, &raw mut query as c_ulong) } {
            Ok(_) if query.num_iovas <= room => {
                ranges.truncate(query.num_iovas as usize);
                let pairs = ranges.iter().map(|range| (range.start, range.last));
                return Ok((pairs.collect(), query.out_iova_alignment));
            }
            Ok(_) | Err(Errno::EMSGSIZE) if query.num_iovas <= MOST_RANGES => {
                room = query.num_iovas.max(room + 1);
            }
            Ok(_) | Err(Errno::EMSGSIZE) => return Err(Errno::EOVERFLOW),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EAGAIN)
}

/// Two words, in the order in which they are in memory.
fn pair(first: u32, second: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    bytes
}

/// Writes the length into the first word, and makes the call.
///
/// # Safety
/// The kernel stays within as many bytes as the first word says.
unsafe fn sized(fd: impl AsFd, request: u32, words: &mut [u32]) -> Result<c_int, Errno> {
    words[0] = u32::try_from(size_of_val(words)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the first word is the length, and the caller says that it is kept to.
    unsafe { call(fd, request, words.as_mut_ptr() as c_ulong) }
}

/// # Safety
/// `argument` is what the request takes.
unsafe fn call(fd: impl AsFd, request: u32, argument: c_ulong) -> Result<c_int, Errno> {
    // SAFETY: the descriptor is open, and the caller answers for the argument.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request as _, argument) };
    Errno::result(result)
}
