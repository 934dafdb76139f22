//! What checks keep of the past: counters, windows, majorities and latches. All bounded.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{self, Keys, Section};

/// A counter that only grows, but for the resets of whoever counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    last: Option<(u64, Duration)>,
}

/// How much a counter grew, and in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) count: u64,
    over: Duration,
}

impl Growth {
    /// So many things that happened now.
    pub(crate) fn at_once(count: u64) -> Self {
        Self {
            count,
            over: Duration::ZERO,
        }
    }

    /// One thing that happened now, or none.
    pub(crate) fn now(happened: bool) -> Self {
        Self::at_once(u64::from(happened))
    }

    /// The time in which it grew.
    pub(crate) const fn over(self) -> Duration {
        self.over
    }

    /// The part of it in the last `span`, as if it had grown evenly: what an agent that was away for a day counts at its
    /// return is not the rate of this minute.
    fn within(self, span: Duration) -> u64 {
        if self.over <= span {
            return self.count;
        }
        let part = u128::from(self.count) * span.as_millis() / self.over.as_millis().max(1);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl Counter {
    /// How much it grew since the last look; `None` at first sight, when its total says nothing
    /// about when. After a reset all that it shows is new.
    pub(crate) fn step(&mut self, now: Duration, value: u64) -> Option<Growth> {
        let (last, at) = self.last.replace((value, now))?;
        Some(Growth {
            count: value.checked_sub(last).unwrap_or(value),
            over: now.saturating_sub(at),
        })
    }

    /// As [`step`](Self::step), of a count that a card keeps and not the kernel: one that went back was wrapped, saturated or
    /// read half, so nothing of it is known to be new.
    pub(crate) fn forward(&mut self, now: Duration, value: u64) -> Option<Growth> {
        let went_back = self.last.is_some_and(|(last, _)| value < last);
        let growth = self.step(now, value)?;
        Some(Growth {
            count: if went_back { 0 } else { growth.count },
            ..growth
        })
    }
}

/// The sum of what happened in the last so many seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Start of a slot, and what happened in it.
    slots: VecDeque<(Duration, u64)>,
}

impl Window {
    /// Slots in a window: its resolution, and a bound to its memory.
    const SLOTS: u32 = 60;

    /// Adds what happened, and gives the sum of the last `span`.
    pub(crate) fn add(&mut self, now: Duration, span: Duration, growth: Growth) -> u64 {
        let slot = span / Self::SLOTS;
        let count = growth.within(span);
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
            .is_some_and(|(start, _)| now.saturating_sub(*start) >= span)
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

/// How many of how many samples must be bad.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Samples {
    bad: u32,
    of: u32,
}

impl Default for Samples {
    fn default() -> Self {
        Self { bad: 3, of: 5 }
    }
}

impl Section for Samples {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "a lone bad sample is none";
        keys.within("bad_samples", &mut self.bad, 1..=MOST_SAMPLES, why);
        let why = "so many of the last samples are looked at";
        keys.within("of_samples", &mut self.of, 1..=MOST_SAMPLES, why);
        keys.require(self.bad <= self.of, &["bad_samples", "of_samples"], || {
            format!("at most of_samples, which is {}", self.of)
        });
    }
}

impl std::fmt::Display for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} samples", self.bad, self.of)
    }
}

/// Samples that a [`Majority`] remembers.
const MOST_SAMPLES: u32 = 8;

/// Enough of the last few: a lone bad sample is none.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Majority {
    recent: u8,
}

impl Majority {
    /// Takes a sample; true when enough of the last ones are bad.
    pub(crate) fn push(&mut self, bad: bool, rule: Samples) -> bool {
        self.recent = self.recent << 1 | u8::from(bad);
        let looked_at = u8::MAX >> MOST_SAMPLES.saturating_sub(rule.of);
        (self.recent & looked_at).count_ones() >= rule.bad
    }
}

/// Holds a condition until it has not been seen for a time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
        self.holds()
    }

    /// Whether it holds, as far as was looked.
    pub(crate) fn holds(&self) -> bool {
        self.seen.is_some()
    }
}

/// A rate that stays too high for too long: a burst passes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sustained {
    minute: Window,
    held: Held,
}

/// A rate, and for how long it may be that high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) each_minute: u64,
    pub(crate) lasting: Duration,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lasting = config::duration(self.lasting);
        write!(f, "less than {} a minute for {lasting}", self.each_minute)
    }
}

impl Sustained {
    /// Adds what happened; the last minute's sum, and whether it has been too high for too long.
    pub(crate) fn add(&mut self, now: Duration, growth: Growth, limit: Limit) -> (u64, bool) {
        let sum = self.minute.add(now, Duration::from_secs(60), growth);
        let held = self.held.update(now, sum >= limit.each_minute);
        (sum, held.is_some_and(|held| held >= limit.lasting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn growth(count: u64) -> Growth {
        Growth {
            count,
            over: seconds(1),
        }
    }

    #[test]
    fn a_counter_that_restarts_is_counted_from_zero() {
        let mut counter = Counter::default();
        let mut step = |value| counter.step(seconds(1), value).map(|growth| growth.count);
        assert_eq!(step(1000), None);
        assert_eq!(step(1003), Some(3));
        assert_eq!(step(2), Some(2));
    }

    #[test]
    fn of_a_cards_count_that_went_back_nothing_is_new() {
        let mut counter = Counter::default();
        let mut step = |value| {
            counter
                .forward(seconds(1), value)
                .map(|growth| growth.count)
        };
        assert_eq!(step(4_294_967_290), None);
        assert_eq!(step(3), Some(0));
        assert_eq!(step(5), Some(2));
    }

    #[test]
    fn a_window_forgets_what_is_older_than_itself_and_stays_small() {
        let mut window = Window::default();
        for second in 0..10_000 {
            window.add(seconds(second), seconds(3600), growth(1));
        }
        assert!(window.slots.len() <= 61);
        assert_eq!(window.add(seconds(20_000), seconds(3600), growth(0)), 0);
    }

    #[test]
    fn what_grew_in_a_day_is_not_the_rate_of_an_hour() {
        let mut counter = Counter::default();
        counter.step(seconds(0), 0);
        let day = counter.step(seconds(86_400), 2400).unwrap();
        let sum = Window::default().add(seconds(86_400), seconds(3600), day);
        assert_eq!(sum, 100);
    }

    #[test]
    fn a_burst_is_not_sustained_and_a_steady_rate_is() {
        let limit = Limit {
            each_minute: 10,
            lasting: seconds(300),
        };
        let mut rate = Sustained::default();
        let mut add = |second, count| rate.add(seconds(second), growth(count), limit).1;
        assert!(!add(0, 1000));
        assert!((1..600).all(|second| !add(second, 0)));
        assert!((600..1200).any(|second| add(second, 1)));
    }

    #[test]
    fn as_many_samples_are_looked_at_as_the_rule_says() {
        let rule = |bad, of| Samples { bad, of };
        let mut majority = Majority::default();
        assert!(!majority.push(true, rule(2, 8)));
        assert!((0..6).all(|_| !majority.push(false, rule(2, 8))));
        assert!(majority.push(true, rule(2, 8)));
        assert!(!majority.push(false, rule(2, 2)));
        assert!(majority.push(true, rule(1, 1)));
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
