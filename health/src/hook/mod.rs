//! Hooks: commands that are run when something changes.
//!
//! They are told of what the store keeps, so an event is told again after a crash or a stop in its midst: at least once, with its
//! id. Of one component one hook runs at a time, in the order of events; of several as many as allowed.

mod run;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, mem};

use tracing::{info, warn};

use crate::config::{Config, Hook};
use crate::store::{Event, Store};
use crate::time::Moment;
use crate::verdict::Transition;
use run::End;

/// The store's name for those who are told here.
const CONSUMER: &str = "hooks";
/// Events that are looked at ahead of the oldest that is not done.
const AHEAD: usize = 256;
/// When the store cannot be read it is tried again so soon.
const RETRY: Duration = Duration::from_secs(5);

/// The commands to run.
#[derive(Clone, Debug, Default)]
pub struct HookSettings {
    /// By name.
    pub hooks: BTreeMap<String, Hook>,
    /// How many may run at once.
    pub at_once: usize,
}

impl From<&Config> for HookSettings {
    fn from(config: &Config) -> Self {
        Self {
            hooks: config.hooks.clone(),
            at_once: usize::try_from(config.agent.hooks_at_once).unwrap_or(1),
        }
    }
}

/// The thread that runs hooks.
#[derive(Debug)]
pub struct Hooks {
    messages: Sender<Message>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    /// The store has something new.
    New,
    Settings(HookSettings),
    Done {
        component: String,
        event: u64,
    },
    Stop,
}

struct Job {
    name: String,
    hook: Hook,
    event: Arc<Event>,
    change: Arc<Transition>,
}

impl Hooks {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(store: Store, settings: HookSettings) -> io::Result<Self> {
        // Here and not by the thread, so that nothing that happens meanwhile is missed.
        store.enlist(Moment::now().unix_ms, CONSUMER);
        let (messages, inbox) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let dispatcher = Dispatcher {
            store,
            settings,
            messages: messages.clone(),
            stopping: Arc::clone(&stopping),
            seen: 0,
            acknowledged: 0,
            open: BTreeMap::new(),
            queue: VecDeque::new(),
            busy: BTreeSet::new(),
        };
        let thread = thread::Builder::new()
            .name("auk-hooks".to_owned())
            .spawn(move || dispatcher.run(&inbox))?;
        Ok(Self {
            messages,
            stopping,
            thread: Some(thread),
        })
    }

    /// There are no hooks. Those that there may be later are not told of what happens until then.
    pub fn none(store: &Store) {
        store.dismiss(Moment::now().unix_ms, CONSUMER);
    }

    /// Something was stored.
    pub fn wake(&self) {
        // Its thread ends only when it is told to.
        let _ = self.messages.send(Message::New);
    }

    /// Other hooks from now on. What runs runs on.
    pub fn configure(&self, settings: HookSettings) {
        let _ = self.messages.send(Message::Settings(settings));
    }

    /// Kills what runs, and ends. What was not done is told by the next agent.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread of the hooks ended by a panic, which is a bug of the agent");
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.end();
    }
}

struct Dispatcher {
    store: Store,
    settings: HookSettings,
    messages: Sender<Message>,
    stopping: Arc<AtomicBool>,
    /// The last event that was looked at.
    seen: u64,
    acknowledged: u64,
    /// Events that are not done, and how many of their hooks are not.
    open: BTreeMap<u64, usize>,
    queue: VecDeque<Job>,
    /// Components of which a hook runs.
    busy: BTreeSet<String>,
}

impl Dispatcher {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let read = self.fetch();
            self.start_some();
            self.acknowledge();
            let message = match read {
                Ok(()) => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Err(()) => inbox.recv_timeout(RETRY),
            };
            match message {
                Ok(Message::New) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Settings(settings)) => self.settings = settings,
                Ok(Message::Done { component, event }) => self.done(&component, event),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Each of them is being killed, and says so.
        while !self.busy.is_empty() {
            let Ok(message) = inbox.recv() else { return };
            if let Message::Done { component, .. } = message {
                self.busy.remove(&component);
            }
        }
    }

    /// Makes jobs of events that were not looked at yet.
    fn fetch(&mut self) -> Result<(), ()> {
        loop {
            let now = Moment::now().unix_ms;
            let pending = match self.store.pending(now, CONSUMER, AHEAD) {
                Ok(pending) => pending,
                Err(error) => {
                    warn!(%error, "hooks wait: events cannot be read");
                    return Err(());
                }
            };
            if pending.lost {
                warn!("events were removed from the store before hooks were told of them");
            }
            let before = self.seen;
            for event in pending.events {
                if event.id > self.seen {
                    self.seen = event.id;
                    self.take(event);
                }
            }
            // More may follow what was of no interest to any hook.
            if self.seen == before || !self.open.is_empty() {
                return Ok(());
            }
            self.acknowledge();
        }
    }

    fn take(&mut self, event: Event) {
        let Some(change) = event.transition() else {
            return;
        };
        let (event, change) = (Arc::new(event), Arc::new(change));
        for (name, hook) in &self.settings.hooks {
            if hook.wants(&change) {
                *self.open.entry(event.id).or_default() += 1;
                self.queue.push_back(Job {
                    name: name.clone(),
                    hook: hook.clone(),
                    event: Arc::clone(&event),
                    change: Arc::clone(&change),
                });
            }
        }
    }

    /// Starts what may run now: the first of each component that none runs of.
    fn start_some(&mut self) {
        let mut waiting = BTreeSet::new();
        for job in mem::take(&mut self.queue) {
            let component = &job.change.component;
            let may = self.busy.len() < self.settings.at_once.max(1)
                && !self.busy.contains(component)
                && !waiting.contains(component);
            if may {
                self.start(job);
            } else {
                waiting.insert(component.clone());
                self.queue.push_back(job);
            }
        }
    }

    fn start(&mut self, job: Job) {
        let component = job.change.component.clone();
        let event = job.event.id;
        self.busy.insert(component.clone());
        let (messages, stopping) = (self.messages.clone(), Arc::clone(&self.stopping));
        let name = job.name.clone();
        let done = Message::Done {
            component: component.clone(),
            event,
        };
        let spawned = thread::Builder::new()
            .name("auk-hook".to_owned())
            .spawn(move || {
                job.run(&stopping);
                // The dispatcher waits for this before it ends.
                let _ = messages.send(done);
            });
        if let Err(error) = spawned {
            warn!(hook = name, event, %error, "could not start a hook");
            self.done(&component, event);
        }
    }

    fn done(&mut self, component: &str, event: u64) {
        self.busy.remove(component);
        if let Some(left) = self.open.get_mut(&event) {
            *left -= 1;
            if *left == 0 {
                self.open.remove(&event);
            }
        }
    }

    /// Tells the store how far everything is done.
    fn acknowledge(&mut self) {
        let through = match self.open.first_key_value() {
            Some((oldest, _)) => oldest - 1,
            None => self.seen,
        };
        if through > self.acknowledged {
            self.store.ack(Moment::now().unix_ms, CONSUMER, through);
            self.acknowledged = through;
        }
    }
}

impl Job {
    fn run(&self, stopping: &AtomicBool) {
        let (hook, event, component) = (&self.name, self.event.id, &self.change.component);
        let (end, output) = run::run(hook, &self.hook, &self.event, &self.change, stopping);
        let output = output.trim_end();
        match end {
            End::Exited(status) if status.success() => {
                info!(hook, event, component, output, "hook ran");
            }
            End::Exited(status) => {
                warn!(hook, event, component, output, "hook failed: {status}");
            }
            End::Late => {
                let deadline = crate::config::duration(self.hook.deadline);
                warn!(
                    hook,
                    event, component, output, "hook killed: it ran for {deadline}"
                );
            }
            End::Stopped => {
                info!(
                    hook,
                    event, component, "hook killed: the agent stops; it runs again"
                );
            }
            End::NotStarted(error) => {
                let program = self.hook.command.first();
                warn!(hook, event, component, program, %error, "hook could not be started");
            }
        }
    }
}
