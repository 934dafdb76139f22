//! The reset ladder as one call, and by policy: from the smallest step that can help to the greatest that is allowed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use auk_asic::{State, Status, bar0};

use super::capabilities::Timeouts;
use super::inner::{Inner, Life};
use super::reset::RESET_BY_KERNEL;
use super::{Device, ResetKind};
use crate::bus::BusError;
use crate::deadline::Deadline;
use crate::error::{Error, Heartbeat};
use crate::report::Report;

/// A look at a chip that answers takes far less; one that hangs is told from a slow one by then, because the heartbeat's verdict takes
/// half a second.
const FIRST_TRY: Duration = Duration::from_secs(1);

/// A step of the reset ladder, the smallest first. `docs/driver.md` has what each ends, keeps and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// ABORT of a command.
    Abort,
    /// DELETE_QUEUE and CREATE_QUEUE.
    QueueReset,
    /// The firmware starts anew; device memory is kept.
    FirmwareRestart,
    /// The function is reset, and the firmware restarted if that did not help. Device memory is scrubbed.
    Flr,
    /// The bus or slot is reset, as [`ResetKind::HotReset`] has it, and the firmware restarted if that did not help.
    HotReset,
}

impl Step {
    /// What messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Abort => "abort",
            Self::QueueReset => "queue reset",
            Self::FirmwareRestart => "firmware restart",
            Self::Flr => "FLR",
            Self::HotReset => "hot reset",
        }
    }

    /// The longest that the step waits for the chip, by what it advertises and what the kernel takes. Requests to the bus have
    /// their own time beside.
    #[must_use]
    pub fn bound(self, timeouts: &Timeouts) -> Duration {
        let bring_up = timeouts.ready + timeouts.command;
        let restart = timeouts.ready + timeouts.restart + bring_up;
        match self {
            Self::Abort => timeouts.abort,
            Self::QueueReset => timeouts.queue + timeouts.command,
            Self::FirmwareRestart => restart,
            Self::Flr | Self::HotReset => {
                let reset = timeouts.ready + (timeouts.flr + RESET_BY_KERNEL);
                reset + (timeouts.flr + timeouts.ready) + bring_up + restart
            }
        }
    }
}

/// What the driver does by itself, in the thread that meets a chip or a queue that is of no more use. Whatever it does, the caller
/// gets the error of its command: nothing is ever submitted again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecoveryPolicy {
    /// Nothing.
    #[default]
    Off,
    /// What the chip does itself: resets of queues, restarts of the firmware. Device memory keeps its contents.
    DeviceOnly,
    /// Resets by the bus as well: FLR, and hot reset where the bus has it.
    Full,
}

impl RecoveryPolicy {
    /// The greatest step that it allows, if any.
    #[must_use]
    pub const fn up_to(self) -> Option<Step> {
        match self {
            Self::Off => None,
            Self::DeviceOnly => Some(Step::FirmwareRestart),
            Self::Full => Some(Step::HotReset),
        }
    }
}

/// What a recovery has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The steps, in order; none when nothing was wrong. The last one has helped.
    pub steps: Vec<Climbed>,
    /// Starts of the firmware before, if that could be read.
    pub generation_before: Option<u32>,
    /// And after.
    pub generation_after: Option<u32>,
    /// How long all of it took.
    pub took: Duration,
}

/// A step that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Climbed {
    /// Which.
    pub step: Step,
    /// How long it took.
    pub took: Duration,
    /// Why it did not help; `None` when it did.
    pub error: Option<String>,
}

impl fmt::Display for Climbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} ms)", self.step.name(), self.took.as_millis())
    }
}

impl Device {
    /// Finds out whether the chip serves and, if it does not, climbs the reset ladder from the smallest step that can help up to
    /// `most`, until it does. A chip that hangs is found out by an admin command that does not end.
    ///
    /// After a step everything that was made before is [`Error::Stale`], as after [`Device::reset`]: queues go on by
    /// [`IoQueue::reset`](crate::IoQueue::reset), all else is to be made again. Each step waits for [`Step::bound`] at most.
    ///
    /// ```no_run
    /// # use auk_driver::{Device, Step};
    /// # fn example(device: &Device) -> Result<(), auk_driver::Error> {
    /// let recovery = device.recover(Step::HotReset)?;
    /// for climbed in &recovery.steps {
    ///     println!("{climbed}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotRecovered`] with what was tried and what is still wrong, [`Error::Resetting`] when another thread resets, and
    /// what this host lacks.
    pub fn recover(&self, most: Step) -> Result<Recovery, Error> {
        self.inner.recover(None, most)
    }
}

/// The steps of one recovery, as they are tried.
pub(crate) struct Ladder<'a> {
    inner: &'a Inner,
    steps: Vec<Climbed>,
    before: Option<u32>,
    started: Instant,
}

impl<'a> Ladder<'a> {
    pub(crate) fn new(inner: &'a Inner) -> Self {
        Self {
            inner,
            steps: Vec::new(),
            before: inner.generation(),
            started: Instant::now(),
        }
    }

    /// Tries a step.
    pub(crate) fn climb(
        &mut self,
        step: Step,
        work: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let result = work();
        let climbed = Climbed {
            step,
            took: began.elapsed(),
            error: result.as_ref().err().map(ToString::to_string),
        };
        match &climbed.error {
            None => tracing::info!(device = %self.inner.name, "recovered by {climbed}"),
            Some(error) => {
                tracing::warn!(device = %self.inner.name, %error, "not recovered by {climbed}");
            }
        }
        self.steps.push(climbed);
        result
    }

    /// The steps that another ladder has climbed meanwhile.
    pub(crate) fn add(&mut self, other: Recovery) {
        self.steps.extend(other.steps);
    }

    pub(crate) fn done(self) -> Recovery {
        Recovery {
            steps: self.steps,
            generation_before: self.before,
            generation_after: self.inner.generation(),
            took: self.started.elapsed(),
        }
    }

    /// What is to be told of a chip that no step has helped.
    pub(crate) fn failed(self, wrong: Error) -> Error {
        let steps: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        Error::NotRecovered {
            device: Arc::clone(&self.inner.name),
            tried: match steps.is_empty() {
                true => "any step that was allowed".to_owned(),
                false => steps.join(", "),
            },
            source: Box::new(wrong),
        }
    }
}

impl Inner {
    /// [`Device::recover`]; given a life, only if no reset has ended it meanwhile.
    pub(crate) fn recover(&self, life: Option<Life>, most: Step) -> Result<Recovery, Error> {
        let _alone = self.alone()?;
        let mut ladder = Ladder::new(self);
        if life.is_some_and(|life| life != self.life()) {
            return Ok(ladder.done());
        }
        let Err(mut wrong) = self.examine() else {
            return Ok(ladder.done());
        };
        for step in [Step::FirmwareRestart, Step::Flr, Step::HotReset] {
            if is_of_host(&wrong) {
                return Err(wrong);
            }
            if step > most || is_hopeless(&wrong) {
                break;
            }
            // Without registers nothing asks for a restart.
            if step == Step::FirmwareRestart && matches!(wrong, Error::Gone { .. }) {
                continue;
            }
            match ladder.climb(step, || self.climb(step)) {
                Ok(()) => return Ok(ladder.done()),
                // Where there is no such step, what was wrong still is.
                Err(Error::Bus {
                    source: BusError::Unsupported { .. } | BusError::NotOwned { .. },
                    ..
                }) => {}
                Err(error) => wrong = error,
            }
        }
        Err(ladder.failed(wrong))
    }

    /// What the policy says, to whoever has met an error of a queue or a command of that life, and the report on it. Never waits for
    /// another thread that is at it.
    #[cold]
    pub(crate) fn met(&self, life: Life, error: &Error) {
        // Whoever has failed to bring the device back has said so; it is the caller's from then on.
        if life != self.life() || self.given_up.load(Ordering::Acquire) == life.number() {
            return;
        }
        let helps = is_of_device(error);
        let mut report = (helps || matches!(error, Error::Disconnected { .. }))
            .then(|| self.reports.begin(life.number()))
            .filter(|first| *first)
            .map(|_| Report::snapshot(self, Some(error)));
        if let Some(most) = self.policy.up_to().filter(|_| helps) {
            match self.recover(Some(life), most) {
                Ok(recovery) => {
                    if let Some(report) = &mut report {
                        let steps = recovery.steps.iter().map(ToString::to_string);
                        report.recovered_by.extend(steps);
                    }
                }
                Err(Error::Resetting { .. }) => {}
                Err(error) => {
                    tracing::error!(%error, "the policy's recovery");
                    self.given_up.store(self.life().number(), Ordering::Release);
                }
            }
        }
        if let Some(mut report) = report {
            report.ask_for_logs(self);
            self.reports.write(&report);
        }
    }

    /// That the chip serves admin commands, in the runtime.
    fn examine(&self) -> Result<(), Error> {
        const WHAT: &str = "work";
        self.check_serving(WHAT)?;
        self.running_life()?;
        let command = self.capabilities.timeouts().command;
        let first = self.identify(Deadline::after(FIRST_TRY.min(command)));
        match first {
            Err(Error::TimedOut { heartbeat, .. }) if heartbeat != Heartbeat::Stopped => {
                self.identify(Deadline::after(command))?;
            }
            other => {
                other?;
            }
        }
        match self.state()? {
            State::Running => Ok(()),
            state => Err(Error::NotReady {
                device: Arc::clone(&self.name),
                what: WHAT,
                state,
            }),
        }
    }

    fn climb(&self, step: Step) -> Result<(), Error> {
        let kind = match step {
            Step::HotReset => ResetKind::HotReset,
            Step::Flr => ResetKind::Flr,
            _ => return self.reset_alone(ResetKind::FirmwareRestart),
        };
        match self.reset_alone(kind) {
            // The firmware, and its fault, outlive these resets.
            Err(Error::Faulted { .. } | Error::TimedOut { .. }) => {
                self.reset_alone(ResetKind::FirmwareRestart)
            }
            other => other,
        }
    }

    pub(super) fn generation(&self) -> Option<u32> {
        let generation = self.read_register(bar0::GENERATION).ok();
        generation.filter(|generation| *generation != u32::MAX)
    }
}

/// Whether an error tells of a whole device that is of no use, and that a reset may help.
fn is_of_device(error: &Error) -> bool {
    match error {
        Error::Disconnected { .. } | Error::Resetting { .. } | Error::NotRecovered { .. } => false,
        Error::NotReady { .. } => true,
        Error::TimedOut { heartbeat, .. } => *heartbeat == Heartbeat::Stopped,
        other => other.is_fatal(),
    }
}

/// Whether an error tells of something that no reset changes.
fn is_of_host(error: &Error) -> bool {
    matches!(
        error,
        Error::Dma(_) | Error::Pci(_) | Error::System { .. } | Error::Invalid { .. }
    )
}

/// Whether no step can help: nothing carries it to the chip, or the chip lacks a firmware.
const fn is_hopeless(error: &Error) -> bool {
    matches!(
        error,
        Error::Disconnected { .. }
            | Error::NotReady {
                state: State::Loader,
                ..
            }
    )
}

impl Error {
    /// Whether the chip stopped while the command ran, or before it could.
    pub(crate) const fn is_of_faulted_chip(&self) -> bool {
        matches!(
            self,
            Self::Command {
                status: Status::EccUncorrectable | Status::DeviceFaulted,
                ..
            }
        )
    }
}
