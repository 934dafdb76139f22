//! Which numbers of I/O queues are free.

use std::sync::Arc;

use super::inner::{Inner, Life, lock};
use crate::error::Error;

/// The right to use one I/O queue's number; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct QueueNumber {
    inner: Arc<Inner>,
    number: u16,
    /// The chip may still have a queue of that number, made in that life.
    kept: Option<Life>,
}

impl QueueNumber {
    pub(crate) const fn get(&self) -> u16 {
        self.number
    }

    /// Lets nobody have the number before a reset has ended that life.
    pub(crate) const fn keep_until_reset(&mut self, life: Life) {
        self.kept = Some(life);
    }
}

impl Drop for QueueNumber {
    fn drop(&mut self) {
        let mut queues = lock(&self.inner.queues);
        queues.taken &= !(1 << self.number);
        // As in `Inner::keep_until_reset`.
        if self.kept.is_some_and(|life| !self.inner.has_outlived(life)) {
            queues.kept |= 1 << self.number;
        }
    }
}

/// Which I/O queue numbers are in use: bit n is queue n.
#[derive(Debug, Default)]
pub(super) struct QueueNumbers {
    /// By a handle.
    taken: u64,
    /// By the chip, until its next reset.
    kept: u64,
}

impl QueueNumbers {
    /// The chip has none any more.
    pub(super) const fn end_of_life(&mut self) {
        self.kept = 0;
    }
}

impl Inner {
    /// A free queue number.
    pub(crate) fn take_queue(self: &Arc<Self>) -> Result<QueueNumber, Error> {
        let mut queues = lock(&self.queues);
        let count = self.capabilities.io_queues();
        let number = (1..=count)
            .find(|number| (queues.taken | queues.kept) & 1 << number == 0)
            .ok_or_else(|| Error::NoQueue {
                device: Arc::clone(&self.name),
                queues: count,
            })?;
        queues.taken |= 1 << number;
        Ok(QueueNumber {
            inner: Arc::clone(self),
            number,
            kept: None,
        })
    }
}
