//! What checks keep of the past: counters, windows, majorities and latches. All bounded.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A counter that only grows, but for the resets of whoever counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    last: Option<u64>,
}

impl Counter {
    /// How much it grew since the last look; `None` at first sight, when its total says nothing
    /// about when. After a reset all that it shows is new.
    pub(crate) fn step(&mut self, value: u64) -> Option<u64> {
        let last = self.last.replace(value)?;
        Some(value.checked_sub(last).unwrap_or(value))
    }
}

/// The sum of what happened in the last so many seconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Window {
    span: Duration,
    /// Start of a slot, and what happened in it.
    slots: VecDeque<(Duration, u64)>,
}

impl Window {
    /// Slots in a window: its resolution, and a bound to its memory.
    const SLOTS: u32 = 60;

    pub(crate) fn new(span: Duration) -> Self {
        Self {
            span,
            slots: VecDeque::new(),
        }
    }

    /// Adds what happened, and gives the sum.
    pub(crate) fn add(&mut self, now: Duration, count: u64) -> u64 {
        let slot = self.span / Self::SLOTS;
        match self.slots.back_mut() {
            _ if count == 0 => {}
            Some((start, sum)) if now.saturating_sub(*start) < slot => {
                *sum = sum.saturating_add(count);
            }
            _ => self.slots.push_back((now, count)),
        }
        while self
            .slots
            .front()
            .is_some_and(|(start, _)| now.saturating_sub(*start) >= self.span)
        {
            self.slots.pop_front();
        }
        self.slots
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

/// How long a condition has held without a break.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Held {
    since: Option<Duration>,
}

impl Held {
    /// Time for which `condition` has held, up to now; `None` when it does not.
    pub(crate) fn update(&mut self, now: Duration, condition: bool) -> Option<Duration> {
        if !condition {
            self.since = None;
            return None;
        }
        Some(now.saturating_sub(*self.since.get_or_insert(now)))
    }
}

/// Three of the last five: a lone bad sample is none.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Majority {
    recent: u8,
}

impl Majority {
    const OF: u32 = 5;
    const NEEDED: u32 = 3;
    /// How the rule reads in evidence.
    pub(crate) const RULE: &str = "3 of 5 samples";

    /// Takes a sample; true when enough of the last ones are bad.
    pub(crate) fn push(&mut self, bad: bool) -> bool {
        self.recent = (self.recent << 1 | u8::from(bad)) & ((1 << Self::OF) - 1);
        self.recent.count_ones() >= Self::NEEDED
    }
}

/// Holds a condition until it has not been seen for a time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latch {
    /// When it was last seen, once it holds.
    seen: Option<Duration>,
}

impl Latch {
    /// `trigger` sets it; `bad` keeps it from clearing. True while it holds.
    pub(crate) fn update(
        &mut self,
        now: Duration,
        trigger: bool,
        bad: bool,
        clear_after: Duration,
    ) -> bool {
        if bad && (trigger || self.seen.is_some()) {
            self.seen = Some(now);
        } else if self
            .seen
            .is_some_and(|seen| now.saturating_sub(seen) >= clear_after)
        {
            self.seen = None;
        }
        self.seen.is_some()
    }
}

/// A rate that stays too high for too long: a burst passes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sustained {
    minute: Window,
    held: Held,
    each_minute: u64,
    minutes: u32,
}

impl Sustained {
    pub(crate) fn new(each_minute: u64, minutes: u32) -> Self {
        let minute = Window::new(Duration::from_secs(60));
        Self {
            minute,
            held: Held::default(),
            each_minute,
            minutes,
        }
    }

    /// Adds what happened; the last minute's sum, and whether it has been too high for too long.
    pub(crate) fn add(&mut self, now: Duration, count: u64) -> (u64, bool) {
        let sum = self.minute.add(now, count);
        let held = self.held.update(now, sum >= self.each_minute);
        (
            sum,
            held.is_some_and(|held| held >= Duration::from_secs(60) * self.minutes),
        )
    }

    /// How the rule reads in evidence.
    pub(crate) fn rule(&self) -> String {
        format!(
            "less than {} a minute for {} min",
            self.each_minute, self.minutes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_counter_that_restarts_is_counted_from_zero() {
        let mut counter = Counter::default();
        assert_eq!(counter.step(1000), None);
        assert_eq!(counter.step(1003), Some(3));
        assert_eq!(counter.step(2), Some(2));
    }

    #[test]
    fn a_window_forgets_what_is_older_than_itself_and_stays_small() {
        let mut window = Window::new(seconds(3600));
        for second in 0..10_000 {
            window.add(seconds(second), 1);
        }
        assert!(window.slots.len() <= 61);
        assert_eq!(window.add(seconds(20_000), 0), 0);
    }

    #[test]
    fn a_burst_is_not_sustained_and_a_steady_rate_is() {
        let mut rate = Sustained::new(10, 5);
        assert!(!rate.add(seconds(0), 1000).1);
        assert!((1..600).all(|second| !rate.add(seconds(second), 0).1));
        assert!((600..1200).any(|second| rate.add(seconds(second), 1).1));
    }

    #[test]
    fn a_latch_clears_after_a_clean_time_only() {
        let mut latch = Latch::default();
        assert!(latch.update(seconds(0), true, true, seconds(10)));
        assert!(latch.update(seconds(9), false, true, seconds(10)));
        assert!(latch.update(seconds(18), true, false, seconds(10)));
        assert!(!latch.update(seconds(19), false, false, seconds(10)));
        assert!(!latch.update(seconds(20), false, true, seconds(10)));
    }
}
