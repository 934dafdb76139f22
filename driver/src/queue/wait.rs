//! Taking completions off a queue: at once, by polling, by interrupt.

use std::sync::Arc;

use auk_asic::Status;

use super::{Cause, Command, Completion, IoQueue, Ticket};
use crate::deadline::Deadline;
use crate::device::Watch;
use crate::error::Error;
use crate::ring::{Ended, Pending};

pub(super) const WHAT: &str = "a command";

/// The outcomes of the commands that have ended; see [`IoQueue::completions`].
#[derive(Debug)]
pub struct Completions<'a> {
    queue: &'a mut IoQueue,
}

impl Iterator for Completions<'_> {
    type Item = Completion;

    #[inline]
    fn next(&mut self) -> Option<Completion> {
        self.queue.next_completion()
    }
}

impl IoQueue {
    /// The outcome of a command that has ended, the oldest first; `None` when none has. Never waits.
    ///
    /// A loop around it must bring a deadline of its own, and ask [`Device::check`](crate::Device::check) now and then: a
    /// chip that is gone completes nothing.
    #[inline]
    pub fn poll(&mut self) -> Option<Completion> {
        self.completions().next()
    }

    /// The outcomes of all commands that have ended, the oldest first, until there is none. Never waits; as for
    /// [`IoQueue::poll`], deadlines are the caller's.
    #[inline]
    pub fn completions(&mut self) -> Completions<'_> {
        self.refresh();
        Completions { queue: self }
    }

    /// Learns of a reset, and rings the doorbell for what was pushed.
    #[inline]
    pub(super) fn refresh(&mut self) {
        if self.inner.life() != self.life && self.dead.is_none() {
            self.die(Cause::Reset);
        }
        // A chip that cannot be woken is found out by whoever waits for it.
        let _ = self.ring();
    }

    #[inline]
    fn next_completion(&mut self) -> Option<Completion> {
        if self.pair.uncollected() > 0 {
            return self.oldest_completion();
        }
        let (token, entry) = self.pair.reap_and_collect()?;
        let result = match entry.is_success() {
            true => Ok(entry.result),
            false => Err(self.failure(WHAT, Ended::by(entry)).boxed()),
        };
        Some(Completion {
            ticket: Ticket(token),
            result,
        })
    }

    #[cold]
    fn oldest_completion(&mut self) -> Option<Completion> {
        let (token, ended) = self.pair.collect_oldest()?;
        Some(Completion {
            ticket: Ticket(token),
            result: self.result(ended).map_err(Error::boxed),
        })
    }

    /// Waits for a command, as the queue's [`WaitMode`](super::WaitMode) says. Gives its result.
    ///
    /// # Errors
    /// [`Error::TimedOut`]: the command still runs; wait again, or [`IoQueue::abort`] it.
    /// [`Error::Command`] with the status when the chip failed it. [`Error::Faulted`], [`Error::Gone`],
    /// [`Error::Disconnected`], [`Error::QueueStopped`], [`Error::Stale`] when the queue ended first: then all its commands end as
    /// that. [`Error::UnknownTicket`] when its outcome was already collected.
    #[inline]
    pub fn wait(&mut self, ticket: Ticket, deadline: impl Into<Deadline>) -> Result<u64, Error> {
        let parked = self.pair.publish();
        if !parked && let Some(outcome) = self.try_collect(ticket) {
            return outcome;
        }
        self.wait_slowly(ticket, deadline.into())
    }

    /// Submits a command and waits for it, as the queue's [`WaitMode`](super::WaitMode) says.
    ///
    /// # Errors
    /// As [`IoQueue::submit`] and [`IoQueue::wait`]. A command that did not end in time is aborted first, so that its buffers
    /// are the caller's again; [`Error::CompletionLost`] when that has not brought its end either.
    pub fn run(
        &mut self,
        command: &Command<'_>,
        deadline: impl Into<Deadline>,
    ) -> Result<u64, Error> {
        let ticket = self.submit(command)?;
        self.finish_by(ticket, deadline.into())
    }

    /// [`IoQueue::run`] with the time of [`QueueOptions::timeout`](super::QueueOptions::timeout), which is what the chip advertises
    /// unless told.
    ///
    /// # Errors
    /// As [`IoQueue::run`].
    pub fn execute(&mut self, command: &Command<'_>) -> Result<u64, Error> {
        let ticket = self.submit(command)?;
        self.finish(ticket)
    }

    /// [`IoQueue::wait`] with the time of [`QueueOptions::timeout`](super::QueueOptions::timeout), from now on. A command that did not
    /// end in time is aborted, so that it has ended when this returns.
    ///
    /// # Errors
    /// As [`IoQueue::run`].
    pub fn finish(&mut self, ticket: Ticket) -> Result<u64, Error> {
        let deadline = Deadline::after(self.timeout);
        self.finish_by(ticket, deadline)
    }

    fn finish_by(&mut self, ticket: Ticket, deadline: Deadline) -> Result<u64, Error> {
        let result = self.wait(ticket, deadline);
        if let Err(error) = &result
            && self.pair.command_id(ticket.0).is_some()
        {
            let aborted = self.abort(ticket, self.inner.capabilities.timeouts().abort);
            if let Err(lost @ Error::CompletionLost { .. }) = &aborted {
                self.heal(lost);
            }
            // Its outcome, that it was aborted or lost, is told by the error that the caller gets.
            let _ = self.try_collect(ticket);
            if matches!(error, Error::TimedOut { .. }) {
                aborted?;
            }
        }
        result
    }

    /// Makes the queue's eventfd readable at the next completion; true when one is there already, and nothing is to be
    /// waited for. For a poll loop of one's own on [`IoQueue::event_fd`].
    pub fn arm(&mut self) -> bool {
        self.pair.arm()
    }

    /// The eventfd of the queue's interrupt; `None` when the bus has no interrupts.
    #[must_use]
    pub fn event_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inner
            .vector(self.number.get())
            .map(std::os::fd::AsFd::as_fd)
    }

    /// Looks at the ring; the outcome, if there is one.
    #[inline]
    fn try_collect(&mut self, ticket: Ticket) -> Option<Result<u64, Error>> {
        self.reap_all();
        match self.pair.collect(ticket.0) {
            Ok(Ended::Completed {
                status: Status::Success,
                result,
            }) => Some(Ok(result)),
            Ok(ended) => Some(Err(self.waited_in_vain(ended))),
            Err(Pending::Unknown) => Some(Err(Error::UnknownTicket)),
            Err(Pending::Running) => None,
        }
    }

    pub(super) fn result(&self, ended: Ended) -> Result<u64, Error> {
        match ended {
            Ended::Completed {
                status: Status::Success,
                result,
            } => Ok(result),
            _ => Err(self.failure(WHAT, ended)),
        }
    }

    /// Why a command that was waited for did not succeed. A chip that has stopped is dealt with as the policy says, which is not for a
    /// thread that only polls.
    #[cold]
    fn waited_in_vain(&mut self, ended: Ended) -> Error {
        let error = self.failure(WHAT, ended);
        if error.is_of_faulted_chip() {
            self.heal(&error);
        }
        error
    }

    #[cold]
    fn wait_slowly(&mut self, ticket: Ticket, deadline: Deadline) -> Result<u64, Error> {
        let inner = Arc::clone(&self.inner);
        let mut watch = Watch::new(&inner, WHAT, deadline).on_queue(self.number.get());
        loop {
            if self.inner.life() != self.life && self.dead.is_none() {
                self.die(Cause::Reset);
            }
            if let Some(outcome) = self.try_collect(ticket) {
                return outcome;
            }
            let paused = self.ring().and_then(|()| self.pause(&mut watch));
            let Err(error) = paused else {
                continue;
            };
            if let Some(cause) = Cause::of(&error) {
                self.die(cause);
            }
            // What came while the chip was looked at counts.
            let outcome = self.try_collect(ticket);
            self.heal(&error);
            return outcome.unwrap_or(Err(error));
        }
    }

    /// Looks after the chip if it is time to, then polls on or sleeps.
    fn pause(&mut self, watch: &mut Watch<'_>) -> Result<(), Error> {
        let sleeps = self.wait_mode.sleeps_after();
        if sleeps.is_none_or(|after| watch.waited() < after) {
            return watch.pause_polling();
        }
        let arrived = self.arm();
        watch.look()?;
        if arrived {
            return Ok(());
        }
        self.inner.wait_vector(self.number.get(), watch)
    }
}
