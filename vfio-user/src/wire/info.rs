//! DEVICE_GET_INFO, DEVICE_GET_REGION_INFO with its capabilities, DEVICE_GET_IRQ_INFO.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Violation, check_argsz, fixed};
use crate::model::{DeviceInfo, IrqInfo, MmapArea};

/// `VFIO_DEVICE_FLAGS_RESET`
const DEVICE_RESET: u32 = 1 << 0;
/// `VFIO_DEVICE_FLAGS_PCI`
const DEVICE_PCI: u32 = 1 << 1;

/// `VFIO_REGION_INFO_FLAG_READ`
const REGION_READ: u32 = 1 << 0;
/// `VFIO_REGION_INFO_FLAG_WRITE`
const REGION_WRITE: u32 = 1 << 1;
/// `VFIO_REGION_INFO_FLAG_MMAP`
const REGION_MMAP: u32 = 1 << 2;
/// `VFIO_REGION_INFO_FLAG_CAPS`
const REGION_CAPS: u32 = 1 << 3;

/// `VFIO_IRQ_INFO_EVENTFD`
const IRQ_EVENTFD: u32 = 1 << 0;
/// `VFIO_IRQ_INFO_MASKABLE`
const IRQ_MASKABLE: u32 = 1 << 1;
/// `VFIO_IRQ_INFO_AUTOMASKED`
const IRQ_AUTOMASKED: u32 = 1 << 2;
/// `VFIO_IRQ_INFO_NORESIZE`
const IRQ_NORESIZE: u32 = 1 << 3;

/// `VFIO_REGION_INFO_CAP_SPARSE_MMAP`
const CAP_SPARSE_MMAP: u16 = 1;
const CAP_SPARSE_MMAP_VERSION: u16 = 1;

/// Size of [`RegionInfoReply`], after which the capabilities come, in bytes.
pub const REGION_INFO_SIZE: usize = size_of::<RegionInfoReply>();

/// What all three commands ask with: how much reply there is room for, and about which index. The reply's
/// own fields may follow; they mean nothing in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoQuery {
    /// Bytes of reply payload the sender has room for.
    pub argsz: u32,
    /// Which region or interrupt index; 0 in DEVICE_GET_INFO.
    pub index: u32,
}

impl InfoQuery {
    /// Reads the command whose reply is an `R`.
    ///
    /// # Errors
    /// A [`Violation`] when the payload or `argsz` does not cover an `R`.
    pub fn parse<R: FromBytes>(payload: &[u8]) -> Result<Self, Violation> {
        if payload.len() < size_of::<R>() {
            return Err(Violation::Short {
                found: payload.len(),
                needed: size_of::<R>(),
            });
        }
        let [argsz, _flags, index]: [u32; 3] = fixed(payload)?;
        check_argsz(argsz, size_of::<R>())?;
        Ok(Self { argsz, index })
    }
}

/// Payload of DEVICE_GET_INFO and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceInfoReply {
    argsz: u32,
    flags: u32,
    num_regions: u32,
    num_irqs: u32,
}

impl DeviceInfoReply {
    /// The query: everything but `argsz` is 0.
    pub fn query() -> Self {
        Self {
            argsz: size_of::<Self>() as u32,
            flags: 0,
            num_regions: 0,
            num_irqs: 0,
        }
    }

    /// The reply that says `info`.
    pub fn new(info: &DeviceInfo) -> Self {
        Self {
            argsz: size_of::<Self>() as u32,
            flags: bit(info.resettable, DEVICE_RESET) | bit(info.pci, DEVICE_PCI),
            num_regions: info.regions,
            num_irqs: info.irqs,
        }
    }

    /// Reads a reply.
    ///
    /// # Errors
    /// A [`Violation`] when it is cut short.
    pub fn parse(payload: &[u8]) -> Result<DeviceInfo, Violation> {
        let reply: Self = fixed(payload)?;
        Ok(DeviceInfo {
            resettable: reply.flags & DEVICE_RESET != 0,
            pci: reply.flags & DEVICE_PCI != 0,
            regions: reply.num_regions,
            irqs: reply.num_irqs,
        })
    }
}

/// Payload of DEVICE_GET_REGION_INFO and of its reply, before the capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionInfoReply {
    /// Bytes of the full reply, capabilities included; more than asked for means: ask again.
    pub argsz: u32,
    flags: u32,
    /// Which region.
    pub index: u32,
    cap_offset: u32,
    /// Bytes of the region.
    pub size: u64,
    /// Where in the descriptor the region begins.
    pub offset: u64,
}

impl RegionInfoReply {
    /// The query for a region, with room for `argsz` bytes.
    pub fn query(index: u32, argsz: u32) -> Self {
        Self {
            argsz,
            flags: 0,
            index,
            cap_offset: 0,
            size: 0,
            offset: 0,
        }
    }

    /// The reply about a region; `caps` bytes of capabilities follow it.
    pub fn new(
        index: u32,
        size: u64,
        readable: bool,
        writable: bool,
        mmap: Option<u64>,
        caps: usize,
    ) -> Self {
        let flags = bit(readable, REGION_READ)
            | bit(writable, REGION_WRITE)
            | bit(mmap.is_some(), REGION_MMAP)
            | bit(caps > 0, REGION_CAPS);
        Self {
            argsz: (REGION_INFO_SIZE + caps) as u32,
            flags,
            index,
            cap_offset: if caps > 0 { REGION_INFO_SIZE as u32 } else { 0 },
            size,
            offset: mmap.unwrap_or(0),
        }
    }

    /// Reads the reply about region `index`.
    ///
    /// # Errors
    /// A [`Violation`] when it is cut short or about another region.
    pub fn parse(payload: &[u8], index: u32) -> Result<Self, Violation> {
        let reply: Self = fixed(payload)?;
        check_argsz(reply.argsz, REGION_INFO_SIZE)?;
        if reply.index != index {
            return Err(Violation::Field {
                field: "index",
                found: reply.index.into(),
                rule: "expected the region that was asked for",
            });
        }
        Ok(reply)
    }

    /// REGION_READ is allowed.
    pub fn readable(&self) -> bool {
        self.flags & REGION_READ != 0
    }

    /// REGION_WRITE is allowed.
    pub fn writable(&self) -> bool {
        self.flags & REGION_WRITE != 0
    }

    /// The region, or parts of it, can be mapped.
    pub fn mappable(&self) -> bool {
        self.flags & REGION_MMAP != 0
    }

    /// Where the capabilities begin, from the beginning of this structure.
    pub fn caps(&self) -> Option<u32> {
        (self.flags & REGION_CAPS != 0 && self.cap_offset != 0).then_some(self.cap_offset)
    }
}

/// Payload of DEVICE_GET_IRQ_INFO and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqInfoReply {
    argsz: u32,
    flags: u32,
    index: u32,
    count: u32,
}

impl IrqInfoReply {
    /// The query for an interrupt index.
    pub fn query(index: u32) -> Self {
        Self {
            argsz: size_of::<Self>() as u32,
            flags: 0,
            index,
            count: 0,
        }
    }

    /// The reply that says `info`.
    pub fn new(index: u32, info: &IrqInfo) -> Self {
        let flags = bit(info.eventfd, IRQ_EVENTFD)
            | bit(info.maskable, IRQ_MASKABLE)
            | bit(info.automasked, IRQ_AUTOMASKED)
            | bit(info.noresize, IRQ_NORESIZE);
        Self {
            argsz: size_of::<Self>() as u32,
            flags,
            index,
            count: info.count,
        }
    }

    /// Reads the reply about interrupt index `index`.
    ///
    /// # Errors
    /// A [`Violation`] when it is cut short or about another index.
    pub fn parse(payload: &[u8], index: u32) -> Result<IrqInfo, Violation> {
        let reply: Self = fixed(payload)?;
        if reply.index != index {
            return Err(Violation::Field {
                field: "index",
                found: reply.index.into(),
                rule: "expected the interrupt index that was asked for",
            });
        }
        Ok(IrqInfo {
            count: reply.count,
            eventfd: reply.flags & IRQ_EVENTFD != 0,
            maskable: reply.flags & IRQ_MASKABLE != 0,
            automasked: reply.flags & IRQ_AUTOMASKED != 0,
            noresize: reply.flags & IRQ_NORESIZE != 0,
        })
    }
}

/// `struct vfio_info_cap_header`
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CapHeader {
    id: u16,
    version: u16,
    next: u32,
}

/// `struct vfio_region_info_cap_sparse_mmap`, before the areas.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SparseMmapCap {
    header: CapHeader,
    nr_areas: u32,
    reserved: u32,
}

/// Appends the sparse-mmap capability for `areas`; none for none.
pub fn write_region_caps(areas: &[MmapArea], out: &mut Vec<u8>) {
    if areas.is_empty() {
        return;
    }
    let cap = SparseMmapCap {
        header: CapHeader {
            id: CAP_SPARSE_MMAP,
            version: CAP_SPARSE_MMAP_VERSION,
            next: 0,
        },
        nr_areas: areas.len() as u32,
        reserved: 0,
    };
    out.extend_from_slice(cap.as_bytes());
    for area in areas {
        out.extend_from_slice(area.offset.as_bytes());
        out.extend_from_slice(area.size.as_bytes());
    }
}

/// Walks the capabilities of a region info reply and collects the areas that can be mapped; `None` when
/// there is no sparse-mmap capability. `payload` is the whole reply, from its region info on.
///
/// # Errors
/// A [`Violation`] for a list that leaves the payload or goes back, and for areas that leave the region or overlap.
pub fn parse_region_caps(
    payload: &[u8],
    info: &RegionInfoReply,
) -> Result<Option<Vec<MmapArea>>, Violation> {
    let mut areas = None;
    let mut next = info.caps().unwrap_or(0);
    let mut behind = REGION_INFO_SIZE as u32;
    while next != 0 {
        let offset = next;
        let wrong = |what| Violation::RegionCapability { offset, what };
        if offset < behind {
            return Err(wrong("the list overlaps what came before it"));
        }
        let cap = payload
            .get(offset as usize..)
            .ok_or(wrong("outside the reply"))?;
        let header: CapHeader = fixed(cap).map_err(|_| wrong("cut short"))?;
        if header.id == CAP_SPARSE_MMAP {
            if areas.is_some() {
                return Err(wrong("a second sparse-mmap capability"));
            }
            areas = Some(sparse_areas(cap, info.size).map_err(wrong)?);
        }
        next = header.next;
        behind = offset.saturating_add(size_of::<CapHeader>() as u32);
    }
    Ok(areas)
}

fn sparse_areas(cap: &[u8], region_size: u64) -> Result<Vec<MmapArea>, &'static str> {
    let (head, mut rest) = SparseMmapCap::read_from_prefix(cap).map_err(|_| "cut short")?;
    if rest.len() / 16 < head.nr_areas as usize {
        return Err("more areas announced than there are");
    }
    let mut areas = Vec::with_capacity(head.nr_areas as usize);
    for _ in 0..head.nr_areas {
        let ([offset, size], behind) =
            <[u64; 2]>::read_from_prefix(rest).map_err(|_| "cut short")?;
        rest = behind;
        if size == 0 || offset.checked_add(size).is_none_or(|end| end > region_size) {
            return Err("an area is empty or leaves the region");
        }
        areas.push(MmapArea { offset, size });
    }
    let mut sorted = areas.clone();
    sorted.sort_unstable_by_key(|area| area.offset);
    if sorted
        .windows(2)
        .any(|pair| pair[0].offset + pair[0].size > pair[1].offset)
    {
        return Err("two areas overlap");
    }
    Ok(areas)
}

fn bit(set: bool, bit: u32) -> u32 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply_with(areas: &[MmapArea], size: u64) -> Vec<u8> {
        let mut caps = Vec::new();
        write_region_caps(areas, &mut caps);
        let info = RegionInfoReply::new(3, size, true, true, Some(0), caps.len());
        [info.as_bytes(), &caps].concat()
    }

    fn parse(payload: &[u8]) -> Result<Option<Vec<MmapArea>>, Violation> {
        parse_region_caps(payload, &RegionInfoReply::parse(payload, 3)?)
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_info_or_a_violation(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            let _ = InfoQuery::parse::<RegionInfoReply>(&bytes);
            let _ = DeviceInfoReply::parse(&bytes);
            let _ = IrqInfoReply::parse(&bytes, 0);
            let _ = parse(&bytes);
        }

        #[test]
        fn any_capability_list_is_walked_to_an_end(
            flags: u32, cap_offset in 0_u32..160, caps in prop::collection::vec(0_u8..64, 0..128)
        ) {
            let info = RegionInfoReply { flags, cap_offset, ..RegionInfoReply::new(3, 1 << 20, true, true, None, 0) };
            let payload = [info.as_bytes(), &caps].concat();
            if let Ok(Some(areas)) = parse(&payload) {
                prop_assert!(areas.iter().all(|area| area.offset + area.size <= info.size));
            }
        }

        #[test]
        fn areas_survive_the_wire(sizes in prop::collection::vec(1_u64..100, 1..20)) {
            let mut end = 0;
            let areas: Vec<_> = sizes.iter().map(|&size| {
                let area = MmapArea { offset: end, size };
                end += size;
                area
            }).collect();
            prop_assert_eq!(parse(&reply_with(&areas, end)), Ok(Some(areas)));
        }

        #[test]
        fn infos_survive_the_wire(resettable: bool, pci: bool, regions: u32, count: u32, maskable: bool) {
            let info = DeviceInfo { resettable, pci, regions, irqs: count };
            prop_assert_eq!(DeviceInfoReply::parse(DeviceInfoReply::new(&info).as_bytes()), Ok(info));
            let info = IrqInfo { count, eventfd: pci, maskable, automasked: resettable, noresize: pci };
            prop_assert_eq!(IrqInfoReply::parse(IrqInfoReply::new(9, &info).as_bytes(), 9), Ok(info));
        }
    }

    #[test]
    fn areas_that_leave_the_region_or_overlap_are_refused() {
        let area = |offset, size| MmapArea { offset, size };
        for areas in [
            vec![area(0, 0x2001)],
            vec![area(u64::MAX, 2)],
            vec![area(0, 0)],
            vec![area(0x1000, 0x1000), area(0, 0x1001)],
        ] {
            assert!(matches!(
                parse(&reply_with(&areas, 0x2000)),
                Err(Violation::RegionCapability { .. })
            ));
        }
    }

    #[test]
    fn more_areas_than_the_payload_holds_are_refused() {
        let mut payload = reply_with(&[MmapArea { offset: 0, size: 1 }], 0x2000);
        payload[REGION_INFO_SIZE + 8..][..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(matches!(
            parse(&payload),
            Err(Violation::RegionCapability { .. })
        ));
    }

    #[test]
    fn a_list_that_points_at_itself_is_refused() {
        let mut payload = reply_with(&[MmapArea { offset: 0, size: 1 }], 0x2000);
        payload[REGION_INFO_SIZE + 4..][..4]
            .copy_from_slice(&(REGION_INFO_SIZE as u32).to_ne_bytes());
        assert!(matches!(
            parse(&payload),
            Err(Violation::RegionCapability { .. })
        ));
    }

    #[test]
    fn unknown_capabilities_are_passed_over() {
        let mut payload = reply_with(&[MmapArea { offset: 0, size: 1 }], 0x2000);
        payload[REGION_INFO_SIZE..][..2].copy_from_slice(&77_u16.to_ne_bytes());
        assert_eq!(parse(&payload), Ok(None));
    }
}
