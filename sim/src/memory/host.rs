//! The client's memory that the chip may reach: the DMA table.

use std::sync::Arc;

use auk_vfio_user::Errno;
use auk_vfio_user::model::DmaMap;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::fstat;

use super::{Direction, Mapping, Span};

#[derive(Debug)]
struct Range {
    iova: u64,
    size: u64,
    read: bool,
    write: bool,
    /// `None` for memory that the client did not pass: the chip has no way to reach it.
    mapping: Option<Arc<Mapping>>,
}

/// Ranges by IOVA; they do not overlap.
#[derive(Debug, Default)]
pub(crate) struct HostMemory {
    ranges: Vec<Range>,
}

impl HostMemory {
    /// # Errors
    /// `EEXIST` where it overlaps another range; `EINVAL` when the descriptor is too short or its
    /// memory may be shrunk by its owner, which would kill whoever touches it; what `mmap` says.
    pub(crate) fn map(&mut self, map: DmaMap) -> Result<(), Errno> {
        let end = map.iova.checked_add(map.size).ok_or(Errno::EINVAL)?;
        let index = self.ranges.partition_point(|range| range.iova < map.iova);
        let overlaps_next = self.ranges.get(index).is_some_and(|next| next.iova < end);
        let overlaps_previous = index
            .checked_sub(1)
            .and_then(|previous| self.ranges.get(previous))
            .is_some_and(|previous| previous.iova + previous.size > map.iova);
        if overlaps_next || overlaps_previous {
            return Err(Errno::EEXIST);
        }
        let mapping = match &map.memory {
            Some(memory) => {
                check_backing(&memory.fd, memory.offset, map.size)?;
                Some(Arc::new(Mapping::new(
                    &memory.fd,
                    memory.offset,
                    map.size,
                    map.protection.write,
                )?))
            }
            None => None,
        };
        self.ranges.insert(
            index,
            Range {
                iova: map.iova,
                size: map.size,
                read: map.protection.read,
                write: map.protection.write,
                mapping,
            },
        );
        Ok(())
    }

    /// # Errors
    /// `ENOENT` when no range has exactly this place and size.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) -> Result<(), Errno> {
        let index = self
            .ranges
            .iter()
            .position(|range| range.iova == iova && range.size == size)
            .ok_or(Errno::ENOENT)?;
        self.ranges.remove(index);
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The first piece of `length` bytes at `iova` that lies in one mapping, or `None` when the
    /// chip may not go there in this direction.
    #[inline]
    pub(crate) fn span(&self, iova: u64, length: u64, direction: Direction) -> Option<Span<'_>> {
        let after = self.ranges.partition_point(|range| range.iova <= iova);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        let offset = iova - range.iova;
        if offset >= range.size || !range.allows(direction) {
            return None;
        }
        Some(Span {
            mapping: range.mapping.as_ref()?,
            offset,
            length: length.min(range.size - offset),
        })
    }

    /// Whether all of `length` bytes at `iova` can be reached in this direction.
    pub(crate) fn covers(&self, mut iova: u64, mut length: u64, direction: Direction) -> bool {
        if iova.checked_add(length).is_none() {
            return false;
        }
        while length > 0 {
            let Some(span) = self.span(iova, length, direction) else {
                return false;
            };
            iova += span.length;
            length -= span.length;
        }
        true
    }
}

impl Range {
    fn allows(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.read,
            Direction::Write => self.write,
            Direction::Both => self.read && self.write,
        }
    }
}

/// Whether touching these bytes of `fd` can never raise SIGBUS.
fn check_backing(fd: &std::os::fd::OwnedFd, offset: u64, size: u64) -> Result<(), Errno> {
    let end = offset.checked_add(size).ok_or(Errno::EINVAL)?;
    let length = u64::try_from(fstat(fd)?.st_size).map_err(|_| Errno::EINVAL)?;
    if end > length {
        tracing::warn!(
            length,
            end,
            "client passed DMA memory beyond the end of its file"
        );
        return Err(Errno::EINVAL);
    }
    // A descriptor that cannot be sealed (EINVAL) is memory of another kind, whose owner may cut it.
    let seals = SealFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GET_SEALS)?);
    if seals.contains(SealFlag::F_SEAL_SHRINK) {
        return Ok(());
    }
    if seals.contains(SealFlag::F_SEAL_SEAL) {
        tracing::warn!("client passed DMA memory that can be shrunk and not sealed");
        return Err(Errno::EINVAL);
    }
    fcntl(fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK))?;
    Ok(())
}
