//! Where threads run: a pair on two processors is another thing than a pair on one, and a scheduler would mix them.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The processors of the measuring thread and of its partner: a yardstick's other thread, or the threads of a chip.
#[derive(Clone, Copy)]
pub(crate) struct Processors {
    ours: usize,
    theirs: usize,
}

impl Processors {
    /// The first two that this process may use.
    pub(crate) fn two() -> Option<Self> {
        let all = sched_getaffinity(Pid::from_raw(0)).expect("the processors of this process");
        let mut each = (0..CpuSet::count()).filter(|&one| all.is_set(one).unwrap_or(false));
        Some(Self {
            ours: each.next()?,
            theirs: each.next()?,
        })
    }

    /// Both threads on one processor, in turn.
    pub(crate) fn one(self) -> Self {
        Self {
            theirs: self.ours,
            ..self
        }
    }

    /// Starts what has threads: they inherit the partner's processor. From then on this thread is on its own.
    pub(crate) fn start<T>(self, start: impl FnOnce() -> T) -> T {
        pin(&[self.theirs]);
        let started = start();
        pin(&[self.ours]);
        started
    }

    /// The same with threads that run where there is room.
    pub(crate) fn start_anywhere<T>(self, start: impl FnOnce() -> T) -> T {
        self.release();
        let started = start();
        pin(&[self.ours]);
        started
    }

    /// Lets this thread, and those it starts, run on both.
    pub(crate) fn release(self) {
        pin(&[self.ours, self.theirs]);
    }
}

/// Puts this thread on some processors.
fn pin(on: &[usize]) {
    let mut set = CpuSet::new();
    for &one in on {
        set.set(one).expect("a processor's number");
    }
    sched_setaffinity(Pid::from_raw(0), &set).expect("a thread on processors that it may use");
}
