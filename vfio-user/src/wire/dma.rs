//! DMA_MAP and DMA_UNMAP.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Violation, check_argsz, exactly, fixed};
use crate::model::Protection;

const MAP_READ: u32 = 1 << 0;
const MAP_WRITE: u32 = 1 << 1;

/// `VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP`
const UNMAP_GET_DIRTY_BITMAP: u32 = 1 << 0;
/// `VFIO_DMA_UNMAP_FLAG_ALL`
const UNMAP_ALL: u32 = 1 << 1;

/// Payload of DMA_MAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaMapRequest {
    argsz: u32,
    flags: u32,
    /// Where in the descriptor the range begins, in bytes; 0 without descriptor.
    pub offset: u64,
    /// First address of the range.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

impl DmaMapRequest {
    /// The request to map `size` bytes at `address`.
    pub fn new(address: u64, size: u64, protection: Protection, offset: u64) -> Self {
        let read = if protection.read { MAP_READ } else { 0 };
        let write = if protection.write { MAP_WRITE } else { 0 };
        Self {
            argsz: size_of::<Self>() as u32,
            flags: read | write,
            offset,
            address,
            size,
        }
    }

    /// Reads a payload. The range is checked where it is known what else is mapped.
    ///
    /// # Errors
    /// A [`Violation`] for a wrong length, unknown flags, or a range nobody may access.
    pub fn parse(payload: &[u8]) -> Result<Self, Violation> {
        let request: Self = exactly(payload)?;
        check_argsz(request.argsz, size_of::<Self>())?;
        if request.flags & !(MAP_READ | MAP_WRITE) != 0 || request.flags == 0 {
            return Err(Violation::Field {
                field: "flags",
                found: request.flags.into(),
                rule: "expected readable (1), writeable (2) or both",
            });
        }
        Ok(request)
    }

    /// What the device may do in the range.
    pub fn protection(&self) -> Protection {
        Protection {
            read: self.flags & MAP_READ != 0,
            write: self.flags & MAP_WRITE != 0,
        }
    }
}

/// Payload of DMA_UNMAP, and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaUnmapRequest {
    argsz: u32,
    flags: u32,
    /// First address of the range.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

impl DmaUnmapRequest {
    /// The request to unmap `size` bytes at `address`.
    pub fn new(address: u64, size: u64) -> Self {
        Self {
            argsz: size_of::<Self>() as u32,
            flags: 0,
            address,
            size,
        }
    }

    /// The request to unmap all that is mapped.
    pub fn all() -> Self {
        Self {
            flags: UNMAP_ALL,
            ..Self::new(0, 0)
        }
    }

    /// Reads a payload; a dirty bitmap may follow.
    ///
    /// # Errors
    /// A [`Violation`] for a wrong length, unknown flags, or an empty or wrapping range.
    pub fn parse(payload: &[u8]) -> Result<Self, Violation> {
        let request: Self = fixed(payload)?;
        check_argsz(request.argsz, size_of::<Self>())?;
        if request.flags & !(UNMAP_ALL | UNMAP_GET_DIRTY_BITMAP) != 0 {
            return Err(Violation::Field {
                field: "flags",
                found: request.flags.into(),
                rule: "expected 0 or the bits for all (2) and for the dirty bitmap (1)",
            });
        }
        let wraps = request
            .size
            .checked_sub(1)
            .and_then(|last| request.address.checked_add(last))
            .is_none();
        if request.is_all() && (request.address, request.size) != (0, 0) {
            return Err(Violation::Field {
                field: "size",
                found: request.size,
                rule: "expected 0, and address 0, to unmap all",
            });
        }
        if !request.is_all() && wraps {
            return Err(Violation::Field {
                field: "size",
                found: request.size,
                rule: "expected at least 1, and the end of the range within 64 bits",
            });
        }
        Ok(request)
    }

    /// Whether all that is mapped is meant.
    pub fn is_all(&self) -> bool {
        self.flags & UNMAP_ALL != 0
    }

    /// Whether the dirty bitmap of the range is wanted.
    pub fn wants_dirty_bitmap(&self) -> bool {
        self.flags & UNMAP_GET_DIRTY_BITMAP != 0
    }

    /// Last address of the range; parsing has checked that there is one unless all is meant.
    pub fn last(&self) -> u64 {
        self.address.wrapping_add(self.size.wrapping_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_a_violation(bytes in prop::collection::vec(any::<u8>(), 0..48)) {
            let _ = DmaMapRequest::parse(&bytes);
            if let Ok(request) = DmaUnmapRequest::parse(&bytes) {
                prop_assert!(request.is_all() || request.last() >= request.address);
            }
        }

        #[test]
        fn requests_survive_the_wire(address: u64, size: u64, offset: u64, write: bool) {
            let protection = Protection { read: true, write };
            let map = DmaMapRequest::new(address, size, protection, offset);
            prop_assert_eq!(DmaMapRequest::parse(map.as_bytes()), Ok(map));
            prop_assert_eq!(map.protection(), protection);
            let size = 1 + size % (u64::MAX - address).max(1);
            let unmap = DmaUnmapRequest::new(address, size);
            prop_assert_eq!(DmaUnmapRequest::parse(unmap.as_bytes()), Ok(unmap));
        }
    }

    #[test]
    fn a_map_without_access_or_with_unknown_flags_is_refused() {
        for flags in [0_u32, 4, 7, 1 << 31] {
            let map = DmaMapRequest {
                flags,
                ..DmaMapRequest::new(0, 4096, Protection::READ, 0)
            };
            assert!(matches!(
                DmaMapRequest::parse(map.as_bytes()),
                Err(Violation::Field { field: "flags", .. })
            ));
        }
    }

    #[test]
    fn a_map_needs_its_exact_length_and_a_sane_argsz() {
        let map = DmaMapRequest::new(0, 4096, Protection::READ, 0);
        assert!(matches!(
            DmaMapRequest::parse(&map.as_bytes()[..31]),
            Err(Violation::Short { .. })
        ));
        let long = [map.as_bytes(), &[0]].concat();
        assert!(matches!(
            DmaMapRequest::parse(&long),
            Err(Violation::Long { .. })
        ));
        let map = DmaMapRequest { argsz: 31, ..map };
        assert!(matches!(
            DmaMapRequest::parse(map.as_bytes()),
            Err(Violation::Argsz { .. })
        ));
    }

    #[test]
    fn an_unmap_may_reach_the_very_end_but_not_beyond() {
        let end = DmaUnmapRequest::new(0x1000, 0_u64.wrapping_sub(0x1000));
        assert_eq!(
            DmaUnmapRequest::parse(end.as_bytes()).map(|request| request.last()),
            Ok(u64::MAX)
        );
        let beyond = DmaUnmapRequest::new(0x1000, 0_u64.wrapping_sub(0xfff));
        assert!(DmaUnmapRequest::parse(beyond.as_bytes()).is_err());
        assert!(DmaUnmapRequest::parse(DmaUnmapRequest::new(0, 0).as_bytes()).is_err());
        assert!(DmaUnmapRequest::parse(DmaUnmapRequest::all().as_bytes()).is_ok());
    }
}
