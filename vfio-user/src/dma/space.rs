//! The side that maps and unmaps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::table::{Entry, Shared, Table};
use super::{DmaError, DmaView};
use crate::memory::SharedMemory;
use crate::model::DmaMap;

/// The memory a client has made reachable for DMA. One thread maps and unmaps; others look at it through
/// [views](DmaView), without locks.
#[derive(Debug, Default)]
pub struct DmaSpace {
    published: Arc<Published>,
}

/// The table that holds now.
#[derive(Debug, Default)]
pub(super) struct Published {
    table: Mutex<Table>,
    /// Changes with the table.
    generation: AtomicU64,
}

impl Published {
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The table, and its generation.
    pub(super) fn get(&self) -> (Table, u64) {
        let table = self.lock();
        (table.clone(), self.generation())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A table is replaced in one go, so a panic elsewhere cannot have broken it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, guard: &mut MutexGuard<'_, Table>, table: Table) {
        **guard = table;
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl DmaSpace {
    /// Nothing mapped.
    pub fn new() -> Self {
        Self::default()
    }

    /// A view for one thread.
    pub fn view(&self) -> DmaView {
        DmaView::new(Arc::clone(&self.published))
    }

    /// Makes client memory reachable; views see it from their next refresh on.
    ///
    /// # Errors
    /// [`DmaError::Overlap`], [`DmaError::Range`], and [`DmaError::Memory`] when the descriptor cannot be
    /// mapped, or not safely.
    pub fn map(&self, map: &DmaMap) -> Result<(), DmaError> {
        let (iova, size) = (map.iova, map.size);
        let last = last(iova, size)?;
        let mut table = self.published.lock();
        if table.overlaps(iova, last) {
            return Err(DmaError::Overlap { iova, size });
        }
        let memory = map.memory.as_ref().map(|memory| {
            let (fd, offset) = (std::os::fd::AsFd::as_fd(&memory.fd), memory.offset);
            let memory = SharedMemory::map(fd, offset, size, map.protection.write)?;
            Ok(Arc::new(Shared {
                memory,
                notice: Notice::default(),
            }))
        });
        let memory = memory
            .transpose()
            .map_err(|source| DmaError::Memory { iova, source })?;
        let next = table.with(Entry {
            iova,
            last,
            protection: map.protection,
            memory,
        });
        self.published.replace(&mut table, next);
        Ok(())
    }

    /// Takes back what [`DmaSpace::map`] made reachable, exactly. Views may still use it until they are
    /// refreshed: the memory is safe to be used otherwise when the [`Unmapping`] says so.
    ///
    /// # Errors
    /// [`DmaError::NotMapped`] and [`DmaError::Range`].
    pub fn unmap(&self, iova: u64, size: u64) -> Result<Unmapping, DmaError> {
        let last = last(iova, size)?;
        let mut table = self.published.lock();
        let (next, memory) = table
            .without(iova, last)
            .ok_or(DmaError::NotMapped { iova, size })?;
        self.published.replace(&mut table, next);
        Ok(Unmapping {
            notices: memory
                .iter()
                .map(|memory| memory.notice.0.clone())
                .collect(),
        })
    }

    /// Takes everything back, as when the client is gone.
    pub fn clear(&self) -> Unmapping {
        let mut table = self.published.lock();
        let notices = table
            .memories()
            .map(|memory| memory.notice.0.clone())
            .collect();
        self.published.replace(&mut table, Table::default());
        Unmapping { notices }
    }
}

fn last(iova: u64, size: u64) -> Result<u64, DmaError> {
    let last = size.checked_sub(1).and_then(|rest| iova.checked_add(rest));
    last.ok_or(DmaError::Range { iova, size })
}

/// Tells, when it is dropped, that the memory it is next to has been unmapped.
#[derive(Debug, Default)]
pub(super) struct Notice(Arc<Told>);

#[derive(Debug, Default)]
struct Told {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    unmapped: bool,
    /// Somebody waits, or did: nobody else is woken, which would be a system call for nothing.
    awaited: bool,
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        // It is in order at every moment, so a panic elsewhere cannot have broken it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.unmapped = true;
        if state.awaited {
            self.0.news.notify_all();
        }
    }
}

/// Memory that is no longer reachable for new accesses, but may still be in use.
#[derive(Debug)]
#[must_use = "until it is waited for, views may still access the memory"]
pub struct Unmapping {
    notices: Vec<Arc<Told>>,
}

impl Unmapping {
    /// Waits until every view has been refreshed or dropped, whatever was [held](super::Held) as well, and the memory is really unmapped.
    ///
    /// # Errors
    /// [`DmaError::InUse`] when the deadline passes first; waiting again is possible.
    pub fn wait(&self, deadline: Instant) -> Result<(), DmaError> {
        for told in &self.notices {
            let mut state = told.state();
            while !state.unmapped {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(DmaError::InUse);
                }
                state.awaited = true;
                state = told
                    .news
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
        Ok(())
    }
}
