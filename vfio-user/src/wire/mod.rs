//! Messages as bytes: what is sent, and what a peer may send.
//!
//! The layouts are those of the "vfio-user Protocol Specification" (`docs/interop/vfio-user.rst` in QEMU),
//! which takes its structures from `<linux/vfio.h>`. Everything is in the byte order of the host. Nothing
//! here does I/O; whatever a peer sends ends in a value or a [`Violation`].

mod access;
mod dma;
mod header;
mod info;
mod irq;
mod version;
mod violation;

pub use access::{DmaAccess, RegionAccess};
pub use dma::{DmaMapRequest, DmaUnmapRequest};
pub use header::{Command, HEADER_SIZE, Header};
pub use info::{
    DeviceInfoReply, InfoQuery, IrqInfoReply, REGION_INFO_SIZE, RegionInfoReply, parse_region_caps,
    write_region_caps,
};
pub use irq::{DataKind, IrqSetRequest};
pub use version::{Capabilities, VERSION_MAJOR, VERSION_MINOR, Version};
pub use violation::Violation;

use zerocopy::FromBytes;

/// Reads a `T` from the beginning of `payload`.
fn fixed<T: FromBytes>(payload: &[u8]) -> Result<T, Violation> {
    T::read_from_prefix(payload)
        .map(|(value, _)| value)
        .map_err(|_| Violation::Short {
            found: payload.len(),
            needed: size_of::<T>(),
        })
}

/// Reads a `T` from `payload`, which holds nothing else.
fn exactly<T: FromBytes>(payload: &[u8]) -> Result<T, Violation> {
    let value = fixed(payload)?;
    if payload.len() > size_of::<T>() {
        return Err(Violation::Long {
            found: payload.len(),
            expected: size_of::<T>(),
        });
    }
    Ok(value)
}

/// An `argsz` says how much of the structure its sender knows; less than the fixed part makes no sense.
fn check_argsz(argsz: u32, least: usize) -> Result<(), Violation> {
    if (argsz as usize) < least {
        return Err(Violation::Argsz {
            found: argsz,
            least,
        });
    }
    Ok(())
}
