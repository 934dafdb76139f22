//! A wait: what to do while there is nothing, and when to give up.

use std::thread;
use std::time::{Duration, Instant};

use auk_asic::vitals::HEARTBEAT_HZ;

use super::inner::Inner;
use crate::deadline::Deadline;
use crate::error::{Error, Heartbeat};

/// First look at whether the chip is alive, and the longest time between two; a look is a trapped register read.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(16);
/// How long a wait spins before it lets other threads run, and then sleeps: a chip usually answers within the first.
const SPIN: Duration = Duration::from_micros(20);
const YIELD: Duration = Duration::from_micros(200);
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);
const LONGEST_SLEEP: Duration = Duration::from_millis(1);
/// Without a beat for this long the firmware hangs: five times the heartbeat's period.
const HEARTBEAT_PATIENCE: Duration = Duration::from_millis(5 * 1000 / HEARTBEAT_HZ as u64);

/// One wait of one thread.
pub(crate) struct Watch<'a> {
    inner: &'a Inner,
    what: &'static str,
    /// The queue whose stopping ends the wait.
    queue: Option<u16>,
    deadline: Deadline,
    started: Instant,
    looks: Looks,
    sleep: Duration,
    pulse: Pulse,
}

/// When to look at whether the chip is alive: more and more seldom.
#[derive(Debug)]
pub(crate) struct Looks {
    next: Instant,
    between: Duration,
}

impl Looks {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next: now + FIRST_LOOK,
            between: FIRST_LOOK,
        }
    }

    /// When the next one is due.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    /// One was had.
    pub(crate) fn had(&mut self, now: Instant) {
        self.between = (self.between * 2).min(LONGEST_LOOK);
        self.next = now + self.between;
    }
}

/// The heartbeat, as far as it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// As it last moved, and when.
    beat: Option<(u32, Instant)>,
    moved: bool,
}

impl Pulse {
    pub(crate) fn note(&mut self, beat: Option<u32>, now: Instant) {
        let Some(beat) = beat else {
            return;
        };
        match self.beat {
            Some((last, _)) if last == beat => {}
            Some(_) => {
                self.moved = true;
                self.beat = Some((beat, now));
            }
            None => self.beat = Some((beat, now)),
        }
    }

    /// What it says of the firmware.
    pub(crate) fn heartbeat(&self, now: Instant) -> Heartbeat {
        match self.beat {
            Some((_, since)) if now - since >= HEARTBEAT_PATIENCE => Heartbeat::Stopped,
            Some(_) if self.moved => Heartbeat::Beats,
            _ => Heartbeat::Unknown,
        }
    }
}

impl<'a> Watch<'a> {
    pub(crate) fn new(inner: &'a Inner, what: &'static str, deadline: Deadline) -> Self {
        let now = Instant::now();
        Self {
            inner,
            what,
            queue: None,
            deadline,
            started: now,
            looks: Looks::new(now),
            sleep: SHORTEST_SLEEP,
            pulse: Pulse::default(),
        }
    }

    /// The same wait, ended as well when the chip stops the queue.
    pub(crate) fn on_queue(mut self, queue: u16) -> Self {
        self.queue = Some(queue);
        self
    }

    /// How long it has waited.
    pub(crate) fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    fn check(&self) -> Result<(), Error> {
        match self.queue {
            Some(queue) => self.inner.check_queue(self.what, queue),
            None => self.inner.check_serving(self.what),
        }
    }

    /// Looks after the chip if it is time to, then waits a little.
    ///
    /// # Errors
    /// What has become of the chip, or [`Error::TimedOut`].
    pub(crate) fn pause(&mut self) -> Result<(), Error> {
        let now = self.look()?;
        let waited = now - self.started;
        if waited < SPIN {
            std::hint::spin_loop();
        } else if waited < YIELD {
            thread::yield_now();
        } else {
            thread::sleep(self.sleep.min(self.deadline.remaining()));
            self.sleep = (self.sleep * 2).min(LONGEST_SLEEP);
        }
        Ok(())
    }

    /// The same for a queue whose thread has nothing better to do than to poll: it never sleeps.
    pub(crate) fn pause_polling(&mut self) -> Result<(), Error> {
        let now = self.look()?;
        if now - self.started < YIELD {
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
        Ok(())
    }

    /// Looks after the chip if it is time to. Gives the time.
    ///
    /// # Errors
    /// As [`Watch::pause`].
    pub(crate) fn look(&mut self) -> Result<Instant, Error> {
        let now = Instant::now();
        if now >= self.deadline.instant() {
            // A chip that is dead is not slow.
            self.check()?;
            return Err(Error::TimedOut {
                device: self.inner.name.clone(),
                what: self.what,
                waited: self.deadline.elapsed(),
                heartbeat: self.heartbeat(now),
            });
        }
        if now >= self.looks.next() {
            self.check()?;
            self.pulse.note(self.inner.heartbeat(), now);
            self.looks.had(Instant::now());
        }
        Ok(now)
    }

    /// How long the thread may sleep on something before it should look again.
    pub(crate) fn nap(&self) -> Duration {
        self.deadline
            .remaining()
            .min(self.looks.next().saturating_duration_since(Instant::now()))
    }

    fn heartbeat(&mut self, now: Instant) -> Heartbeat {
        self.pulse.note(self.inner.heartbeat(), now);
        self.pulse.heartbeat(now)
    }
}
