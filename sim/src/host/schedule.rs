//! Faults of NICs that wait for their time.

use std::time::{Duration, Instant};

use crate::inject::{InjectError, Injection, Trigger, Verb};

/// One fault that waits.
struct Waiting {
    nic: usize,
    verb: Verb,
    due: Instant,
    every: Duration,
    /// How often it is still to happen; `None` is without an end.
    left: Option<u64>,
}

/// All that wait.
#[derive(Default)]
pub(crate) struct Schedule {
    waiting: Vec<Waiting>,
}

impl Schedule {
    /// Has a fault of a NIC wait.
    pub(crate) fn add(&mut self, nic: usize, injection: &Injection, now: Instant) {
        let Injection { verb, when, .. } = injection;
        self.waiting.push(Waiting {
            nic,
            verb: verb.clone(),
            due: now + Duration::from_millis(when.after_ms),
            every: Duration::from_millis(when.every_ms),
            left: (when.times > 0).then_some(when.times),
        });
    }

    /// Nothing of a NIC waits any more.
    pub(crate) fn clear(&mut self, nic: usize) {
        self.waiting.retain(|waiting| waiting.nic != nic);
    }

    /// What happens by now, to which NIC, in the order of time.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(usize, Verb)> {
        let mut happens = Vec::new();
        for waiting in &mut self.waiting {
            while waiting.due <= now && waiting.left != Some(0) {
                happens.push((waiting.due, waiting.nic, waiting.verb.clone()));
                waiting.due += waiting.every.max(Duration::from_millis(1));
                waiting.left = waiting.left.map(|left| left - 1);
            }
        }
        self.waiting.retain(|waiting| waiting.left != Some(0));
        happens.sort_by_key(|(due, ..)| *due);
        let happens = happens.into_iter();
        happens.map(|(_, nic, verb)| (nic, verb)).collect()
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }
}

/// # Errors
/// [`InjectError::OutOfRange`] for what a NIC has no occasion for.
pub(crate) fn check(verb: &Verb, when: &Trigger) -> Result<(), InjectError> {
    when.check(verb)?;
    let nothing = Trigger {
        after_ms: when.after_ms,
        every_ms: when.every_ms,
        times: when.times,
        seed: when.seed,
        ..Trigger::default()
    };
    if *when == nothing {
        return Ok(());
    }
    Err(InjectError::OutOfRange {
        verb: verb.name(),
        reason: "a simulated NIC runs no commands and has no registers: its faults wait for after_ms, every_ms and times only"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_happen_at_their_time_and_as_often_as_was_said() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut schedule = Schedule::default();
        let when = Trigger {
            after_ms: 100,
            every_ms: 10,
            times: 3,
            ..Trigger::default()
        };
        let drops = Injection::new("eth0", Verb::PortDrops { count: 1 }).when(when);
        schedule.add(0, &drops, now);
        schedule.add(1, &Injection::new("eth1", Verb::DriverReload), now);
        assert_eq!(schedule.due(now), [(1, Verb::DriverReload)]);
        assert_eq!(schedule.next(), Some(at(100)));
        assert_eq!(schedule.due(at(99)), []);
        assert_eq!(schedule.due(at(110)).len(), 2);
        assert_eq!(schedule.due(at(9000)).len(), 1);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn healing_one_nic_leaves_what_waits_for_another() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for nic in [0, 1] {
            schedule.add(nic, &Injection::new("", Verb::DriverReload), now);
        }
        schedule.clear(0);
        assert_eq!(schedule.due(now), [(1, Verb::DriverReload)]);
    }
}
