//! The admin queue: one command after another from any thread, beside outstanding requests for events.

use std::collections::VecDeque;
use std::sync::Arc;

use auk_asic::Status;
use auk_asic::admin::{AdminCommand, MAX_ASYNC_EVENTS};
use auk_asic::bar0::{self, AdminQueue, MAX_DEPTH_LOG2};
use auk_asic::event::{Event, EventResult};

use super::events::ChipEvent;
use super::inner::{Inner, Life};
use super::pair::{NextSubmission, QueuePair};
use super::remains::Remains;
use super::watch::Watch;
use crate::deadline::Deadline;
use crate::dma::DmaBuffer;
use crate::error::Error;
use crate::ring::{Ended, Pending, SubmissionWords, Token};

/// Entries of the admin rings, as a power of two: one page of submissions.
const DEPTH_LOG2: u8 = 6;
const _: () = assert!(DEPTH_LOG2 <= MAX_DEPTH_LOG2);
/// Events that are kept for `next_event`; older ones are dropped and counted. The chip's own log holds as many.
const MOST_EVENTS: usize = auk_asic::log::EVENT_LOG_ENTRIES;

/// The admin queue of one life of the device. Its lock is held to submit and to look, never to wait or to wake the chip.
#[derive(Debug)]
pub(super) struct Admin {
    life: Life,
    pub(super) pair: QueuePair<Option<DmaBuffer>>,
    /// Requests for events that run.
    requests: Vec<Token>,
    /// Commands whose callers gave up waiting.
    abandoned: Vec<Token>,
    events: VecDeque<ChipEvent>,
    /// Events that were dropped since the last one that is in `events`.
    dropped: u64,
}

impl Admin {
    /// An admin queue in memory; the chip does not know of it yet.
    pub(super) fn new(inner: &Inner) -> Result<Self, Error> {
        let deepest = inner.capabilities.max_depth().trailing_zeros() as u8;
        let pair = QueuePair::new(
            &inner.space,
            inner.doorbell(0)?,
            (0, crate::random::tag(), 0),
            DEPTH_LOG2.min(deepest),
            inner.capabilities.parking(),
        )?;
        Ok(Self {
            life: inner.life(),
            pair,
            requests: Vec::new(),
            abandoned: Vec::new(),
            events: VecDeque::new(),
            dropped: 0,
        })
    }

    pub(super) const fn life(&self) -> Life {
        self.life
    }

    /// What the chip may still write. Its doorbell's mapping, which it does not, goes.
    pub(super) fn into_remains(mut self) -> Remains {
        self.pair.take_remains()
    }

    /// The ADMIN registers and what they must hold.
    pub(super) fn registers(&self, inner: &Inner) -> [(auk_asic::register::Register, u32); 7] {
        let low = |address: u64| address as u32;
        let high = |address: u64| (address >> 32) as u32;
        let submissions = self.pair.submissions_at().address;
        let completions = self.pair.completions_at().address;
        let park = self.pair.park_at().address;
        let deepest = inner.capabilities.max_depth().trailing_zeros() as u8;
        let shape = AdminQueue::new()
            .with_depth_log2(DEPTH_LOG2.min(deepest))
            .with_tag(self.pair.tag());
        [
            (bar0::ADMIN_SQ_LO, low(submissions)),
            (bar0::ADMIN_SQ_HI, high(submissions)),
            (bar0::ADMIN_CQ_LO, low(completions)),
            (bar0::ADMIN_CQ_HI, high(completions)),
            (bar0::ADMIN_PARK_LO, low(park)),
            (bar0::ADMIN_PARK_HI, high(park)),
            (bar0::ADMIN_QUEUE, shape.into_bits()),
        ]
    }

    /// Writes a command; the chip learns of it, and is woken, by [`Inner::submit_admin`].
    fn push(&mut self, command: AdminCommand, hold: Option<DmaBuffer>) -> Result<Token, Error> {
        let prepare = |kept: &mut Option<DmaBuffer>, entry: NextSubmission<'_>| {
            *kept = hold;
            entry.write(&SubmissionWords::new(command.encode()));
            Ok(())
        };
        self.pair.push(prepare, |full| Error::full(0, full))
    }

    /// Takes all completions off the ring and sorts them: events to their list, abandoned outcomes away.
    pub(super) fn reap(&mut self, inner: &Inner) -> Result<(), Error> {
        while self.pair.reap().is_some() {}
        let pair = &mut self.pair;
        self.abandoned
            .retain(|token| pair.collect(*token) == Err(Pending::Running));
        let mut ended = Vec::new();
        self.requests.retain(|token| match pair.collect(*token) {
            Err(Pending::Running) => true,
            outcome => {
                ended.extend(outcome.ok());
                false
            }
        });
        for outcome in ended {
            self.note_event(inner, outcome);
        }
        Ok(())
    }

    fn note_event(&mut self, inner: &Inner, outcome: Ended) {
        // A request that failed brought no event.
        let Ended::Completed {
            status: Status::Success,
            result,
        } = outcome
        else {
            return;
        };
        let result = EventResult::from_bits(result);
        let lost = self.dropped + u64::from(result.lost());
        match Event::parse(result) {
            Ok(event) => {
                self.dropped = 0;
                self.events.push_back(ChipEvent { event, lost });
                if self.events.len() > MOST_EVENTS
                    && let Some(oldest) = self.events.pop_front()
                    && let Some(next) = self.events.front_mut()
                {
                    next.lost += oldest.lost + 1;
                }
            }
            Err(error) => {
                self.dropped = lost + 1;
                tracing::warn!(device = %inner.name, %error, "an event that this driver does not know");
            }
        }
    }

    /// Whether fewer events are asked for than the chip lets outstanding.
    pub(super) const fn lacks_requests(&self) -> bool {
        self.requests.len() < MAX_ASYNC_EVENTS
    }

    pub(super) fn pop_event(&mut self) -> Option<ChipEvent> {
        self.events.pop_front()
    }
}

impl Inner {
    /// Runs one admin command to its end, `hold` being the host memory that it names. Gives its result.
    pub(crate) fn execute(
        &self,
        command: AdminCommand,
        hold: Option<DmaBuffer>,
        what: &'static str,
        deadline: Deadline,
    ) -> Result<u64, Error> {
        self.execute_in(self.running_life()?, command, hold, what, deadline)
    }

    /// The same, in that life of the device or not at all: what a command makes belongs to the life that it is made in.
    pub(crate) fn execute_in(
        &self,
        life: Life,
        command: AdminCommand,
        hold: Option<DmaBuffer>,
        what: &'static str,
        deadline: Deadline,
    ) -> Result<u64, Error> {
        let result = self.execute_quietly(life, command, hold, what, deadline);
        if let Err(error) = &result {
            self.met(life, error);
        }
        result
    }

    /// The same, and whatever it meets, the policy of recovery is not followed: for what is done while handles are dropped, and by a recovery itself.
    pub(crate) fn execute_quietly(
        &self,
        life: Life,
        command: AdminCommand,
        hold: Option<DmaBuffer>,
        what: &'static str,
        deadline: Deadline,
    ) -> Result<u64, Error> {
        let (token, woken) = self.submit_admin(|admin| {
            if admin.life != life {
                return Err(self.stale("handle"));
            }
            admin.push(command, hold)
        })?;
        if let Err(error) = woken {
            self.abandon(life, token);
            return Err(error);
        }
        let mut watch = Watch::new(self, what, deadline);
        loop {
            if self.life() != life {
                return Err(self.stale("command"));
            }
            let outcome = self.with_admin(|admin| {
                admin.reap(self)?;
                Ok(admin.pair.collect(token))
            })?;
            match outcome {
                Ok(ended) => return self.outcome(what, ended),
                Err(Pending::Unknown) => return Err(self.stale("command")),
                Err(Pending::Running) => {}
            }
            if let Err(error) = watch.pause() {
                self.abandon(life, token);
                return Err(match error {
                    // A chip that another thread resets serves nothing.
                    Error::NotReady { .. } if self.life() != life => self.stale("command"),
                    error => error,
                });
            }
        }
    }

    /// Asks for as many events as the chip lets outstanding.
    pub(super) fn request_events(&self) -> Result<(), Error> {
        let ((), woken) = self.submit_admin(|admin| {
            while admin.lacks_requests() {
                let token = admin.push(AdminCommand::AsyncEvent, None)?;
                admin.requests.push(token);
            }
            Ok(())
        })?;
        woken
    }

    /// Has `push` write commands, tells the chip, and wakes it if it sleeps: that may take its time, and so is done without
    /// the lock. How the waking went is told beside what was submitted; if it failed, the next submission tries again.
    fn submit_admin<T>(
        &self,
        push: impl FnOnce(&mut Admin) -> Result<T, Error>,
    ) -> Result<(T, Result<(), Error>), Error> {
        let (pushed, asleep) = self.with_admin(|admin| {
            let pushed = push(admin);
            Ok((pushed, admin.pair.publish().then_some(admin.life)))
        })?;
        let woken = match asleep {
            Some(life) => self.wake_admin(life),
            None => Ok(()),
        };
        Ok((pushed?, woken))
    }

    #[cold]
    fn wake_admin(&self, life: Life) -> Result<(), Error> {
        let kicked = self.kick(0);
        if let Some(admin) = self.admin().as_mut().filter(|admin| admin.life == life) {
            admin.pair.kicked(kicked.is_ok());
        }
        kicked
    }

    /// Nobody waits for the command any more. Its memory stays with it; only its outcome is of no interest.
    fn abandon(&self, life: Life, token: Token) {
        if let Some(admin) = self.admin().as_mut().filter(|admin| admin.life == life) {
            admin.abandoned.push(token);
        }
    }

    /// Whether the chip has an admin queue of this driver's.
    pub(crate) fn check_admin(&self) -> Result<(), Error> {
        self.with_admin(|_| Ok(()))
    }

    pub(super) fn with_admin<T>(
        &self,
        work: impl FnOnce(&mut Admin) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match self.admin().as_mut() {
            Some(admin) => work(admin),
            None => Err(Error::Resetting {
                device: Arc::clone(&self.name),
            }),
        }
    }

    pub(crate) fn stale(&self, what: &'static str) -> Error {
        Error::Stale {
            device: Arc::clone(&self.name),
            what,
        }
    }

    /// The result of a command that ended, or why there is none.
    pub(super) fn outcome(&self, what: &'static str, ended: Ended) -> Result<u64, Error> {
        match ended {
            Ended::Completed {
                status: Status::Success,
                result,
            } => Ok(result),
            other => Err(self.failure(what, other)),
        }
    }

    /// Why a command that has ended did not succeed.
    #[cold]
    pub(crate) fn failure(&self, what: &'static str, ended: Ended) -> Error {
        let failed = |status| Error::Command {
            device: Arc::clone(&self.name),
            what,
            status,
        };
        match ended {
            Ended::Completed { status, .. } => failed(status),
            Ended::Unknown(code) => match Status::parse(code) {
                Err(source) => self.malformed(source),
                Ok(status) => failed(status),
            },
            Ended::Lost => self.stale(what),
        }
    }
}
