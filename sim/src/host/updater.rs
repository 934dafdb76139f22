//! The thread that keeps the tree true: what chips and NICs are is what the files say.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::error::HostError;
use super::function::Function;
use super::nic::Nic;
use crate::Chip;

/// How often the chips are looked at: as often as their vital signs change.
const PERIOD: Duration = Duration::from_millis(100);

/// What the thread keeps true.
pub(crate) struct Tree {
    pub(crate) chips: Vec<(Chip, Function)>,
    pub(crate) nics: Vec<Nic>,
}

impl Tree {
    /// Brings all files up to date. An error is told once by whoever calls; the next call tries again.
    fn refresh(&mut self) -> Result<(), HostError> {
        for (chip, function) in &mut self.chips {
            function.refresh(&chip.config())?;
        }
        let now = Instant::now();
        self.nics.iter_mut().try_for_each(|nic| nic.refresh(now))
    }

    /// When there is something to do next.
    fn next(&self, now: Instant) -> Instant {
        let changes = self.nics.iter().filter_map(Nic::next_change);
        changes.fold(now + PERIOD, Instant::min)
    }
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    tree: Tree,
    stop: bool,
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
        let state = Mutex::new(State { tree, stop: false });
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

    /// Changes something, and has the files follow at once.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Tree) -> T) -> T {
        let result = change(&mut self.shared.lock().tree);
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
    let mut failing = false;
    while !state.stop {
        match state.tree.refresh() {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "the tree of the simulated host is not up to date");
            }
            Err(_) => {}
        }
        let now = Instant::now();
        let rest = state.tree.next(now).saturating_duration_since(now);
        // A file system that refuses must not be asked in a loop.
        let rest = if failing { PERIOD } else { rest };
        state = shared
            .wake
            .wait_timeout(state, rest)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}
