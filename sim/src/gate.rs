//! One lock around the chip, which its engine holds while it works and gives up as soon as
//! somebody else wants it.
//!
//! The engine takes no lock for a command: it looks at one counter between steps, and a step is
//! short. So a register read, a reset or an unmap waits for one step at most, and whoever has the
//! lock knows that no DMA is under way.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::machine::Machine;

/// How long a trapped access to a register takes, for whoever makes it to wait without the lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegisterDelay(Arc<AtomicU64>);

impl RegisterDelay {
    pub(crate) fn set(&self, delay: Duration) {
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// The lock, who waits for it, and where the engine sleeps.
#[derive(Debug)]
pub(crate) struct Gate {
    machine: Mutex<Machine>,
    visitors: AtomicUsize,
    wake: Condvar,
}

impl Gate {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine: Mutex::new(machine),
            visitors: AtomicUsize::new(0),
            wake: Condvar::new(),
        }
    }

    /// Does something to the chip between two steps of its engine. If there is now something for an engine that sleeps, takes its next
    /// step and wakes it for the rest.
    pub(crate) fn visit<R>(&self, work: impl FnOnce(&mut Machine) -> R) -> R {
        self.visitors.fetch_add(1, Ordering::Relaxed);
        let mut machine = self.lock();
        self.visitors.fetch_sub(1, Ordering::Relaxed);
        let result = work(&mut machine);
        if machine.asleep && machine.wants_engine() {
            // What is short is done before the engine's thread would be awake.
            machine.turn();
            self.wake.notify_one();
        }
        result
    }

    /// The engine's way in.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Machine> {
        // A panic elsewhere leaves a chip that is wrong, not one that may not be looked at.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the engine should give up the lock.
    #[inline]
    pub(crate) fn has_visitors(&self) -> bool {
        self.visitors.load(Ordering::Relaxed) != 0
    }

    /// Lets all visitors in that wait.
    pub(crate) fn yield_to_visitors<'a>(
        &'a self,
        machine: MutexGuard<'a, Machine>,
    ) -> MutexGuard<'a, Machine> {
        drop(machine);
        while self.has_visitors() {
            std::thread::yield_now();
        }
        self.lock()
    }

    /// Sleeps without the lock until a visitor has something, or the time is over.
    pub(crate) fn sleep<'a>(
        &'a self,
        machine: MutexGuard<'a, Machine>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, Machine> {
        match limit {
            None => self
                .wake
                .wait(machine)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.wake
                    .wait_timeout(machine, limit)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }
}
