//! The system calls that map memory for DMA, with nothing around them: the yardstick for the driver.
#![allow(unsafe_code, reason = "the yardstick is the bare ioctl")]

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use auk_driver::DmaBuffer;
use nix::errno::Errno;

/// `_IO(';', 100 + n)` of `<linux/vfio.h>`.
const fn request(n: u64) -> u64 {
    (b';' as u64) << 8 | (100 + n)
}
const SET_IOMMU: u64 = request(2);
const GROUP_SET_CONTAINER: u64 = request(4);
const GROUP_GET_DEVICE_FD: u64 = request(6);
const MAP_DMA: u64 = request(13);
const UNMAP_DMA: u64 = request(14);
/// `VFIO_TYPE1v2_IOMMU`.
const TYPE1V2: u64 = 3;
/// `VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE`.
const READ_WRITE: u32 = 3;

/// `struct vfio_iommu_type1_dma_map`.
#[repr(C)]
struct Map {
    argsz: u32,
    flags: u32,
    vaddr: u64,
    iova: u64,
    size: u64,
}

/// `struct vfio_iommu_type1_dma_unmap`.
#[repr(C)]
struct Unmap {
    argsz: u32,
    flags: u32,
    iova: u64,
    size: u64,
}

/// A function that is open, and its group in a container of type1v2.
pub(crate) struct Container {
    _function: OwnedFd,
    container: File,
    _group: File,
}

impl Container {
    pub(crate) fn of(function: &str, group: &str) -> Result<Self> {
        let open = |path: &str| {
            let opened = File::options().read(true).write(true).open(path);
            opened.with_context(|| format!("opening {path}"))
        };
        let container = open("/dev/vfio/vfio")?;
        let group = open(&format!("/dev/vfio/{group}"))?;
        let fd = container.as_raw_fd();
        // SAFETY: the request reads one int.
        unsafe { ioctl(&group, GROUP_SET_CONTAINER, &raw const fd as u64) }
            .context("VFIO_GROUP_SET_CONTAINER")?;
        // SAFETY: the argument is a number.
        unsafe { ioctl(&container, SET_IOMMU, TYPE1V2) }.context("VFIO_SET_IOMMU")?;
        let name = CString::new(function)?;
        // SAFETY: the request reads a string.
        let fd = unsafe { ioctl(&group, GROUP_GET_DEVICE_FD, name.as_ptr() as u64) }
            .context("VFIO_GROUP_GET_DEVICE_FD")?;
        Ok(Self {
            // SAFETY: the kernel has just made it, for us alone.
            _function: unsafe { OwnedFd::from_raw_fd(fd) },
            container,
            _group: group,
        })
    }

    /// How long the kernel takes to map the buffer at its IOVA. It is unmapped again.
    pub(crate) fn time_map(&self, buffer: &DmaBuffer) -> Result<Duration> {
        // SAFETY: the slice is made for its address alone, and nothing is read through it.
        let memory = unsafe { buffer.as_slice() };
        let (iova, size) = (buffer.iova(), memory.len() as u64);
        let map = Map {
            argsz: size_of::<Map>() as u32,
            flags: READ_WRITE,
            vaddr: memory.as_ptr() as u64,
            iova,
            size,
        };
        let started = Instant::now();
        // SAFETY: the structure is as long as it says; the function that is open may do no DMA, so that nobody writes the memory.
        unsafe { ioctl(&self.container, MAP_DMA, &raw const map as u64) }
            .context("VFIO_IOMMU_MAP_DMA")?;
        let took = started.elapsed();
        let mut unmap = Unmap {
            argsz: size_of::<Unmap>() as u32,
            flags: 0,
            iova,
            size,
        };
        // SAFETY: the structure is as long as it says.
        unsafe { ioctl(&self.container, UNMAP_DMA, &raw mut unmap as u64) }
            .context("VFIO_IOMMU_UNMAP_DMA")?;
        Ok(took)
    }
}

/// # Safety
/// `argument` is what the request takes.
unsafe fn ioctl(file: &File, request: u64, argument: u64) -> Result<i32> {
    // SAFETY: the file is open, and the caller answers for the argument.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, argument) };
    Ok(Errno::result(result)?)
}
