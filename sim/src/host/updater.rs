//! The thread that keeps the tree true: what chips and NICs are is what the files say.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::HostError;
use super::kernel_log::KernelLog;
use super::nic::Nic;
use super::shown_chip::ShownChip;
use crate::fault::Plan;

/// How often the chips are looked at: as often as their vital signs change.
const PERIOD: Duration = Duration::from_millis(100);

/// What a boot may take beyond its time on a busy machine, and how often it is looked at.
const BOOT_SLACK: Duration = Duration::from_secs(1);
const BOOT_PAUSE: Duration = Duration::from_micros(500);

/// What the thread keeps true.
pub(crate) struct Tree {
    pub(crate) chips: Vec<ShownChip>,
    pub(crate) nics: Vec<Nic>,
    /// Faults that wait, of each NIC.
    pub(crate) plans: Vec<Plan>,
    pub(crate) log: KernelLog,
}

impl Tree {
    /// Waits until no chip boots any more, for as long as a boot takes and [`BOOT_SLACK`]: what runs after the host has
    /// started finds it as it will stay.
    pub(crate) fn await_boots(&mut self) {
        for ShownChip { chip, .. } in &self.chips {
            let deadline = Instant::now() + chip.profile().timing.boot + BOOT_SLACK;
            while matches!(
                chip.state(),
                auk_asic::State::Rom | auk_asic::State::Booting
            ) && Instant::now() < deadline
            {
                std::thread::sleep(BOOT_PAUSE);
            }
        }
    }

    /// Brings all files up to date, those of every device whatever becomes of another's; the last error if there was
    /// one. The next call tries again.
    fn refresh(&mut self) -> Result<(), HostError> {
        let mut result = Ok(());
        for chip in &mut self.chips {
            result = chip.refresh(&mut self.log).and(result);
        }
        let now = Instant::now();
        for nic in 0..self.plans.len() {
            for verb in self.plans[nic].due(now) {
                result = self.happen(nic, &verb).map(drop).and(result);
            }
        }
        for nic in &mut self.nics {
            result = nic.refresh(now).and(result);
        }
        result
    }

    /// When there is something to do next; `None` when nothing changes by itself.
    fn next(&self, now: Instant) -> Option<Instant> {
        let look = (!self.chips.is_empty()).then(|| now + PERIOD);
        let changes = self.nics.iter().filter_map(Nic::next_change);
        let waiting = self.plans.iter().filter_map(Plan::next_due);
        look.into_iter().chain(changes).chain(waiting).min()
    }
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    tree: Tree,
    stop: bool,
    /// The files could not be brought up to date at the last try.
    failing: bool,
}

impl State {
    /// Brings the files up to date, and says when that fails, once.
    fn refresh(&mut self) {
        let refreshed = self.tree.refresh();
        if let Err(error) = &refreshed
            && !self.failing
        {
            tracing::error!(%error, "the tree of the simulated host is not up to date");
        }
        self.failing = refreshed.is_err();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. It ends when this is dropped.
pub(crate) struct Updater {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Updater {
    pub(crate) fn start(tree: Tree) -> Result<Self, HostError> {
        let state = Mutex::new(State {
            tree,
            stop: false,
            failing: false,
        });
        let shared = Arc::new(Shared {
            state,
            wake: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let name = "auk-sim-host".to_owned();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || run(&theirs))
            .map_err(|source| HostError::Thread { name, source })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Changes something; the files have followed when this returns.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let mut state = self.shared.lock();
        let result = change(&mut state.tree);
        state.refresh();
        drop(state);
        self.shared.wake.notify_one();
        result
    }
}

impl Drop for Updater {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_one();
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the simulated host's thread panicked");
        }
    }
}

fn run(shared: &Shared) {
    let mut state = shared.lock();
    while !state.stop {
        state.refresh();
        let now = Instant::now();
        let next = if state.failing {
            // Tried again, but not in a loop: a file system that refuses stays so for a while.
            Some(now + PERIOD)
        } else {
            state.tree.next(now)
        };
        state = match next {
            Some(next) => {
                let rest = next.saturating_duration_since(now);
                let waited = shared.wake.wait_timeout(state, rest);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = shared.wake.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
    }
}
