//! I/O queues: submit, poll, wait, cancel. One thread owns one queue; queues share no lock.
//!
//! The way of a command: [`IoQueue::submit`] writes it to the ring and rings the doorbell; [`IoQueue::poll`] or
//! [`IoQueue::wait`] takes its completion off the other ring. Neither allocates, locks or makes a system call, as long as
//! completions come: only a wait that finds none looks at the chip now and then, and only a chip that parks must be woken.
//!
//! ```no_run
//! use std::time::Duration;
//! use auk_driver::{Command, Device, QueueOptions};
//!
//! # fn example(device: &Device) -> Result<(), auk_driver::Error> {
//! let mut queue = device.create_queue(&QueueOptions::default())?;
//! let host = device.buffer(4096)?;
//! let local = device.alloc(4096)?;
//! host.write(0, b"a tensor")?;
//!
//! let ticket = queue.submit(&Command::copy(&local, &host, 4096))?;
//! queue.wait(ticket, Duration::from_secs(1))?;
//! # Ok(())
//! # }
//! ```

mod command;
#[cfg(feature = "tokio")]
mod future;
mod health;
mod options;
mod recovery;
mod stage;
mod wait;
mod wait_mode;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use auk_asic::admin::{AdminCommand, Coalescing, QueueShape};
use auk_asic::{Fault, State, Status};

pub use command::{Command, Place};
#[cfg(feature = "tokio")]
pub use future::{AsyncQueue, Submitted};
pub use health::QueueHealth;
pub use options::QueueOptions;
pub use wait::Completions;
pub use wait_mode::WaitMode;

use crate::bus::BusError;
use crate::deadline::Deadline;
use crate::device::{ContextId, Device, Inner, Life, QueueNumber, QueuePair};
use crate::error::Error;
use crate::ring::{Ended, Token};
use command::Holds;

/// A command that was submitted; its outcome can be had once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(Token);

/// A command that has ended.
#[derive(Debug)]
pub struct Completion {
    /// Which one.
    pub ticket: Ticket,
    /// Its result, or why there is none. Results are 0 unless the opcode's table in `docs/hardware.md` names one. Boxed, so
    /// that success makes no room for an error.
    pub result: Result<u64, Box<Error>>,
}

/// An I/O queue. It can move to another thread, but belongs to one at a time.
///
/// When it is dropped, the chip deletes it; what its commands name stays alive until the chip has said that it is done.
#[derive(Debug)]
pub struct IoQueue {
    /// Before `inner`, whose end would take its memory's mappings away.
    pair: QueuePair<Holds>,
    inner: Arc<Inner>,
    number: QueueNumber,
    context: ContextId,
    coalescing: Coalescing,
    life: Life,
    /// Most bytes that one command moves.
    max_transfer: u64,
    wait_mode: WaitMode,
    /// How long a command may take where the caller does not say.
    timeout: Duration,
    /// Why the queue is of no more use.
    dead: Option<Cause>,
    /// Why commands were lost before the queue's last reset.
    lost_by: Option<Cause>,
    /// The chip was asked to delete it.
    deleted: bool,
    /// What the last look at its health has found.
    seen: Option<health::Seen>,
}

/// Why a queue ended before its commands did.
#[derive(Clone, Debug)]
enum Cause {
    Faulted(Option<Fault>),
    Gone(u32),
    MappingLost,
    Disconnected(String),
    Stopped,
    QueueReset,
    Reset,
    NotServing(State),
}

impl Device {
    /// Makes an I/O queue.
    ///
    /// # Errors
    /// [`Error::NoQueue`] when all are in use, [`Error::Invalid`] for a depth that the chip does not have,
    /// [`Error::Command`], [`Error::TimedOut`], what has become of the chip.
    pub fn create_queue(&self, options: &QueueOptions) -> Result<IoQueue, Error> {
        static SERIAL: AtomicU16 = AtomicU16::new(0);
        let inner = &self.inner;
        let depth_log2 = options.depth_log2(&inner.capabilities)?;
        let life = inner.running_life()?;
        // Without an admin queue, as at the end of a reset, number and rings could not be given back before the next one.
        inner.check_admin()?;
        let number = inner.take_queue()?;
        let queue = number.get();
        let pair = QueuePair::new(
            &inner.space,
            inner.doorbell(queue)?,
            (
                queue,
                crate::random::tag(),
                SERIAL.fetch_add(1, Ordering::Relaxed),
            ),
            depth_log2,
            inner.capabilities.parking(),
        )?;
        // Made before the chip is asked: if it does not answer, dropping it does what must be done.
        let made = IoQueue {
            pair,
            inner: Arc::clone(inner),
            number,
            context: options.context.clone(),
            coalescing: options.coalescing,
            life,
            max_transfer: inner.capabilities.max_transfer(),
            wait_mode: options.wait_mode,
            timeout: options
                .timeout
                .unwrap_or(inner.capabilities.timeouts().command),
            dead: None,
            lost_by: None,
            deleted: false,
            seen: None,
        };
        made.create()?;
        Ok(made)
    }
}

impl IoQueue {
    /// Has the chip make the queue.
    fn create(&self) -> Result<(), Error> {
        let (inner, queue) = (&self.inner, self.number.get());
        let command = AdminCommand::CreateQueue {
            submissions: self.pair.submissions_at(),
            completions: self.pair.completions_at(),
            park: self.pair.park_at(),
            shape: QueueShape::new()
                .with_queue(queue)
                .with_tag(self.pair.tag())
                .with_vector(queue)
                .with_depth_log2(self.pair.depth_log2())
                .with_interrupts(inner.vector(queue).is_some()),
            context: self.context.number(),
            coalescing: self.coalescing,
        };
        let deadline = Deadline::after(inner.capabilities.timeouts().command);
        inner.show_rings(queue, self.pair.view());
        inner.execute_in(self.life, command, None, "creating a queue", deadline)?;
        Ok(())
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number.get()
    }

    /// Commands in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.pair.in_flight()
    }

    /// Completions that were of no command in flight or not of this life of the queue, and were passed over: of a chip
    /// that works as it should there are none.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.pair.strays()
    }

    /// Submits a command. If the chip sleeps and cannot be woken, its wait says so, having tried again.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::Invalid`], [`Error::Stale`] when something it names is of a former life of the
    /// device, or why the queue is of no more use.
    #[inline]
    pub fn submit(&mut self, command: &Command<'_>) -> Result<Ticket, Error> {
        let ticket = self.push(command)?;
        // The command is the chip's from here on: an error would lose the ticket of what may yet run.
        let _ = self.ring();
        Ok(ticket)
    }

    /// Submits commands with one ring of the doorbell. Their tickets are added to `tickets`, which is to have room for
    /// them where nothing may be allocated.
    ///
    /// # Errors
    /// As [`IoQueue::submit`], for the first command that fails; those before it are submitted, and `tickets` has theirs.
    pub fn submit_batch<'a, 'b: 'a>(
        &mut self,
        commands: impl IntoIterator<Item = &'a Command<'b>>,
        tickets: &mut Vec<Ticket>,
    ) -> Result<(), Error> {
        self.check_alive()?;
        let pushed = commands.into_iter().try_for_each(|command| {
            tickets.push(self.push_alive(command)?);
            Ok(())
        });
        // As in `submit`.
        let _ = self.ring();
        pushed.map_err(Error::unboxed)
    }

    /// Writes a command without ringing the doorbell: [`IoQueue::ring`] does, or the next submission, poll or wait.
    ///
    /// # Errors
    /// As [`IoQueue::submit`].
    #[inline]
    pub fn push(&mut self, command: &Command<'_>) -> Result<Ticket, Error> {
        self.check_alive()?;
        self.push_alive(command).map_err(Error::unboxed)
    }

    /// Whether the queue can be used, as far as is known without asking the chip.
    #[inline]
    fn check_alive(&self) -> Result<(), Error> {
        if self.dead.is_some() || self.inner.life() != self.life {
            return Err(self.dead_error());
        }
        Ok(())
    }

    /// The error is boxed: success makes no room for it.
    #[inline]
    fn push_alive(&mut self, command: &Command<'_>) -> Result<Ticket, Box<Error>> {
        let (inner, life, most) = (&self.inner, self.life, self.max_transfer);
        let token = self.pair.push(
            |holds, entry| command.prepare(inner, life, most, holds, entry),
            |full| Error::full(self.number.get(), full).boxed(),
        )?;
        Ok(Ticket(token))
    }

    /// Rings the doorbell for what was pushed, if anything was.
    ///
    /// # Errors
    /// What the bus says when a parked chip cannot be woken; the next call tries again.
    #[inline]
    pub fn ring(&mut self) -> Result<(), Error> {
        if self.pair.publish() {
            return self.kick();
        }
        Ok(())
    }

    #[cold]
    fn kick(&mut self) -> Result<(), Error> {
        let kicked = self.inner.kick(self.number.get());
        self.pair.kicked(kicked.is_ok());
        kicked
    }

    /// Ends a command that is in flight. Afterwards its outcome is there: [`Aborted`](Status::Aborted), or whatever it was
    /// faster with; and the chip has let go of its memory.
    ///
    /// # Errors
    /// [`Error::CompletionLost`] when the chip says that it has ended and its outcome has not come: [`IoQueue::reset`] ends it.
    /// [`Error::UnknownTicket`], [`Error::TimedOut`], what has become of the chip.
    pub fn abort(&mut self, ticket: Ticket, deadline: impl Into<Deadline>) -> Result<(), Error> {
        if !self.pair.contains(ticket.0) {
            return Err(Error::UnknownTicket);
        }
        self.ring()?;
        self.reap_all();
        let Some(command_id) = self.pair.command_id(ticket.0) else {
            return Ok(());
        };
        let command = AdminCommand::Abort {
            queue: self.number.get(),
            command_id,
        };
        self.inner.execute_in(
            self.life,
            command,
            None,
            "aborting a command",
            deadline.into(),
        )?;
        self.reap_all();
        // A completion is posted before the abort's, so that it was there to be seen.
        match self.pair.command_id(ticket.0) {
            Some(_) => Err(Error::CompletionLost {
                device: Arc::clone(&self.inner.name),
                queue: self.number.get(),
            }),
            None => Ok(()),
        }
    }

    /// Changes when an armed interrupt fires: after `count` completions, or `microseconds` after the first of them.
    ///
    /// # Errors
    /// [`Error::Command`], [`Error::TimedOut`], what has become of the chip.
    pub fn set_coalescing(&mut self, count: u32, microseconds: u32) -> Result<(), Error> {
        let coalescing = Coalescing::new()
            .with_count(count)
            .with_microseconds(microseconds);
        let command = AdminCommand::SetCoalescing {
            queue: self.number.get(),
            coalescing,
        };
        let deadline = Deadline::after(self.inner.capabilities.timeouts().command);
        self.inner
            .execute_in(self.life, command, None, "setting coalescing", deadline)?;
        self.coalescing = coalescing;
        Ok(())
    }

    /// Deletes the queue, as dropping it does, and says how that went.
    ///
    /// # Errors
    /// [`Error::TimedOut`], what has become of the chip. What the commands name is then kept until a reset.
    pub fn close(mut self, deadline: impl Into<Deadline>) -> Result<(), Error> {
        self.delete(deadline.into())
    }

    fn reap_all(&mut self) {
        while self.pair.reap().is_some() {}
    }

    /// The queue is of no more use: what has not completed by now is lost, and says so once each.
    #[cold]
    fn die(&mut self, cause: Cause) {
        self.reap_all();
        self.dead = Some(match cause {
            // A chip that another thread resets serves nothing.
            Cause::NotServing(_) if self.inner.life() != self.life => Cause::Reset,
            cause => cause,
        });
        tracing::warn!(device = %self.inner.name, queue = self.number.get(), in_flight = self.pair.in_flight(), error = %self.dead_error(), "the queue has ended");
        self.pair.lose_all();
    }

    /// Why the queue is of no more use.
    #[cold]
    fn dead_error(&self) -> Error {
        self.error_of(self.dead.as_ref())
    }

    #[cold]
    #[inline(never)]
    fn error_of(&self, cause: Option<&Cause>) -> Error {
        let device = Arc::clone(&self.inner.name);
        match cause {
            Some(Cause::Faulted(fault)) => Error::Faulted {
                device,
                fault: *fault,
            },
            Some(Cause::Gone(found)) => Error::Gone {
                device,
                found: *found,
            },
            Some(Cause::MappingLost) => Error::MappingLost { device },
            Some(Cause::Disconnected(reason)) => Error::Disconnected {
                device,
                source: BusError::Disconnected {
                    reason: reason.clone(),
                },
            },
            Some(Cause::Stopped) => Error::QueueStopped {
                device,
                queue: self.number.get(),
            },
            Some(Cause::QueueReset) => Error::QueueReset {
                device,
                queue: self.number.get(),
            },
            Some(Cause::NotServing(state)) => Error::NotReady {
                device,
                what: "a queue",
                state: *state,
            },
            Some(Cause::Reset) | None => self.inner.stale("queue"),
        }
    }

    /// Of a command that did not succeed.
    #[cold]
    fn failure(&self, what: &'static str, ended: Ended) -> Error {
        match ended {
            Ended::Lost => self.error_of(self.dead.as_ref().or(self.lost_by.as_ref())),
            other => self.inner.failure(what, other),
        }
    }

    /// Deletes the queue on the chip and lets go what it kept alive, or hands that over until a reset.
    fn delete(&mut self, deadline: Deadline) -> Result<(), Error> {
        if std::mem::replace(&mut self.deleted, true) {
            return Ok(());
        }
        self.delete_on_chip(deadline).inspect_err(|_| {
            self.number.keep_until_reset(self.life);
            self.inner
                .keep_until_reset(self.life, self.pair.take_remains());
        })
    }

    /// Proves that the chip does nothing more for the queue: it has deleted it, or a reset has ended it.
    fn delete_on_chip(&self, deadline: Deadline) -> Result<(), Error> {
        if self.inner.has_outlived(self.life) {
            return Ok(());
        }
        let command = AdminCommand::DeleteQueue {
            queue: self.number.get(),
        };
        match self
            .inner
            .execute_quietly(self.life, command, None, "deleting a queue", deadline)
        {
            // `InvalidQueue`: the chip has none of that number, and so does nothing for it.
            Ok(_)
            | Err(Error::Command {
                status: Status::InvalidQueue,
                ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for IoQueue {
    fn drop(&mut self) {
        self.inner.hide_rings(self.number.get());
        let deadline = Deadline::after(self.inner.capabilities.timeouts().queue);
        if let Err(error) = self.delete(deadline) {
            tracing::warn!(%error, "a queue was dropped that the chip could not delete");
        }
    }
}

impl Cause {
    /// What an error of looking at the chip means to a queue; `None` when it means nothing yet.
    fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Faulted { fault, .. } => Some(Self::Faulted(*fault)),
            Error::Gone { found, .. } => Some(Self::Gone(*found)),
            Error::MappingLost { .. } => Some(Self::MappingLost),
            Error::Disconnected { source, .. } => Some(Self::Disconnected(source.to_string())),
            Error::QueueStopped { .. } => Some(Self::Stopped),
            Error::NotReady { state, .. } => Some(Self::NotServing(*state)),
            _ => None,
        }
    }
}
