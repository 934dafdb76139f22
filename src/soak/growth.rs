//! What the process has of memory and descriptors, for a soak that must not grow.

use std::fs;

use anyhow::Context;
use auk_driver::DmaSpace;
use serde::Serialize;

/// A look at the process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Footprint {
    /// Anonymous memory in kB: `RssAnon` of `/proc/self/status`, which leaves out the memory of simulated chips.
    pub(super) memory_kb: u64,
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// Memory for DMA in kB that buffers have. Of what was given up only the addresses are left.
    pub(super) dma_kb: u64,
}

impl Footprint {
    /// The greater of both, each by itself.
    pub(super) fn most(self, other: Self) -> Self {
        Self {
            memory_kb: self.memory_kb.max(other.memory_kb),
            descriptors: self.descriptors.max(other.descriptors),
            dma_kb: self.dma_kb.max(other.dma_kb),
        }
    }

    pub(super) fn now(space: &DmaSpace) -> anyhow::Result<Self> {
        let path = "/proc/self/status";
        let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        let memory_kb = text
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .with_context(|| format!("{path} has no RssAnon"))?;
        let path = "/proc/self/fd";
        let entries = fs::read_dir(path).with_context(|| format!("reading {path}"))?;
        Ok(Self {
            memory_kb,
            descriptors: entries.count() as u64,
            dma_kb: space.usage().used >> 10,
        })
    }
}
