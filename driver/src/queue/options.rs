//! How to make a queue.

use std::time::Duration;

use auk_asic::admin::Coalescing;

use super::WaitMode;
use crate::device::{Capabilities, Context, ContextId};
use crate::error::Error;

/// How to make a queue.
#[derive(Clone, Debug)]
pub struct QueueOptions {
    depth: u32,
    pub(super) context: ContextId,
    pub(super) coalescing: Coalescing,
    pub(super) wait_mode: WaitMode,
    pub(super) timeout: Option<Duration>,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            depth: 128,
            context: ContextId::owner(),
            coalescing: Coalescing::new(),
            wait_mode: WaitMode::default(),
            timeout: None,
        }
    }
}

impl QueueOptions {
    /// Most commands that can be in flight: a power of two from 2 to what the chip has; 128 unless told, or less where
    /// the chip has less.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// The context whose bounds the queue's commands must keep; without bounds unless told.
    #[must_use]
    pub fn context(mut self, context: &Context) -> Self {
        self.context = context.id().clone();
        self
    }

    /// When an interrupt that is waited for fires: after `count` completions, or `microseconds` after the first of them;
    /// at once unless told.
    #[must_use]
    pub fn coalescing(mut self, count: u32, microseconds: u32) -> Self {
        self.coalescing = Coalescing::new()
            .with_count(count)
            .with_microseconds(microseconds);
        self
    }

    /// How waits wait; by polling unless told. [`IoQueue::set_wait_mode`](super::IoQueue::set_wait_mode) changes it later.
    #[must_use]
    pub fn wait_mode(mut self, mode: WaitMode) -> Self {
        self.wait_mode = mode;
        self
    }

    /// How long a command may take by [`IoQueue::execute`](super::IoQueue::execute) and [`IoQueue::finish`](super::IoQueue::finish);
    /// what the chip advertises for any one command ([`Timeouts::command`](crate::device::Timeouts::command)) unless told.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(super) fn depth_log2(&self, capabilities: &Capabilities) -> Result<u8, Error> {
        let most = capabilities.max_depth();
        let depth = if self.depth == Self::default().depth {
            self.depth.min(most)
        } else {
            self.depth
        };
        if depth < 2 || depth > most || !depth.is_power_of_two() {
            return Err(Error::Invalid {
                what: "a queue's depth",
                found: depth.to_string(),
                expected: format!("a power of two from 2 to {most}"),
            });
        }
        Ok(depth.trailing_zeros() as u8)
    }
}
