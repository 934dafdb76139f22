//! A queue that ended, or that lost a command, and the way back.

use std::sync::Arc;

use super::wait::WHAT;
use super::{Cause, IoQueue, Ticket};
use crate::deadline::Deadline;
use crate::device::{Ladder, Recovery, Step};
use crate::error::Error;

impl IoQueue {
    /// Makes the queue anew: the chip deletes it, and makes it again with another tag. Of one that a reset of the device has ended the
    /// latter alone. Afterwards the same object works.
    ///
    /// What was in flight ends, each once: as the queue ended if it had, and as [`Error::QueueReset`] if it had not. Outcomes that
    /// were not collected still can be. What the commands named is let go, because the chip is proven to be done with it.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the chip does not delete it, and what has become of the chip: the queue has then ended, and what its
    /// commands name is kept. [`Error::Stale`] when its context has ended with a former life of the device: make both again.
    pub fn reset(&mut self, deadline: impl Into<Deadline>) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        let deadline = deadline.into();
        let life = inner.running_life()?;
        if life != self.life && self.context.number() != 0 {
            return Err(inner.stale("queue's context"));
        }
        inner.check_admin()?;
        if self.dead.is_none() {
            self.die(match life == self.life {
                true => Cause::QueueReset,
                false => Cause::Reset,
            });
        }
        self.delete_on_chip(deadline)?;
        let number = self.number.get();
        self.pair.renew(inner.doorbell(number)?, self.another_tag());
        self.life = life;
        self.create()?;
        self.lost_by = self.dead.take();
        Ok(())
    }

    /// Brings back a queue whose commands do not end: climbs the reset ladder from the smallest step that can help up to `most`.
    /// Afterwards the queue works, and nothing is in flight on it: commands that ran were aborted, if that was enough, or have
    /// ended with the queue or the device.
    ///
    /// # Errors
    /// [`Error::NotRecovered`], [`Error::Resetting`], and those of [`IoQueue::reset`] after a step that ended all of the device.
    pub fn recover(&mut self, most: Step) -> Result<Recovery, Error> {
        let inner = Arc::clone(&self.inner);
        let mut ladder = Ladder::new(&inner);
        let mut wrong = match self.check_alive() {
            Err(ended) => ended,
            Ok(()) => match ladder.climb(Step::Abort, || self.abort_all()) {
                Ok(()) => return Ok(ladder.done()),
                Err(error) => error,
            },
        };
        if most >= Step::QueueReset {
            let serves = inner.check_serving(WHAT);
            let time = self.reset_time();
            match serves.and_then(|()| ladder.climb(Step::QueueReset, || self.reset(time))) {
                Ok(()) => return Ok(ladder.done()),
                Err(error) => wrong = error,
            }
        }
        if most <= Step::QueueReset {
            return Err(ladder.failed(wrong));
        }
        ladder.add(inner.recover(None, most)?);
        let time = self.reset_time();
        ladder.climb(Step::QueueReset, || self.reset(time))?;
        Ok(ladder.done())
    }

    /// What the policy says of an error that a wait has met.
    #[cold]
    pub(super) fn heal(&mut self, error: &Error) {
        match error {
            Error::QueueStopped { .. } | Error::CompletionLost { .. } => {
                if self.inner.policy.up_to().is_none() {
                    return;
                }
                let inner = Arc::clone(&self.inner);
                let result =
                    Ladder::new(&inner).climb(Step::QueueReset, || self.reset(self.reset_time()));
                if let Err(error) = result {
                    self.inner.met(self.life, &error);
                }
            }
            error => self.inner.met(self.life, error),
        }
    }

    /// From now on.
    fn reset_time(&self) -> Deadline {
        Deadline::after(self.inner.capabilities.timeouts().queue)
    }

    /// Aborts all that runs.
    fn abort_all(&mut self) -> Result<(), Error> {
        self.inner.check_queue(WHAT, self.number.get())?;
        let deadline = Deadline::after(self.inner.capabilities.timeouts().abort);
        let running: Vec<_> = self.pair.running().map(Ticket).collect();
        for ticket in running {
            self.abort(ticket, deadline)?;
        }
        Ok(())
    }

    /// A tag by which completions of the queue's life so far are not taken for those of the next.
    fn another_tag(&self) -> u16 {
        match crate::random::tag() {
            tag if tag == self.pair.tag() => tag.wrapping_add(1),
            tag => tag,
        }
    }
}
