//! When a queue's interrupt fires.

use std::time::{Duration, Instant};

use auk_asic::admin::Coalescing;
use auk_asic::doorbell::Arm;

/// What a look at CQ_ARM leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing to do until the driver arms or a command completes.
    Quiet,
    /// The interrupt fires now.
    Fire,
    /// The interrupt fires then, unless enough completions come first.
    At(Instant),
}

/// The state of one queue's arming.
#[derive(Debug)]
pub(crate) struct Arming {
    coalescing: Coalescing,
    /// The armed value that fired last; it stays without effect until it changes.
    spent: u32,
    /// When the first completion past the armed index was seen.
    since: Option<Instant>,
}

impl Arming {
    pub(crate) fn new(coalescing: Coalescing) -> Self {
        Self {
            coalescing,
            spent: 0,
            since: None,
        }
    }

    pub(crate) fn set_coalescing(&mut self, coalescing: Coalescing) {
        self.coalescing = coalescing;
    }

    /// Looks at CQ_ARM, with so many completions posted.
    #[inline]
    pub(crate) fn look(
        &mut self,
        arm: u32,
        completed: u32,
        clock: impl Fn() -> Instant,
    ) -> Verdict {
        if arm == self.spent {
            return Verdict::Quiet;
        }
        let wanted = Arm::from_bits(arm);
        // Both count modulo 2^16 and differ by a depth at most; a difference of more than half
        // the numbers is a driver that claims to have seen what is yet to come.
        let past = (completed as u16).wrapping_sub(wanted.consumed());
        if !wanted.armed() || past == 0 || past > u16::MAX / 2 {
            self.since = None;
            return Verdict::Quiet;
        }
        let enough = u32::from(past) >= self.coalescing.count().max(1);
        if !enough && self.coalescing.microseconds() != 0 {
            let now = clock();
            let delay = Duration::from_micros(u64::from(self.coalescing.microseconds()));
            let due = *self.since.get_or_insert(now) + delay;
            if now < due {
                return Verdict::At(due);
            }
        }
        self.since = None;
        self.spent = arm;
        Verdict::Fire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(consumed: u16, sequence: u16) -> u32 {
        Arm::new()
            .with_consumed(consumed)
            .with_sequence(sequence)
            .with_armed(true)
            .into_bits()
    }

    #[test]
    fn an_armed_queue_fires_at_the_first_completion_past_the_index() {
        let mut arming = Arming::new(Coalescing::new());
        assert_eq!(arming.look(arm(5, 1), 5, Instant::now), Verdict::Quiet);
        assert_eq!(arming.look(arm(5, 1), 6, Instant::now), Verdict::Fire);
    }

    #[test]
    fn one_arming_fires_once() {
        let mut arming = Arming::new(Coalescing::new());
        assert_eq!(arming.look(arm(0, 1), 1, Instant::now), Verdict::Fire);
        assert_eq!(arming.look(arm(0, 1), 2, Instant::now), Verdict::Quiet);
        assert_eq!(arming.look(arm(0, 2), 2, Instant::now), Verdict::Fire);
    }

    #[test]
    fn the_index_wraps_at_sixteen_bits() {
        let mut arming = Arming::new(Coalescing::new());
        assert_eq!(
            arming.look(arm(0xFFFF, 1), 0x1_0000, Instant::now),
            Verdict::Fire
        );
    }

    #[test]
    fn coalescing_waits_for_the_count_or_the_time() {
        let rule = Coalescing::new().with_count(3).with_microseconds(1_000);
        let start = Instant::now();
        let mut arming = Arming::new(rule);
        let due = start + Duration::from_millis(1);
        assert_eq!(arming.look(arm(0, 1), 1, || start), Verdict::At(due));
        assert_eq!(arming.look(arm(0, 1), 3, || start), Verdict::Fire);
        assert_eq!(arming.look(arm(3, 2), 4, || start), Verdict::At(due));
        assert_eq!(arming.look(arm(3, 2), 4, || due), Verdict::Fire);
    }

    #[test]
    fn a_count_without_a_time_fires_at_once() {
        let mut arming = Arming::new(Coalescing::new().with_count(8));
        assert_eq!(arming.look(arm(0, 1), 1, Instant::now), Verdict::Fire);
    }
}
