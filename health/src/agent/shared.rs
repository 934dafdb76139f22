//! What the loop, the servers and the handle share.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::Builder;
use crate::config::{Config, ConfigError};
use crate::facts::{Class, Kind};
use crate::incident::incidents;
use crate::operator::{Author, Done, Order, OrderError};
use crate::probe::ProbeError;
use crate::probe::target::Sample;
use crate::probe::text;
use crate::recording::{Entry, Recorder, Start};
use crate::status::{ConfigAccessStatus, ReadersStatus, ReloadStatus};
use crate::time::{Moment, millis};
use crate::verdict::{HealthState, Transition};
use crate::{Engine, Status, WaitError};

/// Transitions that may wait for a subscriber; one that is further behind is let go.
const BACKLOG: usize = 1024;

/// The engine, and those who wait for what it says.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    round_ended: Condvar,
}

struct Inner {
    engine: Engine,
    /// The status without what is asked of the engine and of the kernel at each snapshot.
    base: Status,
    subscribers: Vec<SyncSender<Transition>>,
    recorder: Option<Recorder>,
    closed: bool,
}

impl Shared {
    pub(crate) fn new(options: &Builder, recorder: Option<Recorder>) -> Self {
        let settings = &options.config.settings;
        let mut inner = Inner {
            engine: Engine::new(settings.clone()),
            base: options.empty_status(),
            subscribers: Vec::new(),
            recorder,
            closed: false,
        };
        inner.record(|engine| Entry::Start(Box::new(Start::of(engine, settings, Moment::now()))));
        Self {
            inner: Mutex::new(inner),
            round_ended: Condvar::new(),
        }
    }

    /// No code that can panic runs under the lock, and all of it leaves a sound state.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the engine judge a look, and tells the subscribers what changed.
    pub(crate) fn observe(&self, sample: Sample) {
        let mut inner = self.lock();
        if let Some(recorder) = &mut inner.recorder {
            recorder.look(&sample);
        }
        let transitions = inner.engine.observe(sample);
        inner.tell(transitions);
    }

    /// As [`observe`](Self::observe), for a look that saw nothing.
    pub(crate) fn miss(&self, bdf: &str, kind: Kind, class: Class, error: &ProbeError) {
        let at = Moment::now();
        let mut inner = self.lock();
        inner.record(|_| Entry::Miss {
            bdf: bdf.to_owned(),
            kind,
            at,
            class,
            error: error.clone(),
        });
        let transitions = inner.engine.miss(bdf, kind, at, class, error);
        inner.tell(transitions);
    }

    /// Does what somebody orders.
    pub(crate) fn order(&self, author: &Author, order: Order) -> Result<Done, OrderError> {
        let at = Moment::now();
        let mut inner = self.lock();
        let (done, transitions) = inner.engine.order(at, author, order)?;
        inner.record(|_| Entry::Order {
            at,
            author: author.clone(),
            order: done.order.clone(),
        });
        tell_order(&done);
        inner.tell(transitions);
        Ok(done)
    }

    /// Puts another configuration in force; what is known of the components stays known.
    pub(crate) fn configure(&self, config: &Config, pending: Vec<String>) {
        let now = Moment::now();
        let mut inner = self.lock();
        let settings = &config.settings;
        inner.record(|_| Entry::Settings(Box::new(Start::without_memory(settings, now))));
        inner.engine.set_settings(settings.clone());
        let agent = &mut inner.base.agent;
        agent.interval_ms = millis(config.agent.interval);
        agent.config = config.status(now.unix_ms);
        agent.config.reload = Some(ReloadStatus {
            at_unix_ms: now.unix_ms,
            problems: Vec::new(),
            pending,
        });
    }

    /// Keeps in mind that a new configuration could not be used.
    pub(crate) fn refuse(&self, wrong: &ConfigError) {
        let problems = wrong.problems.iter().map(ToString::to_string);
        let reload = ReloadStatus {
            at_unix_ms: Moment::now().unix_ms,
            problems: problems.collect(),
            pending: Vec::new(),
        };
        self.lock().base.agent.config.reload = Some(reload);
    }

    /// How many components are how.
    pub(crate) fn states(&self) -> BTreeMap<HealthState, usize> {
        self.lock().engine.states()
    }

    /// How the last reload of the configuration went.
    pub(crate) fn last_reload(&self) -> Option<ReloadStatus> {
        self.lock().base.agent.config.reload.clone()
    }

    /// Forgets a component in whose place something of another kind is now.
    pub(crate) fn forget(&self, bdf: &str, kind: Kind) {
        let mut inner = self.lock();
        inner.record(|_| Entry::Forget {
            bdf: bdf.to_owned(),
            kind,
        });
        inner.engine.forget(bdf, kind);
    }

    /// Marks the end of a round.
    pub(crate) fn end_round(
        &self,
        discovery_error: Option<&ProbeError>,
        readers: ReadersStatus,
        config_access: ConfigAccessStatus,
    ) {
        let mut inner = self.lock();
        inner.base.agent.rounds += 1;
        let now = Moment::now();
        let ended = inner.engine.expire(now);
        if !ended.is_empty() {
            inner.record(|_| Entry::Expire(now));
        }
        for done in ended {
            tell_order(&done);
        }
        inner.base.agent.readers = readers;
        inner.base.agent.config_access = config_access;
        inner.base.discovery_error = discovery_error.map(ToString::to_string);
        drop(inner);
        self.round_ended.notify_all();
    }

    /// Nothing new will come.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.subscribers.clear();
        drop(inner);
        self.round_ended.notify_all();
    }

    pub(crate) fn status(&self) -> Status {
        let usage = Usage::now();
        self.lock().status(usage)
    }

    pub(crate) fn subscribe(&self) -> Receiver<Transition> {
        let (sender, receiver) = sync_channel(BACKLOG);
        let mut inner = self.lock();
        if !inner.closed {
            inner.subscribers.push(sender);
        }
        receiver
    }

    pub(crate) fn wait_until(
        &self,
        deadline: Duration,
        mut condition: impl FnMut(&Status) -> bool,
    ) -> Result<Status, WaitError> {
        let start = Instant::now();
        loop {
            let usage = Usage::now();
            let inner = self.lock();
            let status = inner.status(usage);
            if condition(&status) {
                return Ok(status);
            }
            if inner.closed {
                return Err(WaitError::Stopped);
            }
            let left = deadline.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(WaitError::Timeout { deadline });
            }
            let waited = self.round_ended.wait_timeout(inner, left);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Inner {
    /// Writes what the engine is fed, where a recording was asked for.
    fn record(&mut self, entry: impl FnOnce(&Engine) -> Entry) {
        if let Some(recorder) = &mut self.recorder {
            recorder.put(&entry(&self.engine));
        }
    }

    /// Tells the journal and the subscribers what changed.
    fn tell(&mut self, transitions: Vec<Transition>) {
        for transition in transitions {
            tracing::info!(
                component = transition.component,
                check = transition.check,
                to = %transition.to,
                reason = transition.reason,
                shadow = transition.shadow,
                "state changed"
            );
            self.subscribers
                .retain(|subscriber| match subscriber.try_send(transition.clone()) {
                    Ok(()) => true,
                    Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
                });
        }
    }

    fn status(&self, usage: Usage) -> Status {
        let now = Moment::now();
        let mut status = self.base.clone();
        status.at_unix_ms = now.unix_ms;
        status.agent.cpu_seconds = usage.cpu_seconds;
        status.agent.resident_bytes = usage.resident_bytes;
        status.components = self.engine.components(now);
        status.incidents = incidents(&status.components);
        status.transitions = self.engine.transitions().cloned().collect();
        status.orders = self.engine.orders().cloned().collect();
        status.switches = self.engine.switches().cloned().collect();
        status
    }
}

fn tell_order(done: &Done) {
    tracing::info!(
        author = done.author.as_ref().map(tracing::field::display),
        order = ?done.order,
        outcome = done.outcome,
        "order"
    );
}

/// What the agent itself uses.
#[derive(Clone, Copy)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
}

impl Usage {
    /// Asks the kernel, which may take its time: not for under the lock.
    fn now() -> Self {
        Self {
            cpu_seconds: cpu_seconds(),
            resident_bytes: resident_bytes(),
        }
    }
}

/// CPU time of this process; 0 when the kernel does not say.
fn cpu_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0.0;
    };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0)).as_secs_f64()
}

/// Resident memory of this process; 0 when the kernel does not say.
fn resident_bytes() -> u64 {
    let pages = text::read("/proc/self/status".as_ref()).ok();
    let kilobytes = pages.and_then(|status| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    kilobytes.unwrap_or(0).saturating_mul(1024)
}
