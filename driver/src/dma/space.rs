//! An IOVA space that many functions share.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use auk_asic::PAGE;

use super::arena::{Arena, alignment, arena_bytes};
use super::memory::HugePages;
use super::ranges::{self, Ranges};
use super::{DmaBuffer, DmaError};
use crate::bus::{BusError, DmaTarget};

/// IOVAs below are not given out: 0 means "none" to the chip, and a stray small number should fault.
const FIRST_IOVA: u64 = 0x1_0000;
/// Most bytes of one buffer: what a process of x86-64 can map.
const MOST_BYTES: u64 = 1 << 47;

/// Memory for DMA that is at the same IOVA for all attached functions. Clones are the same space.
#[derive(Clone, Debug)]
pub struct DmaSpace {
    pub(super) inner: Arc<SpaceInner>,
}

/// What a space has given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaUsage {
    /// Mappings that exist, over all functions.
    pub mappings: u64,
    /// Bytes mapped.
    pub mapped: u64,
    /// Of these, bytes in huge pages.
    pub huge: u64,
    /// Bytes in buffers that live.
    pub used: u64,
    /// Bytes that were given up because unmapping them failed: a chip might still write them.
    pub leaked: u64,
}

#[derive(Debug)]
pub(super) struct SpaceInner {
    /// Changes of what is mapped where. Held while mapping, never while a buffer comes from mapped memory.
    layout: Mutex<Layout>,
    /// Read to find room; written only when an arena comes or goes.
    arenas: RwLock<Vec<Arc<Arena>>>,
    leaked: AtomicU64,
    huge: HugePages,
}

struct Layout {
    targets: Vec<Attached>,
    iova: Ranges,
}

/// A target, and the attached functions whose DMA goes through it: it is mapped once for all of them.
struct Attached {
    target: Arc<dyn DmaTarget>,
    functions: usize,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layout")
            .field("targets", &self.targets.len())
            .field("iova", &self.iova)
            .finish()
    }
}

impl Default for DmaSpace {
    fn default() -> Self {
        Self::new()
    }
}

impl DmaSpace {
    /// A space with nothing attached; buffers may be allocated before and after functions are. Its memory is of huge pages
    /// where the host has some free.
    #[must_use]
    pub fn new() -> Self {
        Self::with_huge_pages(HugePages::default())
    }

    /// The same, with a say about huge pages.
    #[must_use]
    pub fn with_huge_pages(huge: HugePages) -> Self {
        Self {
            inner: Arc::new(SpaceInner {
                layout: Mutex::new(Layout {
                    targets: Vec::new(),
                    iova: Ranges::new([FIRST_IOVA..=u64::MAX]),
                }),
                arenas: RwLock::new(Vec::new()),
                leaked: AtomicU64::new(0),
                huge,
            }),
        }
    }

    /// `length` zero bytes that all attached functions can reach; whole pages are taken.
    ///
    /// # Errors
    /// [`DmaError`]: no memory, no IOVA, no mapping left, or the bus refused.
    pub fn alloc(&self, length: usize) -> Result<DmaBuffer, DmaError> {
        let asked = length as u64;
        if asked == 0 || asked > MOST_BYTES {
            return Err(DmaError::Length { length: asked });
        }
        let whole = asked.next_multiple_of(PAGE as u64);
        if let Some(buffer) = self.take_mapped(asked, whole) {
            return Ok(buffer);
        }
        let mut layout = self.inner.layout();
        // Another thread may have made an arena while this one waited for its turn.
        if let Some(buffer) = self.take_mapped(asked, whole) {
            return Ok(buffer);
        }
        let bytes = arena_bytes(whole).ok_or(DmaError::Length { length: asked })?;
        let arena = match self.inner.grow(&mut layout, bytes) {
            Err(
                DmaError::NoIova { .. } | DmaError::NoMappings { .. } | DmaError::NoMemory { .. },
            ) => {
                self.inner.trim(&mut layout);
                self.inner.grow(&mut layout, bytes)?
            }
            other => other?,
        };
        let (offset, used) = arena
            .take(whole)
            .ok_or(DmaError::Length { length: asked })?;
        self.inner.write_arenas().push(Arc::clone(&arena));
        Ok(DmaBuffer::new(self, &arena, offset, asked, used))
    }

    /// Unmaps the arenas in which no buffer is left.
    pub fn trim(&self) {
        let mut layout = self.inner.layout();
        self.inner.trim(&mut layout);
    }

    /// What there is.
    #[must_use]
    pub fn usage(&self) -> DmaUsage {
        let targets = self.inner.layout().targets.len() as u64;
        let arenas = self.inner.read_arenas();
        let mapped: u64 = arenas.iter().map(|arena| arena.bytes()).sum();
        let free: u64 = arenas.iter().map(|arena| arena.free_bytes()).sum();
        DmaUsage {
            mappings: targets * arenas.len() as u64,
            mapped,
            huge: arenas.iter().map(|arena| arena.huge_bytes()).sum(),
            used: mapped - free,
            leaked: self.inner.leaked.load(Ordering::Relaxed),
        }
    }

    /// Attaches a function that can put addresses up to `last` on the bus: everything is mapped for it from now on.
    ///
    /// # Errors
    /// [`DmaError::OutOfReach`] when memory is mapped where the function or its IOMMU cannot reach, before anything
    /// could fault; [`DmaError::Bus`] when the bus refuses. Nothing is attached then.
    pub fn attach(&self, target: Arc<dyn DmaTarget>, last: u64) -> Result<(), DmaError> {
        let mut layout = self.inner.layout();
        let bus = |source| DmaError::Bus {
            iova: 0,
            length: 0,
            source,
        };
        let mut allowed = target.ranges().map_err(bus)?;
        clip(&mut allowed, last);
        let arenas = self.inner.read_arenas().clone();
        for arena in &arenas {
            let end = arena.iova.saturating_add(arena.bytes() - 1);
            if !ranges::contains(&allowed, arena.iova, end) {
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
            for arena in &arenas {
                if let Err(error) = map_for(&*target, arena) {
                    for arena in mapped {
                        self.inner.unmap_for(&*target, arena);
                    }
                    return Err(error);
                }
                mapped.push(arena);
            }
            layout.targets.push(Attached {
                target,
                functions: 1,
            });
        }
        layout.iova.intersect(&allowed);
        Ok(())
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
        for arena in self.inner.read_arenas().iter() {
            self.inner.unmap_for(&**target, arena);
        }
    }

    /// What functions are attached through. A bus that opens one more looks for a container of its own among them.
    pub(crate) fn targets(&self) -> Vec<Arc<dyn DmaTarget>> {
        let layout = self.inner.layout();
        let attached = layout.targets.iter();
        attached.map(|known| Arc::clone(&known.target)).collect()
    }

    fn take_mapped(&self, asked: u64, whole: u64) -> Option<DmaBuffer> {
        self.inner.read_arenas().iter().find_map(|arena| {
            let (offset, used) = arena.take(whole)?;
            Some(DmaBuffer::new(self, arena, offset, asked, used))
        })
    }
}

impl SpaceInner {
    fn layout(&self) -> MutexGuard<'_, Layout> {
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_arenas(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Arena>>> {
        self.arenas.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_arenas(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Arc<Arena>>> {
        self.arenas.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new arena, mapped for every target.
    fn grow(&self, layout: &mut Layout, bytes: u64) -> Result<Arc<Arena>, DmaError> {
        for Attached { target, .. } in &layout.targets {
            let left = target.mappings_left().map_err(|source| DmaError::Bus {
                iova: 0,
                length: bytes,
                source,
            })?;
            if left == Some(0) {
                return Err(DmaError::NoMappings {
                    made: self.read_arenas().len() as u64,
                });
            }
        }
        let iova = layout.iova.take(bytes, alignment(bytes)).ok_or_else(|| {
            let (free, largest) = layout.iova.free_bytes();
            DmaError::NoIova {
                length: bytes,
                free,
                largest,
            }
        })?;
        let arena = match Arena::new(iova, bytes, self.huge) {
            Ok(arena) => Arc::new(arena),
            Err(error) => {
                layout.iova.give(iova, bytes);
                return Err(error);
            }
        };
        for (index, Attached { target, .. }) in layout.targets.iter().enumerate() {
            if let Err(error) = map_for(&**target, &arena) {
                let mut clean = true;
                for mapped in &layout.targets[..index] {
                    clean &= self.unmap_for(&*mapped.target, &arena);
                }
                if clean {
                    layout.iova.give(iova, bytes);
                }
                return Err(error);
            }
        }
        Ok(arena)
    }

    /// Unmaps the arenas that nobody uses.
    fn trim(&self, layout: &mut Layout) {
        let mut unused = Vec::new();
        // Out of the list first, so that no other thread takes a buffer from an arena that goes away.
        self.write_arenas().retain(|arena| {
            let keep = arena.free_bytes() < arena.bytes();
            if !keep {
                unused.push(Arc::clone(arena));
            }
            keep
        });
        for arena in unused {
            let mut clean = true;
            for Attached { target, .. } in &layout.targets {
                clean &= self.unmap_for(&**target, &arena);
            }
            if clean {
                layout.iova.give(arena.iova, arena.bytes());
            }
        }
    }

    /// Unmaps an arena for one target; if that fails, the memory is kept for ever and its IOVA is not used again. Whether
    /// it went well.
    fn unmap_for(&self, target: &dyn DmaTarget, arena: &Arc<Arena>) -> bool {
        let problem = match target.unmap(arena.iova, arena.bytes()) {
            Ok(bytes) if bytes == arena.bytes() => return true,
            // Behind a closed socket nothing can be asked any more. A peer that lives on has the pages of the memfd,
            // and those are never this process's for anything else once its own mapping is gone. Of the kernel's buses none
            // says this: a container unmaps, and answers for it, also after its functions were removed.
            Err(BusError::Disconnected { .. }) => return true,
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

impl Drop for SpaceInner {
    /// Every buffer holds its space, so none is left; what is still attached loses the memory before it goes.
    fn drop(&mut self) {
        let targets = std::mem::take(&mut self.layout().targets);
        for arena in self.read_arenas().iter() {
            for Attached { target, .. } in &targets {
                self.unmap_for(&**target, arena);
            }
        }
    }
}

fn map_for(target: &dyn DmaTarget, arena: &Arena) -> Result<(), DmaError> {
    target.map(&arena.range()).map_err(|source| DmaError::Bus {
        iova: arena.iova,
        length: arena.bytes(),
        source,
    })
}

/// Cuts ranges off behind `last`.
fn clip(ranges: &mut Vec<RangeInclusive<u64>>, last: u64) {
    ranges.retain(|range| *range.start() <= last);
    for range in ranges {
        *range = *range.start()..=last.min(*range.end());
    }
}
