//! What a chip does before it sleeps, and for how long it may.

use std::time::{Duration, Instant};

use super::Machine;
use crate::queue::Queue;

impl Machine {
    /// Tells the drivers of all queues whether a doorbell needs a KICK.
    pub(crate) fn set_parked(&self, parked: bool) {
        if self.profile.parking && self.serves() {
            for queue in self.queues.iter().flatten() {
                queue.set_parked(parked);
            }
        }
    }

    /// How long the engine may sleep; `None` is until somebody wakes it.
    pub(crate) fn sleep_limit(&self, now: Instant, nap: Duration) -> Option<Duration> {
        let mut limit = None;
        let deadlines = [
            self.life.boot_ends,
            self.life.watchdog_bites,
            self.wake_at.filter(|_| self.serves()),
            self.resources.plan.next_due(),
            self.ailments.next_change(),
            self.board.next_change(),
            self.queues
                .iter()
                .flatten()
                .filter_map(Queue::next_change)
                .min(),
        ];
        for deadline in deadlines.into_iter().flatten() {
            earlier(&mut limit, deadline);
        }
        let must_look = self.serves()
            && (self.blocked
                || !self.profile.parking
                || self.queues.iter().flatten().any(|queue| !queue.can_park()));
        if must_look {
            earlier(&mut limit, now + nap);
        }
        limit.map(|limit| limit.saturating_duration_since(now))
    }
}

/// Moves a limit forward to a time that comes before it.
pub(super) fn earlier(limit: &mut Option<Instant>, candidate: Instant) {
    *limit = Some(limit.map_or(candidate, |limit| limit.min(candidate)));
}
