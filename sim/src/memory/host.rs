//! The client's memory that the chip may reach: the DMA table.

use std::time::Instant;

use auk_vfio_user::Errno;
use auk_vfio_user::dma::{DmaSpace, DmaView, Unmapping, Window};
use auk_vfio_user::model::DmaMap;

use super::Direction;

/// The client's mappings, and the one view of them. Whoever has the chip has the view as well, so the view shows every
/// change at once, and an unmap waits for nothing but what still holds the memory by mistake.
#[derive(Debug)]
pub(crate) struct HostMemory {
    space: DmaSpace,
    view: DmaView,
}

impl HostMemory {
    pub(crate) fn new() -> Self {
        let space = DmaSpace::new();
        let view = space.view();
        Self { space, view }
    }

    /// # Errors
    /// `EEXIST` where it overlaps what is mapped; `EINVAL` when the descriptor is too short, `EACCES`
    /// when its owner may shrink it, which would kill whoever touches it; what `mmap` says.
    pub(crate) fn map(&mut self, map: &DmaMap) -> Result<(), Errno> {
        self.space.map(map).map_err(|error| {
            tracing::warn!(%error, "cannot map what the client passed");
            error.errno()
        })?;
        self.view.refresh();
        Ok(())
    }

    /// What is returned tells whether anything else still holds the memory.
    ///
    /// # Errors
    /// `ENOENT` when nothing is mapped with exactly this place and size.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) -> Result<Unmapping, Errno> {
        let unmapping = self
            .space
            .unmap(iova, size)
            .map_err(|error| error.errno())?;
        self.view.refresh();
        Ok(unmapping)
    }

    /// Unmaps everything.
    pub(crate) fn clear(&mut self) {
        let unmapping = self.space.clear();
        self.view.refresh();
        if let Err(error) = unmapping.wait(Instant::now()) {
            tracing::error!(%error, "memory of a client that is gone stays mapped");
        }
    }

    /// The first piece of `length` bytes at `iova` that lies in one mapping, or `None` when the
    /// chip may not go there in this direction.
    #[inline]
    pub(crate) fn window(
        &self,
        iova: u64,
        length: u64,
        direction: Direction,
    ) -> Option<Window<'_>> {
        let mut window = None;
        for &access in direction.accesses() {
            window = Some(self.view.window(iova, length, access).ok()?);
        }
        window
    }

    /// Whether all of `length` bytes at `iova` can be reached in this direction.
    pub(crate) fn covers(&self, iova: u64, length: u64, direction: Direction) -> bool {
        direction.accesses().iter().all(|&access| {
            self.view
                .windows(iova, length, access)
                .all(|window| window.is_ok())
        })
    }

    /// Reads all of `into`; false when not all of it can be reached.
    #[must_use]
    pub(crate) fn read(&self, iova: u64, into: &mut [u8]) -> bool {
        self.view.read(iova, into).is_ok()
    }

    /// Writes all of `data`; false, and nothing is written, when not all of it can be reached.
    #[must_use]
    pub(crate) fn write(&self, iova: u64, data: &[u8]) -> bool {
        self.view.write(iova, data).is_ok()
    }
}
