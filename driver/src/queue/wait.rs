//! Taking completions off a queue: at once, by polling, by interrupt.

use std::sync::Arc;

use auk_asic::Status;

use super::{Cause, Command, Completion, IoQueue, Ticket};
use crate::deadline::Deadline;
use crate::device::{QueuePair, Watch};
use crate::error::Error;
use crate::ring::{Ended, Pending, Token};

const WHAT: &str = "a command";

impl IoQueue {
    /// The outcome of a command that has ended, the oldest first; `None` when none has. Never waits.
    ///
    /// A loop around it must bring a deadline of its own, and ask [`Device::check`](crate::Device::check) now and then: a
    /// chip that is gone completes nothing.
    #[inline]
    pub fn poll(&mut self) -> Option<Completion> {
        if self.inner.life() != self.life && self.dead.is_none() {
            self.die(Cause::Reset);
        }
        // A chip that cannot be woken is found out by whoever waits for it.
        let _ = self.ring();
        let (token, ended) = self.pair.as_mut()?.poll()?;
        let ticket = Ticket {
            queue: self.serial,
            token,
        };
        // An error is a large thing: on the way of success none is made room for.
        if let Ended::Completed {
            status: Status::Success,
            result,
        } = ended
        {
            return Some(Completion {
                ticket,
                result: Ok(result),
            });
        }
        Some(Completion {
            ticket,
            result: self.failure(WHAT, ended),
        })
    }

    /// Waits for a command by polling. Gives its result.
    ///
    /// # Errors
    /// [`Error::TimedOut`]: the command still runs; wait again, or [`IoQueue::abort`] it.
    /// [`Error::Command`] with the status when the chip failed it. [`Error::Faulted`], [`Error::Gone`],
    /// [`Error::Disconnected`], [`Error::QueueStopped`], [`Error::Stale`] when the queue ended first: then all its commands end as
    /// that. [`Error::UnknownTicket`] when its outcome was already collected.
    #[inline]
    pub fn wait(&mut self, ticket: Ticket, deadline: impl Into<Deadline>) -> Result<u64, Error> {
        let token = self.token(ticket)?;
        let parked = self.pair.as_mut().is_some_and(QueuePair::publish);
        if !parked && let Some(outcome) = self.try_collect(token) {
            return outcome;
        }
        self.wait_slowly(token, deadline.into(), false)
    }

    /// Waits for a command asleep on the queue's interrupt. Gives its result.
    ///
    /// # Errors
    /// As [`IoQueue::wait`].
    pub fn wait_interrupt(
        &mut self,
        ticket: Ticket,
        deadline: impl Into<Deadline>,
    ) -> Result<u64, Error> {
        let token = self.token(ticket)?;
        self.wait_slowly(token, deadline.into(), true)
    }

    /// Submits a command and waits for it by polling.
    ///
    /// # Errors
    /// As [`IoQueue::submit`] and [`IoQueue::wait`]. A command that did not end in time is aborted first, so that its buffers
    /// are the caller's again.
    pub fn run(
        &mut self,
        command: &Command<'_>,
        deadline: impl Into<Deadline>,
    ) -> Result<u64, Error> {
        let ticket = self.submit(command)?;
        let result = self.wait(ticket, deadline);
        if let Err(Error::TimedOut { .. }) = &result {
            let abort = self.inner.capabilities.timeouts().abort;
            self.abort(ticket, abort)?;
            // Its outcome, that it was aborted, is told by the error that the caller gets.
            let token = self.token(ticket)?;
            let _ = self.try_collect(token);
        }
        result
    }

    /// Makes the queue's eventfd readable at the next completion; true when one is there already, and nothing is to be
    /// waited for. For a poll loop of one's own on [`IoQueue::event_fd`].
    pub fn arm(&mut self) -> bool {
        self.pair.as_mut().is_some_and(QueuePair::arm)
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
    fn try_collect(&mut self, token: Token) -> Option<Result<u64, Error>> {
        self.reap_all();
        let pair = self.pair.as_mut()?;
        match pair.collect(token) {
            Ok(Ended::Completed {
                status: Status::Success,
                result,
            }) => Some(Ok(result)),
            Ok(ended) => Some(self.failure(WHAT, ended)),
            Err(Pending::Unknown) => Some(Err(Error::UnknownTicket)),
            Err(Pending::Running) => None,
        }
    }

    #[cold]
    fn wait_slowly(
        &mut self,
        token: Token,
        deadline: Deadline,
        asleep: bool,
    ) -> Result<u64, Error> {
        let inner = Arc::clone(&self.inner);
        let mut watch = Watch::new(&inner, WHAT, deadline).on_queue(self.number.get());
        loop {
            if self.inner.life() != self.life && self.dead.is_none() {
                self.die(Cause::Reset);
            }
            if let Some(outcome) = self.try_collect(token) {
                return outcome;
            }
            let paused = self.ring().and_then(|()| {
                if !asleep {
                    return watch.pause_polling();
                }
                let arrived = self.arm();
                watch.look()?;
                if arrived {
                    return Ok(());
                }
                inner.wait_vector(self.number.get(), &watch)
            });
            let Err(error) = paused else {
                continue;
            };
            if let Some(cause) = Cause::of(&error) {
                self.die(cause);
            }
            // What came while the chip was looked at counts.
            return self.try_collect(token).unwrap_or(Err(error));
        }
    }
}
