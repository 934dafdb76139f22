//! Commands as futures, on tokio.
//!
//! The futures of one queue stay on one thread, as the queue does: run them by `block_on`, on a current-thread runtime or in
//! a `LocalSet`. Polling one takes no lock and, while completions come, makes no system call.

mod interrupt;
mod waiters;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep_until};

use super::wait::WHAT;
use super::{Cause, Command, IoQueue, Ticket};
use crate::deadline::Deadline;
use crate::device::{Looks, Pulse};
use crate::error::Error;
use crate::ring::Pending;
use interrupt::Interrupt;
use waiters::Waiters;

/// Looks at the queue in one poll of a future before the task's others have their turn.
const MOST_LOOKS: u32 = 16;

/// An I/O queue whose commands are futures. See [`IoQueue::into_async`].
#[derive(Debug)]
pub struct AsyncQueue {
    interrupt: Option<Interrupt>,
    state: RefCell<State>,
}

struct State {
    queue: IoQueue,
    waiters: Waiters,
    /// Whose task the interrupt and the timer wake: that of the future that was polled last and has to wait.
    watcher: Option<Ticket>,
    timer: Pin<Box<Sleep>>,
    looks: Looks,
    pulse: Pulse,
    /// A look at the chip, on a thread that may block.
    look: Option<JoinHandle<Look>>,
}

/// What a look at the chip has found.
struct Look {
    checked: Result<(), Error>,
    beat: Option<u32>,
}

/// A submitted command. Its output is the command's result.
///
/// The doorbell is rung when any future of the queue is polled, so that commands that are submitted together cost one. When it
/// is dropped the command runs on, and holds on to what it names until it has ended; nobody learns how. Once it was polled it
/// must be polled on when its task is woken, or be dropped: not leaked, and not kept unpolled as by a `timeout` of a
/// reference to it. Others may wait for it to look after the queue.
#[derive(Debug)]
#[must_use = "the command may not be started before a future of its queue is polled"]
pub struct Submitted<'a> {
    queue: &'a AsyncQueue,
    ticket: Result<Ticket, Option<Error>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("queue", &self.queue)
            .field("watcher", &self.watcher)
            .finish_non_exhaustive()
    }
}

impl IoQueue {
    /// Makes futures of this queue's commands. To be called, and the futures to be polled, in a tokio runtime with its I/O and
    /// time drivers. What has ended and was not collected is not told any more.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use auk_driver::{Command, Device, Error, QueueOptions};
    /// # async fn example(device: &Device, commands: &[Command<'_>]) -> Result<(), Error> {
    /// let queue = device.create_queue(&QueueOptions::default())?.into_async()?;
    /// let submitted: Vec<_> = commands
    ///     .iter()
    ///     .map(|command| queue.submit(command, Duration::from_secs(1)))
    ///     .collect();
    /// for command in submitted {
    ///     println!("{}", command.await?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::System`] outside of a tokio runtime, or when the interrupt's eventfd cannot be watched.
    pub fn into_async(mut self) -> Result<AsyncQueue, Error> {
        let interrupt = self.event_fd().map(Interrupt::watch).transpose();
        let interrupt = interrupt.map_err(|source| Error::System {
            what: "watching an interrupt in a tokio runtime",
            source,
        })?;
        self.completions().for_each(drop);
        let now = Instant::now();
        let state = State {
            waiters: Waiters::new(self.pair.depth()),
            queue: self,
            watcher: None,
            timer: Box::pin(sleep_until(now.into())),
            looks: Looks::new(now),
            pulse: Pulse::default(),
            look: None,
        };
        Ok(AsyncQueue {
            interrupt,
            state: RefCell::new(state),
        })
    }
}

impl AsyncQueue {
    /// Submits a command. An error of submitting it, such as [`Error::QueueFull`], is the future's output too.
    pub fn submit(&self, command: &Command<'_>, deadline: impl Into<Deadline>) -> Submitted<'_> {
        let state = &mut *self.state.borrow_mut();
        let ticket = state.queue.push(command).map_err(Some);
        if let Ok(ticket) = ticket {
            state.waiters.begin(ticket, deadline.into());
        }
        Submitted {
            queue: self,
            ticket,
        }
    }

    /// The queue, for polling. Commands in flight go on.
    #[must_use]
    pub fn into_inner(self) -> IoQueue {
        self.state.into_inner().queue
    }

    fn poll(&self, ticket: Ticket, context: &mut Context<'_>) -> Poll<Result<u64, Error>> {
        // A hostile chip can write completions of no command as fast as they are passed over.
        for _ in 0..MOST_LOOKS {
            let state = &mut *self.state.borrow_mut();
            state.reap();
            if let Some(outcome) = state.outcome(ticket) {
                return Poll::Ready(outcome);
            }
            state.waiters.wait(ticket, context.waker());
            state.watcher = Some(ticket);
            let looked = state.look(context)?;
            if !(state.queue.arm() || looked || self.has_fired(context)?) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the interrupt has fired; if not, it will wake the task.
    fn has_fired(&self, context: &mut Context<'_>) -> Result<bool, Error> {
        match &self.interrupt {
            Some(interrupt) => interrupt.has_fired(context),
            None => Ok(false),
        }
    }

    /// A future waits no more.
    fn leave(&self, ticket: Ticket) {
        self.state.borrow_mut().leave(ticket);
        self.wake();
    }

    /// Wakes whose commands have ended; not while the queue is borrowed, because a waker may do anything.
    fn wake(&self) {
        loop {
            let next = self.state.borrow_mut().waiters.next_to_wake();
            let Some(waker) = next else {
                return;
            };
            waker.wake();
        }
    }
}

impl State {
    /// Rings the doorbell, and tells the futures of commands that have ended.
    fn reap(&mut self) {
        self.queue.refresh();
        let pair = &mut self.queue.pair;
        while let Some(token) = pair.reap() {
            if !self.waiters.end(Ticket(token)) {
                // Nobody else can have collected it.
                let _ = pair.collect(token);
            }
        }
        if self.queue.dead.is_some() {
            self.waiters.end_all();
        }
    }

    /// How a wait has ended, if it has.
    fn outcome(&mut self, ticket: Ticket) -> Option<Result<u64, Error>> {
        match self.queue.pair.collect(ticket.0) {
            Ok(ended) => Some(self.queue.result(ended)),
            Err(Pending::Unknown) => Some(Err(Error::UnknownTicket)),
            Err(Pending::Running) => self.waiters.late(ticket).map(Err),
        }
    }

    /// A future waits no more. If it watched the queue for the others, another does.
    fn leave(&mut self, ticket: Ticket) {
        self.waiters.forget(ticket);
        // Its outcome, if it has ended, is nobody's.
        let _ = self.queue.pair.collect(ticket.0);
        // Without a watcher one was woken to be it, which may be dropped before it is polled.
        if self.watcher.is_none_or(|watcher| watcher == ticket) {
            self.watcher = None;
            self.waiters.wake_any();
        }
    }

    /// Looks at the chip when it is time to, and at deadlines; true when a wait may have ended by that. If not, what it
    /// waits for wakes the task.
    fn look(&mut self, context: &mut Context<'_>) -> Result<bool, Error> {
        loop {
            if let Some(look) = &mut self.look {
                let Poll::Ready(found) = Pin::new(look).poll(context) else {
                    return Ok(false);
                };
                self.look = None;
                return self.learn(found).map(|()| true);
            }
            let due = self.waiters.first_deadline();
            let due = due.map_or(self.looks.next(), |deadline| {
                deadline.instant().min(self.looks.next())
            });
            self.timer.as_mut().reset(due.into());
            if self.timer.as_mut().poll(context).is_pending() {
                return Ok(false);
            }
            let (inner, number) = (self.queue.inner.clone(), self.queue.number());
            self.look = Some(tokio::task::spawn_blocking(move || Look {
                checked: inner.check_queue(WHAT, number),
                beat: inner.heartbeat(),
            }));
        }
    }

    fn learn(&mut self, found: Result<Look, tokio::task::JoinError>) -> Result<(), Error> {
        let now = Instant::now();
        self.looks.had(now);
        let look = found.map_err(|error| Error::System {
            what: "looking at the chip",
            source: std::io::Error::other(error),
        })?;
        self.pulse.note(look.beat, now);
        if let Err(error) = look.checked {
            let Some(cause) = Cause::of(&error) else {
                return Err(error);
            };
            self.queue.die(cause);
            // Resets wait. Nobody waits for this one: whoever uses the device meanwhile is told.
            let (inner, life) = (self.queue.inner.clone(), self.queue.life);
            drop(tokio::task::spawn_blocking(move || {
                inner.met(life, &error);
            }));
        }
        // What came while the chip was looked at counts.
        self.reap();
        let (device, heartbeat) = (&self.queue.inner.name, self.pulse.heartbeat(now));
        self.waiters.expire(|deadline| Error::TimedOut {
            device: device.clone(),
            what: WHAT,
            waited: deadline.elapsed(),
            heartbeat,
        });
        Ok(())
    }
}

impl Future for Submitted<'_> {
    type Output = Result<u64, Error>;

    /// Polled again after it has ended, it says [`Error::UnknownTicket`].
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = match &mut self.ticket {
            Ok(ticket) => *ticket,
            Err(error) => return Poll::Ready(Err(error.take().unwrap_or(Error::UnknownTicket))),
        };
        let outcome = self.queue.poll(ticket, context);
        self.queue.wake();
        let outcome = ready!(outcome);
        self.queue.leave(ticket);
        self.ticket = Err(None);
        Poll::Ready(outcome)
    }
}

impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        if let Ok(ticket) = self.ticket {
            self.queue.leave(ticket);
        }
    }
}
