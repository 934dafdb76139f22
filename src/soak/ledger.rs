//! What the job on one chip has seen: written by its thread, read by whoever injects faults into that chip.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something that a job sees and that a chip without faults never shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The driver returned an error.
    Error(String),
    /// An answer was wrong.
    Wrong(String),
    /// Completions of no command came.
    Strays(u64),
    /// A result took this long.
    Late(Duration),
}

impl Signal {
    /// Whether it is only a matter of time.
    pub(super) const fn is_late(&self) -> bool {
        matches!(self, Self::Late(_))
    }
}

/// A result later than this is told.
const LATE: Duration = Duration::from_millis(500);
/// Signals that are kept until somebody takes them.
const MOST_SIGNALS: usize = 4096;

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Jobs begun, and those with a right answer.
    pub(super) begun: u64,
    pub(super) acknowledged: u64,
    /// Commands submitted, those whose outcome was had, and those that were given up with their queue.
    pub(super) submitted: u64,
    pub(super) ended: u64,
    pub(super) given_up: u64,
    /// Ways that were gone to get a chip back.
    pub(super) recoveries: u64,
}

impl Counts {
    /// Both together.
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            begun: self.begun + other.begun,
            acknowledged: self.acknowledged + other.acknowledged,
            submitted: self.submitted + other.submitted,
            ended: self.ended + other.ended,
            given_up: self.given_up + other.given_up,
            recoveries: self.recoveries + other.recoveries,
        }
    }
}

#[derive(Debug)]
struct State {
    counts: Counts,
    signals: Vec<Signal>,
    last: Instant,
    /// Times between two results, in a histogram of powers of two of microseconds.
    gaps: [u64; 40],
    longest: Duration,
    wish: Option<Wish>,
}

/// What a fault needs the job to do, for it befalls nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Restart,
    /// A restart and a self-test, which end what an agent holds against a chip.
    Cure,
    Reset,
}

/// The record of one chip's job.
#[derive(Debug)]
pub(super) struct Ledger(Mutex<State>);

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            counts: Counts::default(),
            signals: Vec::new(),
            last: Instant::now(),
            gaps: [0; 40],
            longest: Duration::ZERO,
            wish: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.lock().counts);
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    pub(super) fn signal(&self, signal: Signal) {
        let mut state = self.lock();
        if state.signals.len() < MOST_SIGNALS {
            state.signals.push(signal);
        }
    }

    /// What was seen since this was asked last.
    pub(super) fn take_signals(&self) -> Vec<Signal> {
        std::mem::take(&mut self.lock().signals)
    }

    /// A right answer, after so long.
    pub(super) fn acknowledge(&self, took: Duration) {
        let mut state = self.lock();
        state.counts.acknowledged += 1;
        let now = Instant::now();
        let gap = now.saturating_duration_since(state.last);
        state.last = now;
        state.longest = state.longest.max(gap);
        let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        let bucket = (64 - micros.leading_zeros() as usize).min(state.gaps.len() - 1);
        state.gaps[bucket] += 1;
        if took >= LATE && state.signals.len() < MOST_SIGNALS {
            state.signals.push(Signal::Late(took));
        }
    }

    /// The longest time between two results, and what 99 of 100 were at most.
    pub(super) fn stalls(&self) -> (Duration, Duration) {
        let state = self.lock();
        let all: u64 = state.gaps.iter().sum();
        let mut seen = 0;
        let bucket = state.gaps.iter().position(|count| {
            seen += count;
            seen * 100 >= all * 99
        });
        (
            state.longest,
            Duration::from_micros(1 << bucket.unwrap_or(0)),
        )
    }

    /// From now on times between results count anew.
    pub(super) fn restart_clock(&self) {
        let mut state = self.lock();
        state.last = Instant::now();
        state.longest = Duration::ZERO;
        state.gaps = [0; 40];
    }

    pub(super) fn wish(&self, wish: Wish) {
        self.lock().wish = Some(wish);
    }

    pub(super) fn take_wish(&self) -> Option<Wish> {
        self.lock().wish.take()
    }
}
