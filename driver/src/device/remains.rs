//! What commands keep alive, and what is left of a queue that nobody has seen end.

use std::sync::Arc;

use super::memory::Allocation;
use super::program::Loaded;
use crate::dma::DmaBuffer;

/// What a command keeps alive.
#[derive(Clone, Debug)]
pub(crate) enum Hold {
    /// Host memory.
    Host(DmaBuffer),
    /// Device memory.
    Local { _memory: Arc<Allocation> },
    /// A program.
    Program { _program: Arc<Loaded> },
}

impl From<DmaBuffer> for Hold {
    fn from(buffer: DmaBuffer) -> Self {
        Self::Host(buffer)
    }
}

/// What the chip may still write, and what the commands of the queue name. Nothing in it keeps the device open.
#[derive(Debug)]
pub(crate) struct Remains {
    rings: DmaBuffer,
    holds: Vec<Hold>,
}

impl Remains {
    pub(super) fn new(rings: DmaBuffer, holds: Vec<Hold>) -> Self {
        Self { rings, holds }
    }

    /// The chip will never be proven to be done with it: nobody else gets the memory.
    pub(super) fn abandon(&self) {
        self.rings.abandon();
        for hold in &self.holds {
            if let Hold::Host(buffer) = hold {
                buffer.abandon();
            }
        }
    }
}
