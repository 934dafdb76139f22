//! What is free in the arenas, under one lock that is held for a few steps at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use auk_asic::PAGE;

use super::arena::Arena;
use super::ranges::Ranges;
use super::slab::{Class, Page, SlabId, Slabs};

/// A piece of an arena that is given out.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) arena: Arc<Arena>,
    pub(super) iova: u64,
    pub(super) size: Size,
}

/// How a piece was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Whole pages of this many bytes.
    Pages(u64),
    /// A part of a page.
    Small(Class, SlabId),
}

impl Size {
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Pages(bytes) => bytes,
            Self::Small(class, _) => class.bytes(),
        }
    }
}

/// The arenas, and what is free in them.
#[derive(Debug)]
pub(super) struct Pool {
    /// By their first IOVA.
    arenas: BTreeMap<u64, Arc<Arena>>,
    /// Free pages, by IOVA. What lies in two arenas is not merged, wherever they are.
    free: Ranges,
    slabs: Slabs,
    pub(super) mapped: u64,
    pub(super) huge: u64,
    /// Bytes in pieces that are given out.
    pub(super) used: u64,
    /// Pages that a chip may still write: their first IOVA, and bytes. They are free again when their arena is unmapped, whole.
    abandoned: Vec<(u64, u64)>,
    /// Bytes in pieces that were abandoned.
    pub(super) abandoned_bytes: u64,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            arenas: BTreeMap::new(),
            free: Ranges::new(&[PAGE as u64], []),
            slabs: Slabs::default(),
            mapped: 0,
            huge: 0,
            used: 0,
            abandoned: Vec::new(),
            abandoned_bytes: 0,
        }
    }
}

impl Pool {
    /// Room for `length` bytes, and how many of them may hold what a former buffer left.
    pub(super) fn take(&mut self, length: u64) -> Option<(Piece, u64)> {
        let (piece, stale) = match Class::of(length) {
            Some(class) => {
                let (page, iova, slab) = self.take_small(class)?;
                let size = Size::Small(class, slab);
                let arena = page.arena;
                (Piece { arena, iova, size }, class.bytes())
            }
            None => {
                let whole = length.checked_next_multiple_of(PAGE as u64)?;
                let (Page { arena, iova }, stale) = self.take_pages(whole)?;
                let size = Size::Pages(whole);
                (Piece { arena, iova, size }, stale)
            }
        };
        self.used += piece.size.bytes();
        Some((piece, stale))
    }

    fn take_small(&mut self, class: Class) -> Option<(Page, u64, SlabId)> {
        if let Some(taken) = self.slabs.take(class) {
            return Some(taken);
        }
        let (page, _) = self.take_pages(PAGE as u64)?;
        self.slabs.add(class, page);
        self.slabs.take(class)
    }

    fn take_pages(&mut self, bytes: u64) -> Option<(Page, u64)> {
        let iova = self.free.take(bytes, PAGE as u64)?;
        let (_, arena) = self.arenas.range(..=iova).next_back()?;
        let stale = arena.take(iova, bytes);
        let arena = Arc::clone(arena);
        Some((Page { arena, iova }, stale))
    }

    /// Takes a piece back. Nothing may use it any more.
    pub(super) fn give(&mut self, piece: &Piece) {
        self.used -= piece.size.bytes();
        match piece.size {
            Size::Pages(bytes) => self.give_pages(&piece.arena, piece.iova, bytes),
            Size::Small(_, slab) => {
                if let Some(page) = self.slabs.give(slab, piece.iova) {
                    self.give_pages(&page.arena, page.iova, PAGE as u64);
                }
            }
        }
    }

    /// Takes a piece back that a chip may still write. A part of a page stays used, and so does its arena, while the space lives.
    pub(super) fn abandon(&mut self, piece: &Piece) {
        self.used -= piece.size.bytes();
        self.abandoned_bytes += piece.size.bytes();
        if let Size::Pages(bytes) = piece.size {
            piece.arena.give(bytes);
            self.abandoned.push((piece.iova, bytes));
        }
    }

    fn give_pages(&mut self, arena: &Arena, iova: u64, bytes: u64) {
        arena.give(bytes);
        self.free.give(iova, bytes, &arena.iovas());
    }

    /// Adds an arena, all of it free.
    pub(super) fn add(&mut self, arena: &Arc<Arena>) {
        self.mapped += arena.bytes();
        self.huge += arena.huge_bytes();
        self.free.give(arena.iova, arena.bytes(), &arena.iovas());
        self.arenas.insert(arena.iova, Arc::clone(arena));
    }

    /// Takes out the arenas of which nothing is used.
    pub(super) fn take_unused(&mut self) -> Vec<Arc<Arena>> {
        for page in self.slabs.take_unused() {
            self.give_pages(&page.arena, page.iova, PAGE as u64);
        }
        let arenas = self.arenas.values();
        let unused: Vec<_> = arenas.filter(|arena| arena.is_unused()).cloned().collect();
        for arena in &unused {
            self.arenas.remove(&arena.iova);
            let iovas = arena.iovas();
            for (iova, bytes) in self
                .abandoned
                .extract_if(.., |(iova, _)| iovas.contains(iova))
            {
                self.free.give(iova, bytes, &iovas);
                self.abandoned_bytes -= bytes;
            }
            let whole = self.free.take_range(arena.iova, arena.bytes());
            debug_assert!(whole, "what nobody uses is free, in one piece");
            self.mapped -= arena.bytes();
            self.huge -= arena.huge_bytes();
        }
        unused
    }

    /// Takes out all arenas, when no buffer is left.
    pub(super) fn take_all(&mut self) -> BTreeMap<u64, Arc<Arena>> {
        std::mem::take(&mut self.arenas)
    }

    /// In how many pieces the free pages are.
    pub(super) fn pieces(&self) -> usize {
        self.free.count()
    }
}
