//! When a record was printed, on the clock of the agent.
//!
//! The kernel stamps records by a clock of its own, `local_clock` (kernel/printk/printk.c): nobody disciplines it as NTP does
//! the others, so that it is minutes off after months, and it stands still while the host is suspended. What a stamp is
//! worth shows whenever the log was read to its end: a record that comes then was printed since.

use std::time::Duration;

/// Nanoseconds, with a sign.
type Nanos = i128;

/// What the kernel's stamps mean.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// When the log was last read to its end.
    read_out: Option<Duration>,
    /// By how much our clock is ahead of the stamps; the least correction that fits all that was seen.
    ahead: Nanos,
}

impl Clock {
    /// At this time there was nothing more to read.
    pub(super) fn read_out(&mut self, now: Duration) {
        self.read_out = Some(now);
    }

    /// When a record of this stamp was printed, that is read now.
    pub(super) fn printed(&mut self, stamp: Duration, now: Duration) -> Duration {
        let stamp = nanos(stamp);
        let latest = nanos(now).saturating_sub(stamp);
        if let Some(read_out) = self.read_out.filter(|read_out| *read_out <= now) {
            let earliest = nanos(read_out).saturating_sub(stamp);
            self.ahead = self.ahead.clamp(earliest, latest);
        } else {
            self.ahead = self.ahead.min(latest);
        }
        duration(stamp.saturating_add(self.ahead))
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

fn duration(nanos: Nanos) -> Duration {
    u64::try_from(nanos.max(0)).map_or(Duration::MAX, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_stamp_is_taken_as_it_is_while_nothing_speaks_against_it() {
        let mut clock = Clock::default();
        assert_eq!(clock.printed(seconds(100), seconds(5000)), seconds(100));
        clock.read_out(seconds(5000));
        assert_eq!(clock.printed(seconds(5001), seconds(5002)), seconds(5001));
    }

    #[test]
    fn what_comes_after_the_end_was_read_is_no_older_than_that() {
        let mut clock = Clock::default();
        let months = seconds(100 * 86_400);
        clock.read_out(months);
        // The kernel's clock is 20 minutes behind.
        let stamp = months - seconds(1200);
        assert_eq!(clock.printed(stamp, months + seconds(1)), months);
        // What could not be read for a while is told apart by that.
        let later = clock.printed(stamp + seconds(100), months + seconds(500));
        assert_eq!(later, months + seconds(100));
    }

    #[test]
    fn a_clock_that_is_ahead_is_found_out_by_a_record_of_the_future() {
        let mut clock = Clock::default();
        assert_eq!(clock.printed(seconds(5300), seconds(5000)), seconds(5000));
        assert_eq!(clock.printed(seconds(5310), seconds(5400)), seconds(5010));
    }

    proptest! {
        #[test]
        fn no_record_is_of_the_future_or_of_before_the_end_was_read(steps: Vec<(u64, u64, bool)>) {
            let mut clock = Clock::default();
            let (mut now, mut read_out) = (Duration::ZERO, Duration::ZERO);
            for (stamp, passes, ends) in steps {
                now += Duration::from_micros(passes >> 24);
                let printed = clock.printed(Duration::from_micros(stamp), now);
                prop_assert!(printed <= now && printed >= read_out, "{printed:?} of {read_out:?} to {now:?}");
                if ends {
                    clock.read_out(now);
                    read_out = now;
                }
            }
        }
    }
}
