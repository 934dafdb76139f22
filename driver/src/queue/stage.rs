//! Plain bytes to and from device memory, through a buffer on the way.

use super::{Command, IoQueue};
use crate::deadline::Deadline;
use crate::device::DeviceMemory;
use crate::error::Error;

/// Bytes that go through the buffer at a time.
const PIECE: usize = 1 << 20;

impl IoQueue {
    /// Copies `data` to device memory, from `offset` on. For what is copied often, a buffer of one's own and
    /// [`Command::copy`] save a copy.
    ///
    /// # Errors
    /// As [`IoQueue::run`].
    pub fn upload(
        &mut self,
        memory: &DeviceMemory,
        offset: u64,
        data: &[u8],
        deadline: impl Into<Deadline>,
    ) -> Result<(), Error> {
        let deadline = deadline.into();
        let buffer = self.stage(data.len())?;
        let mut at = offset;
        for piece in data.chunks(buffer.len()) {
            buffer.write(0, piece)?;
            let command = Command::copy((memory, at), &buffer, piece.len() as u64);
            self.run(&command, deadline)?;
            at = at.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    /// Copies device memory to `data`, from `offset` on.
    ///
    /// # Errors
    /// As [`IoQueue::run`].
    pub fn download(
        &mut self,
        memory: &DeviceMemory,
        offset: u64,
        data: &mut [u8],
        deadline: impl Into<Deadline>,
    ) -> Result<(), Error> {
        let deadline = deadline.into();
        let buffer = self.stage(data.len())?;
        let mut at = offset;
        for piece in data.chunks_mut(buffer.len()) {
            let command = Command::copy(&buffer, (memory, at), piece.len() as u64);
            self.run(&command, deadline)?;
            buffer.read(0, piece)?;
            at = at.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    fn stage(&self, length: usize) -> Result<crate::dma::DmaBuffer, Error> {
        let most = usize::try_from(self.inner.capabilities.max_transfer()).unwrap_or(PIECE);
        Ok(self.inner.space.alloc(length.clamp(1, PIECE.min(most)))?)
    }
}
