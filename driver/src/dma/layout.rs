//! What is mapped where, and for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use auk_asic::PAGE;

use super::arena::{Arena, GIGANTIC, LEAST};
use super::ranges::{self, Ranges};
use super::register::Places;
use super::space::SpaceInner;
use super::{DmaError, DmaSpace};
use crate::bus::{BusError, DmaTarget};

/// IOVAs below are not given out: 0 means "none" to the chip, and a stray small number should fault.
const FIRST_IOVA: u64 = 0x1_0000;

/// What is mapped, and for which targets.
pub(super) struct Layout {
    targets: Vec<Attached>,
    pub(super) iova: Ranges,
    /// All that is mapped, by IOVA.
    arenas: BTreeMap<u64, Arc<Arena>>,
    /// Where in the process and in files it is.
    pub(super) places: Places,
    /// Bytes of registered memory.
    pub(super) registered: u64,
}

/// A target, and the attached functions whose DMA goes through it: it is mapped once for all of them.
struct Attached {
    target: Arc<dyn DmaTarget>,
    functions: usize,
    /// NUMA nodes that they are at.
    nodes: BTreeSet<u32>,
    /// The other end is gone: nothing more is mapped for it, and the others are not to suffer from that.
    lost: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            iova: Ranges::new(&[PAGE as u64, LEAST, GIGANTIC], [FIRST_IOVA..=u64::MAX]),
            arenas: BTreeMap::new(),
            places: Places::default(),
            registered: 0,
        }
    }
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layout")
            .field("targets", &self.targets.len())
            .field("arenas", &self.arenas.len())
            .finish_non_exhaustive()
    }
}

impl Layout {
    /// Mappings that exist, over all targets.
    pub(super) fn mappings(&self) -> u64 {
        self.targets.len() as u64 * self.made()
    }

    /// Mappings of each target.
    pub(super) fn made(&self) -> u64 {
        self.arenas.len() as u64
    }

    /// Mappings that the target which allows the fewest allows.
    pub(super) fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        let mut least = None;
        for Attached { target, .. } in self.targets.iter().filter(|known| !known.lost) {
            let left = target.mappings_left()?;
            least = least.into_iter().chain(left).min();
        }
        Ok(least)
    }

    /// Whether mapping costs entries of an IOMMU for any of the targets.
    pub(super) fn pins(&self) -> bool {
        self.targets.iter().any(|known| known.target.pins())
    }

    /// NUMA nodes of the functions that are attached.
    pub(super) fn nodes(&self) -> BTreeSet<u32> {
        let nodes = self.targets.iter().flat_map(|known| &known.nodes);
        nodes.copied().collect()
    }

    /// Bytes that are mapped in ordinary pages, of the space's own memory.
    pub(super) fn ordinary(&self) -> u64 {
        let own = self.arenas.values().filter(|arena| arena.is_own());
        own.map(|arena| arena.bytes() - arena.huge_bytes()).sum()
    }
}

impl DmaSpace {
    /// Attaches a function that can put addresses up to `last` on the bus: everything is mapped for it from now on.
    ///
    /// # Errors
    /// [`DmaError::OutOfReach`] when memory is mapped where the function or its IOMMU cannot reach, before anything
    /// could fault; [`DmaError::Bus`] when the bus refuses. Nothing is attached then.
    pub fn attach(&self, target: Arc<dyn DmaTarget>, last: u64) -> Result<(), DmaError> {
        let inner = &*self.inner;
        let layout = &mut *inner.layout();
        let bus = |source| DmaError::Bus {
            iova: 0,
            length: 0,
            source,
        };
        let mut allowed = target.ranges().map_err(bus)?;
        clip(&mut allowed, last);
        for arena in layout.arenas.values() {
            if !ranges::contains(&allowed, arena.iova, *arena.iovas().end()) {
                return Err(DmaError::OutOfReach {
                    start: arena.iova,
                    last,
                });
            }
        }
        let known = layout.targets.iter_mut();
        let mut joined = known.filter(|known| Arc::ptr_eq(&known.target, &target));
        if let Some(known) = joined.next() {
            known.functions += 1;
        } else {
            drop(joined);
            let mut mapped: Vec<&Arc<Arena>> = Vec::new();
            for arena in layout.arenas.values() {
                if let Err(error) = map_for(&*target, arena, mapped.len() as u64) {
                    for arena in mapped {
                        inner.unmap_for(&*target, arena);
                    }
                    return Err(error);
                }
                mapped.push(arena);
            }
            layout.targets.push(Attached {
                target,
                functions: 1,
                nodes: BTreeSet::new(),
                lost: false,
            });
        }
        layout.iova.intersect(&allowed);
        inner.tell_ordinary(layout);
        Ok(())
    }

    /// Says at which NUMA node a function is that is attached: memory that is mapped from now on is taken from there, unless the
    /// space's options say otherwise, until nothing is attached by this target any more.
    pub fn attached_at(&self, target: &Arc<dyn DmaTarget>, node: u32) {
        let mut layout = self.inner.layout();
        let mut targets = layout.targets.iter_mut();
        if let Some(known) = targets.find(|known| Arc::ptr_eq(&known.target, target)) {
            known.nodes.insert(node);
        }
    }

    /// Detaches a function whose [`DmaSpace::attach`] has succeeded. Its DMA must have ended. With the last function of a
    /// target everything is unmapped for that.
    pub fn detach(&self, target: &Arc<dyn DmaTarget>) {
        let mut layout = self.inner.layout();
        let Some(index) = layout
            .targets
            .iter()
            .position(|known| Arc::ptr_eq(&known.target, target))
        else {
            return;
        };
        let known = &mut layout.targets[index];
        known.functions -= 1;
        if known.functions > 0 {
            return;
        }
        layout.targets.remove(index);
        for arena in layout.arenas.values() {
            self.inner.unmap_for(&**target, arena);
        }
    }

    /// What functions are attached through. A bus that opens one more looks for a container of its own among them.
    pub(crate) fn targets(&self) -> Vec<Arc<dyn DmaTarget>> {
        let layout = self.inner.layout();
        let attached = layout.targets.iter();
        attached.map(|known| Arc::clone(&known.target)).collect()
    }
}

impl SpaceInner {
    /// Maps an arena for every target, whose IOVA was taken; on error for none. A target that is found gone is passed over, now and
    /// from now on: no command that names the memory can reach what is behind it.
    pub(super) fn map(&self, layout: &mut Layout, arena: &Arc<Arena>) -> Result<(), DmaError> {
        let made = layout.made();
        let mut mapped = Vec::with_capacity(layout.targets.len());
        let mut refused = None;
        for known in layout.targets.iter_mut().filter(|known| !known.lost) {
            match map_for(&*known.target, arena, made) {
                Ok(()) => mapped.push(&known.target),
                Err(error) if error.is_lost_connection() => {
                    tracing::warn!(%error, "what is allocated from now on is not mapped for a device that is gone");
                    known.lost = true;
                }
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = refused {
            let mut clean = true;
            for target in mapped {
                clean &= self.unmap_for(&**target, arena);
            }
            if clean {
                let (iova, bytes) = (arena.iova, arena.bytes());
                layout.iova.give(iova, bytes, &(0..=u64::MAX));
            }
            return Err(error);
        }
        layout.places.add(arena);
        layout.arenas.insert(arena.iova, Arc::clone(arena));
        Ok(())
    }

    /// Unmaps an arena for every target.
    pub(super) fn unmap(&self, layout: &mut Layout, arena: &Arc<Arena>) {
        layout.arenas.remove(&arena.iova);
        layout.places.remove(arena);
        let mut clean = true;
        for Attached { target, .. } in &layout.targets {
            clean &= self.unmap_for(&**target, arena);
        }
        if clean {
            let (iova, bytes) = (arena.iova, arena.bytes());
            layout.iova.give(iova, bytes, &(0..=u64::MAX));
        }
    }

    /// Unmaps an arena for one target; if that fails, the memory is kept for ever and its IOVA is not used again. Whether
    /// it went well.
    fn unmap_for(&self, target: &dyn DmaTarget, arena: &Arc<Arena>) -> bool {
        let problem = match target.unmap(arena.iova, arena.bytes()) {
            Ok(bytes) if bytes == arena.bytes() => return true,
            // Behind a closed socket nothing can be asked any more. A peer that lives on has the pages of the memfd,
            // and those are never this process's for anything else once its own mapping is gone; those of registered memory are. Of the kernel's buses none
            // says this: a container unmaps, and answers for it, also after its functions were removed.
            Err(BusError::Disconnected { .. }) if arena.is_own() => return true,
            Ok(bytes) => format!("{bytes} bytes were unmapped"),
            Err(error) => error.to_string(),
        };
        tracing::error!(
            iova = arena.iova,
            bytes = arena.bytes(),
            problem,
            "DMA memory cannot be unmapped and is given up"
        );
        self.leaked.fetch_add(arena.bytes(), Ordering::Relaxed);
        std::mem::forget(Arc::clone(arena));
        false
    }
}

/// Maps an arena for a target that has `made` mappings of the space's.
fn map_for(target: &dyn DmaTarget, arena: &Arena, made: u64) -> Result<(), DmaError> {
    target.map(&arena.range()).map_err(|source| match source {
        BusError::MappingLimit => DmaError::NoMappings { made },
        source => DmaError::Bus {
            iova: arena.iova,
            length: arena.bytes(),
            source,
        },
    })
}

/// Cuts ranges off behind `last`.
fn clip(ranges: &mut Vec<RangeInclusive<u64>>, last: u64) {
    ranges.retain(|range| *range.start() <= last);
    for range in ranges {
        *range = *range.start()..=last.min(*range.end());
    }
}
