//! The side that accesses.

use std::cell::Cell;
use std::sync::Arc;

use super::space::Published;
use super::table::{Place, Shared, Table};
use super::{Access, DmaFault};
use crate::memory::{OutOfBounds, SharedMemory};

/// One thread's view of a client's memory.
///
/// A view shows the memory as it was at the last [`refresh`](DmaView::refresh), and keeps it mapped; so an unmap
/// waits for every view. A thread refreshes its view between pieces of work, which costs one atomic load when nothing
/// has changed.
#[derive(Debug)]
pub struct DmaView {
    published: Arc<Published>,
    table: Table,
    /// Of the table.
    generation: u64,
    /// Where the last access went: the next one mostly goes there as well.
    hint: Cell<Place>,
}

impl DmaView {
    pub(super) fn new(published: Arc<Published>) -> Self {
        let (table, generation) = published.get();
        Self {
            published,
            table,
            generation,
            hint: Cell::default(),
        }
    }

    /// Shows the memory as it is now; whether that is something else than before.
    pub fn refresh(&mut self) -> bool {
        if self.generation == self.published.generation() {
            return false;
        }
        let (table, generation) = self.published.get();
        self.table = table;
        self.generation = generation;
        true
    }

    /// The memory at `iova`, as much of `len` bytes as lies in one mapping; at least one byte unless
    /// `len` is 0.
    ///
    /// # Errors
    /// A [`DmaFault`] for the first byte.
    pub fn window(&self, iova: u64, len: u64, access: Access) -> Result<Window<'_>, DmaFault> {
        let mut hint = self.hint.get();
        let window = self.table.window(iova, len.max(1), access, &mut hint)?;
        self.hint.set(hint);
        Ok(Window {
            len: window.len.min(len),
            ..window
        })
    }

    /// All of `len` bytes at `iova`, a window a mapping. Ends after the first fault.
    pub fn windows(&self, iova: u64, len: u64, access: Access) -> Windows<'_> {
        Windows {
            view: self,
            iova,
            left: len,
            access,
        }
    }

    /// Copies client memory out.
    ///
    /// # Errors
    /// The first [`DmaFault`]; then `data` may have been filled in part.
    pub fn read(&self, iova: u64, data: &mut [u8]) -> Result<(), DmaFault> {
        let mut rest = data;
        for window in self.windows(iova, rest.len() as u64, Access::Read) {
            let window = window?;
            let (here, after) = rest.split_at_mut(window.len as usize);
            window
                .read(0, here)
                .map_err(|_| DmaFault::Unmapped { iova })?;
            rest = after;
        }
        Ok(())
    }

    /// Copies into client memory.
    ///
    /// # Errors
    /// The first [`DmaFault`]; then nothing was written.
    pub fn write(&self, iova: u64, data: &[u8]) -> Result<(), DmaFault> {
        let windows = || self.windows(iova, data.len() as u64, Access::Write);
        if let Some(fault) = windows().find_map(Result::err) {
            return Err(fault);
        }
        let mut rest = data;
        for window in windows() {
            let window = window?;
            let (here, after) = rest.split_at(window.len as usize);
            window
                .write(0, here)
                .map_err(|_| DmaFault::Unmapped { iova })?;
            rest = after;
        }
        Ok(())
    }
}

/// The mappings that a range of IOVAs goes through.
#[derive(Debug)]
pub struct Windows<'a> {
    view: &'a DmaView,
    iova: u64,
    left: u64,
    access: Access,
}

impl<'a> Iterator for Windows<'a> {
    type Item = Result<Window<'a>, DmaFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        if self.iova.checked_add(self.left - 1).is_none() {
            self.left = 0;
            return Some(Err(DmaFault::Unmapped { iova: u64::MAX }));
        }
        let window = self.view.window(self.iova, self.left, self.access);
        match &window {
            Ok(window) => {
                // Wraps only after the very last byte, and then nothing is left.
                self.iova = self.iova.wrapping_add(window.len);
                self.left -= window.len;
            }
            Err(_) => self.left = 0,
        }
        Some(window)
    }
}

/// A range of client memory that is contiguous in our own address space.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    shared: &'a Arc<Shared>,
    offset: u64,
    len: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, offset: u64, len: u64) -> Self {
        Self {
            shared,
            offset,
            len,
        }
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to access.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory it lies in, and where. That it was asked for with the right [`Access`] is up to the caller.
    pub fn memory(&self) -> (&'a SharedMemory, u64) {
        (&self.shared.memory, self.offset)
    }

    /// Keeps the memory mapped whatever becomes of the view: for what a device looks up once and uses often, such as a
    /// ring. An unmap waits for it as it waits for the views.
    pub fn hold(&self) -> Held {
        Held {
            shared: Arc::clone(self.shared),
            offset: self.offset,
        }
    }

    /// Copies bytes out, from `offset` of the window on.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), OutOfBounds> {
        self.shared
            .memory
            .read(self.inside(offset, data.len())?, data)
    }

    /// Copies bytes in, from `offset` of the window on.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), OutOfBounds> {
        self.shared
            .memory
            .write(self.inside(offset, data.len())?, data)
    }

    fn inside(&self, offset: u64, len: usize) -> Result<u64, OutOfBounds> {
        let len = len as u64;
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.offset + offset),
            _ => Err(OutOfBounds {
                offset,
                len,
                size: self.len,
            }),
        }
    }
}

/// A place in client memory that stays mapped until this is dropped.
#[derive(Clone, Debug)]
pub struct Held {
    shared: Arc<Shared>,
    offset: u64,
}

impl Held {
    /// The memory it lies in, and where. That it was asked for with the right [`Access`] is up to the caller.
    #[inline]
    pub fn memory(&self) -> (&SharedMemory, u64) {
        (&self.shared.memory, self.offset)
    }
}
