//! What the loop, the servers and the handle share.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::judging::Judging;
use super::links::{Book, Heard, Owner};
use super::memory::Memory;
use super::round::only_heard;
use super::usage::Usage;
use super::{Builder, tell};
use crate::config::{Config, ConfigError};
use crate::facts::{Heard as KernelLines, Kind};
use crate::hook::{HookSettings, Hooks};
use crate::incident::incidents;
use crate::operator::{Author, Done, Order, OrderError};
use crate::probe::ProbeError;
use crate::probe::discover::Found;
use crate::recording::{Entry, Recorder, Start};
use crate::status::{ConfigAccessStatus, ReadersStatus, ReloadStatus};
use crate::store::{Event, KernelBatch, Record, Store};
use crate::time::{Moment, millis};
use crate::verdict::{HealthState, Transition};
use crate::{Engine, Missing, Status, WaitError};

/// Transitions that may wait for a subscriber; one that is further behind is let go.
const BACKLOG: usize = 1024;

/// The engine, and those who wait for what it says.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    round_ended: Condvar,
}

struct Inner {
    engine: Engine,
    links: Book,
    memory: Memory,
    store: Store,
    hooks: Option<Hooks>,
    /// Id of the last event that was told.
    last_told: watch::Sender<u64>,
    /// Processes that read for the agent.
    readers: Vec<u32>,
    /// The status without what is asked of the engine and of the kernel at each snapshot.
    base: Status,
    subscribers: Vec<SyncSender<Transition>>,
    recorder: Option<Recorder>,
    closed: bool,
}

/// How a round went.
pub(super) struct RoundEnd<'a> {
    /// Why the host's devices could not be listed.
    pub(super) discovery_error: Option<&'a ProbeError>,
    pub(super) took: Duration,
    pub(super) readers: ReadersStatus,
    /// Those readers that are processes.
    pub(super) processes: Vec<u32>,
    pub(super) config_access: ConfigAccessStatus,
    /// Dwords of config space that were asked for so far.
    pub(super) config_dwords: u64,
}

impl Shared {
    pub(crate) fn new(
        options: &Builder,
        store: Store,
        boot_id: String,
        recorder: Option<Recorder>,
    ) -> Self {
        let settings = &options.config.settings;
        let now = Moment::now();
        let (memory, engine, start) = Memory::restore(&store, settings, boot_id, now);
        let mut inner = Inner {
            engine,
            links: Book::default(),
            memory,
            store,
            hooks: None,
            last_told: watch::Sender::new(0),
            readers: Vec::new(),
            base: options.empty_status(),
            subscribers: Vec::new(),
            recorder,
            closed: false,
        };
        inner.record(|engine| Entry::Start(Box::new(Start::of(engine, settings, now))));
        inner.keep(vec![start]);
        Self {
            inner: Mutex::new(inner),
            round_ended: Condvar::new(),
        }
    }

    /// No code that can panic runs under the lock, and all of it leaves a sound state.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the engine judge; what changes is stored, and then told.
    pub(crate) fn judge(&self, judge: impl FnOnce(&mut Judging<'_>)) {
        let mut inner = self.lock();
        let Inner {
            engine,
            links,
            recorder,
            ..
        } = &mut *inner;
        let mut judging = Judging::new(engine, links, recorder.as_mut());
        judge(&mut judging);
        let records = judging.records();
        inner.keep(records);
    }

    /// Takes what the kernel said of interfaces. The components that it concerns, and how long until there is more to tell.
    pub(super) fn hear(&self, heard: Heard) -> (Vec<String>, Option<Duration>) {
        let now = Moment::now();
        let mut inner = self.lock();
        let Inner { engine, links, .. } = &mut *inner;
        let owners = engine.ports().map(|(bdf, interface, port)| Owner {
            bdf: bdf.to_owned(),
            interface: interface.map(str::to_owned),
            port,
        });
        let owners: Vec<Owner> = owners.collect();
        let concerned = links.hear(now, heard, &owners);
        let records = links.due(now);
        let wait = links.next_due(now);
        inner.keep(records);
        (concerned, wait)
    }

    /// Lets the engine judge what the kernel said of these components, as far as they are known, and has on disk what they
    /// make of it; or first in line to be written.
    pub(super) fn judge_heard(
        &self,
        components: &[String],
        mut heard: impl FnMut(&str) -> Vec<KernelLines>,
    ) {
        let mut inner = self.lock();
        let Inner {
            engine,
            links,
            recorder,
            ..
        } = &mut *inner;
        let is_meant = |bdf: &str| components.iter().any(|component| component == bdf);
        let known: Vec<(String, Kind)> = engine
            .known()
            .filter(|(bdf, ..)| is_meant(bdf))
            .map(|(bdf, kind, _)| (bdf.to_owned(), kind))
            .collect();
        if known.is_empty() {
            return;
        }
        let mut judging = Judging::new(engine, links, recorder.as_mut());
        for (bdf, kind) in &known {
            let heard = heard(bdf);
            judging.observe(only_heard(&bdf.as_str().into(), *kind, Some(Ok(heard))));
        }
        let records = judging.records();
        let concerned: Vec<String> = known.into_iter().map(|(bdf, _)| bdf).collect();
        inner.keep_with(records, &concerned);
    }

    /// Keeps what was read of the kernel log, and then tells it; gives it back where it cannot be kept now.
    pub(super) fn keep_kernel_log(&self, batch: KernelBatch) -> Result<(), KernelBatch> {
        let mut inner = self.lock();
        let now = Moment::now().unix_ms;
        match inner.store.append_kernel(now, batch.clone()) {
            Ok(events) => {
                inner.tell(&events);
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "what the kernel said waits");
                Err(batch)
            }
        }
    }

    /// What is to be read of the host for its manifest; `None` when that says nothing of it.
    pub(super) fn asked_of_host(&self) -> Option<Vec<String>> {
        let inner = self.lock();
        let wanted = &inner.engine.settings().manifest.host;
        (!wanted.is_empty()).then(|| wanted.asked())
    }

    /// The sequence number up to which this boot's kernel log was read by the last agent.
    pub(super) fn kernel_log_seen(&self) -> Option<u64> {
        let store = self.lock().store.clone();
        store.last_kernel_sequence().ok().flatten()
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
        let mut records = vec![Record::from(&done)];
        records.extend(transitions.iter().map(Record::from));
        inner.keep(records);
        Ok(done)
    }

    /// Puts another configuration in force; what is known of the components stays known.
    pub(crate) fn configure(&self, config: &Config, pending: Vec<String>) {
        let now = Moment::now();
        let mut inner = self.lock();
        let settings = &config.settings;
        inner.record(|_| Entry::Settings(Box::new(Start::without_memory(settings, now))));
        inner.engine.set_settings(settings.clone());
        inner.set_hooks(HookSettings::from(config), false);
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

    /// What the manifest names and none of the listed components can be.
    pub(crate) fn missing(&self, listed: &[(Kind, &str)]) -> Vec<Missing> {
        self.lock().engine.missing(listed)
    }

    /// Has hooks run on what the last agent had stored and none of them was told, and on what happens from now on.
    pub(crate) fn start_hooks(&self, settings: HookSettings) {
        self.lock().set_hooks(settings, true);
    }

    /// The components that a former agent knew.
    pub(crate) fn known(&self) -> Vec<Found> {
        let inner = self.lock();
        let functions = inner
            .engine
            .known()
            .filter(|(_, kind, _)| *kind != Kind::Host);
        let known = functions.map(|(bdf, kind, identity)| Found {
            bdf: bdf.to_owned(),
            kind,
            pci_id: identity.pci_id.clone(),
            interface: identity.interface.clone(),
            asked: Vec::new(),
        });
        known.collect()
    }

    /// What is kept, and the id of the last event whenever one was told.
    pub(crate) fn events(&self) -> (Store, watch::Receiver<u64>) {
        let inner = self.lock();
        (inner.store.clone(), inner.last_told.subscribe())
    }

    /// The address of a component that goes by a name.
    pub(crate) fn address(&self, name: &str) -> Result<String, String> {
        let found = self.lock().engine.address(name);
        found.map_err(|error| error.to_string())
    }

    /// Marks the end of a round.
    pub(super) fn end_round(&self, end: RoundEnd<'_>) {
        let mut inner = self.lock();
        inner.base.agent.rounds += 1;
        inner.base.agent.round_seconds += end.took.as_secs_f64();
        inner.readers = end.processes;
        let now = Moment::now();
        let ended = inner.engine.expire(now);
        if !ended.is_empty() {
            inner.record(|_| Entry::Expire(now));
        }
        match ended.is_empty() && !inner.memory.is_due() {
            true => {
                let events = inner.store.tick(now.unix_ms);
                inner.tell(&events);
            }
            false => inner.keep_all(ended.iter().map(Record::from).collect()),
        }
        inner.base.agent.readers = end.readers;
        inner.base.agent.config_access = end.config_access;
        inner.base.agent.config_dwords = end.config_dwords;
        inner.base.discovery_error = end.discovery_error.map(ToString::to_string);
        drop(inner);
        self.round_ended.notify_all();
    }

    /// Keeps all that is known for the next agent. Nothing new will come.
    pub(crate) fn close(&self) {
        let hooks = self.lock().hooks.take();
        // Not under the lock: those that run are killed, and waited for.
        drop(hooks);
        let mut inner = self.lock();
        let now = Moment::now();
        inner.keep_all(vec![Memory::farewell(now)]);
        inner.closed = true;
        inner.subscribers.clear();
        let store = inner.store.clone();
        drop(inner);
        store.close(now.unix_ms);
        self.round_ended.notify_all();
    }

    pub(crate) fn status(&self) -> Status {
        let usage = self.usage();
        self.lock().status(usage)
    }

    fn usage(&self) -> Usage {
        let readers = self.lock().readers.clone();
        Usage::now(&readers)
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
            let usage = self.usage();
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

    /// Other hooks from now on. Those that come when there were none go on where the last agent's were, or begin now.
    fn set_hooks(&mut self, settings: HookSettings, go_on: bool) {
        if let Some(hooks) = &self.hooks {
            return hooks.configure(settings);
        }
        let none = settings.hooks.is_empty();
        if none || !go_on {
            Hooks::none(&self.store);
        }
        if none {
            return;
        }
        match Hooks::start(self.store.clone(), settings) {
            Ok(hooks) => self.hooks = Some(hooks),
            Err(error) => tracing::error!(%error, "no hooks run: their thread cannot be started"),
        }
    }

    /// Stores what happened, if anything did, with what is remembered of it, and then tells it.
    fn keep(&mut self, records: Vec<Record>) {
        if !records.is_empty() {
            self.keep_all(records);
        }
    }

    fn keep_all(&mut self, records: Vec<Record>) {
        self.keep_with(records, &[]);
    }

    /// As [`keep`](Self::keep), and what these components remember.
    fn keep_with(&mut self, records: Vec<Record>, concerned: &[String]) {
        let now = Moment::now();
        let states = self.memory.states(&self.engine, &records, concerned, now);
        let events = self.store.append(now.unix_ms, records, states);
        self.tell(&events);
    }

    /// Tells the journal, the subscribers, the hooks and those who wait for events.
    fn tell(&mut self, events: &[Event]) {
        let Some(last) = events.last() else { return };
        for event in events {
            let transition = event.transition();
            tell::journal(event, transition.as_ref());
            if let Some(transition) = transition {
                self.subscribers.retain(|subscriber| {
                    match subscriber.try_send(transition.clone()) {
                        Ok(()) => true,
                        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
                    }
                });
            }
        }
        if let Some(hooks) = &self.hooks {
            hooks.wake();
        }
        self.last_told.send_replace(last.id);
    }

    fn status(&self, usage: Usage) -> Status {
        let now = Moment::now();
        let mut status = self.base.clone();
        status.at_unix_ms = now.unix_ms;
        status.agent.cpu_seconds = usage.cpu_seconds;
        status.agent.resident_bytes = usage.resident_bytes;
        status.agent.readers.cpu_seconds = usage.children_cpu_seconds;
        status.agent.readers.resident_bytes = usage.children_resident_bytes;
        status.components = self.engine.components(now);
        status.incidents = incidents(&status.components);
        status.transitions = self.engine.transitions().cloned().collect();
        status.orders = self.engine.orders().cloned().collect();
        status.switches = self.engine.switches().cloned().collect();
        status.store = Some(self.store.status());
        status
    }
}
