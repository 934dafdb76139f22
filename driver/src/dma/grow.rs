//! More memory for a space: how much, of which pages, where, and what is said when something runs short.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use auk_asic::PAGE;
use nix::errno::Errno;

use super::arena::{self, Arena, GIGANTIC, LEAST, alignment};
use super::layout::Layout;
use super::memory::Memory;
use super::space::SpaceInner;
use super::{DmaError, HugePages, NumaPlacement, huge, limits, numa};

impl SpaceInner {
    /// Maps memory in which `length` bytes fit for every target.
    pub(super) fn grow(&self, layout: &mut Layout, length: u64) -> Result<(), DmaError> {
        let too_long = || DmaError::Length { length };
        let least = arena::arena_bytes(length).ok_or_else(too_long)?;
        let generous = arena::generous(least, self.pool().mapped);
        let sizes = [generous, least];
        let sizes = if generous == least {
            &sizes[1..]
        } else {
            &sizes[..]
        };
        // Ordinary pages only where not even the least can be of huge ones.
        let kinds: &[HugePages] = match self.options.huge {
            HugePages::Prefer => &[HugePages::Require, HugePages::Never],
            HugePages::Require => &[HugePages::Require],
            HugePages::Never => &[HugePages::Never],
        };
        let mut refused = None;
        for &kind in kinds {
            for &bytes in sizes {
                match self.grow_by(layout, bytes, kind) {
                    Ok(()) => return Ok(()),
                    Err(error) if error.is_want() => refused = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(refused.unwrap_or_else(too_long))
    }

    fn grow_by(&self, layout: &mut Layout, bytes: u64, kind: HugePages) -> Result<(), DmaError> {
        self.check_budget(layout)?;
        let iova = take_iova(layout, bytes, alignment(bytes))?;
        let arena = match self.memory(layout, bytes, kind) {
            Ok(memory) => Arc::new(Arena::new(iova, memory, true)),
            Err(error) => {
                layout.iova.give(iova, bytes, &(0..=u64::MAX));
                return Err(error);
            }
        };
        self.map(layout, &arena)?;
        self.pool().add(&arena);
        if arena.huge_bytes() == 0 {
            self.tell_ordinary(layout);
        }
        Ok(())
    }

    fn memory(&self, layout: &Layout, bytes: u64, kind: HugePages) -> Result<Memory, DmaError> {
        let nodes = match self.options.numa {
            NumaPlacement::NearChips => layout.nodes().into_iter().collect(),
            NumaPlacement::Node(node) => vec![node],
            NumaPlacement::Anywhere => Vec::new(),
        };
        let online = numa::online();
        // A simulated host may have more of them than this machine.
        let nodes: Vec<u32> = nodes
            .into_iter()
            .filter(|node| online.contains(node))
            .collect();
        if let (NumaPlacement::Node(node), []) = (self.options.numa, &*nodes)
            && !self.told.placement.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                node,
                ?online,
                "DMA memory is to be of a NUMA node that this machine does not have, and comes from any"
            );
        }
        let mut refused = Errno::ENOMEM;
        for page in kind.sizes(bytes) {
            match Memory::new(bytes, page, &nodes) {
                Ok((memory, placed)) => {
                    if let Some(errno) = placed {
                        self.tell_placement(errno, &nodes, online.len());
                    }
                    return Ok(memory);
                }
                Err(errno) => refused = errno,
            }
        }
        match (kind, refused) {
            (HugePages::Require, refused) if refused != Errno::EMFILE => {
                Err(DmaError::NoHugePages {
                    length: bytes,
                    source: refused.into(),
                    remedy: huge::remedy(),
                })
            }
            (_, refused) => Err(limits::refused(bytes, refused)),
        }
    }

    /// An error when no mapping is left, and a word in the log when few are.
    pub(super) fn check_budget(&self, layout: &Layout) -> Result<(), DmaError> {
        let left = layout.mappings_left().map_err(|source| DmaError::Bus {
            iova: 0,
            length: 0,
            source,
        })?;
        let Some(left) = left else {
            return Ok(());
        };
        let made = layout.made();
        if left == 0 {
            return Err(DmaError::NoMappings { made });
        }
        let all = made.saturating_add(left);
        if left > all / 8 {
            self.told.few_mappings.store(false, Ordering::Relaxed);
        } else if left <= all / 16 && !self.told.few_mappings.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                left,
                made,
                "few DMA mappings are left; allocate fewer and larger buffers, drop some, or raise the limit (dma_entry_limit of \
                 vfio_iommu_type1); DmaUsage::mappings_left counts them"
            );
        }
        Ok(())
    }

    /// Says once what ordinary pages cost, if they cost anything and were not asked for.
    pub(super) fn tell_ordinary(&self, layout: &Layout) {
        if self.options.huge != HugePages::Prefer
            || !layout.pins()
            || self.told.ordinary.load(Ordering::Relaxed)
        {
            return;
        }
        let bytes = layout.ordinary();
        if bytes == 0 || self.told.ordinary.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(
            bytes,
            "DMA memory is of ordinary pages, because too few huge ones are free: to map it takes {} entries of the IOMMU instead of {}, and pinning as many \
             pages; {}",
            bytes / PAGE as u64,
            bytes / LEAST,
            huge::remedy()
        );
    }

    /// Says once that memory is not placed near the chips, where that makes a difference.
    fn tell_placement(&self, errno: Errno, nodes: &[u32], online: usize) {
        if online < 2 || self.told.placement.swap(true, Ordering::Relaxed) {
            tracing::debug!(%errno, ?nodes, "DMA memory is not placed");
            return;
        }
        tracing::warn!(
            %errno,
            ?nodes,
            "DMA memory cannot be placed on the NUMA nodes of its chips, and comes from wherever the thread runs that first touches it: \
             allow mbind (containers forbid it without CAP_SYS_NICE), or run the job there (numactl --cpunodebind)"
        );
    }
}

/// IOVAs that all attached functions reach.
pub(super) fn take_iova(layout: &mut Layout, bytes: u64, align: u64) -> Result<u64, DmaError> {
    debug_assert!(align <= GIGANTIC);
    layout.iova.take(bytes, align).ok_or_else(|| {
        let (free, largest) = layout.iova.free_bytes();
        DmaError::NoIova {
            length: bytes,
            free,
            largest,
        }
    })
}
