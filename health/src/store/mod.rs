//! What the agent keeps: events before they are told, states over restarts, how far each consumer
//! has been told, and the records of the kernel log.
//!
//! One SQLite file in WAL mode, written by a thread of its own, so that a disk that hangs stops
//! nobody for longer than a deadline. While nothing can be written, events wait in a bounded
//! memory and are told as not stored; they are written, in order, as soon as that is possible.
//!
//! The store knows nothing of rules: states are texts under names.

mod database;
mod error;
mod front;
mod open;
mod reader;
mod record;
mod retention;
mod schema;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::StoreError;
pub use reader::Reader;
pub use record::{
    Event, KernelBatch, KernelRecord, MOST, ORDER, Page, Query, Record, SCHEMA, TRANSITION,
};

use front::Front;
use worker::{Place, Worker};

/// What the kinds of events on the store itself begin with.
pub(crate) const TROUBLE: &str = "store_";
/// Name of the file in the state directory.
const FILE: &str = "health.db";
/// How long the file may take to be opened and checked when the agent starts: a check reads all of
/// it, 64 MiB from a slow disk.
const OPEN: Duration = Duration::from_secs(10);
/// How long its thread may take to end.
const CLOSE: Duration = Duration::from_secs(2);

/// Where the store of a host is, unless somebody says otherwise: what systemd made for the service, where this machine's
/// agent is one, else `var/lib/auk` below the root.
#[must_use]
pub fn state_directory(root: &Path) -> PathBuf {
    let given = std::env::var_os("STATE_DIRECTORY").filter(|_| root == Path::new("/"));
    // systemd.exec(5): several are separated by colons.
    let first = given.and_then(|given| std::env::split_paths(&given).next());
    first
        .filter(|directory| directory.is_absolute())
        .unwrap_or_else(|| root.join("var/lib/auk"))
}

/// The file in a state directory.
#[must_use]
pub fn file(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// How much is kept, and how long is waited for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// How long events are kept.
    pub keep: Duration,
    /// How big the file may become.
    pub most_bytes: u64,
    /// Events that may wait in memory while nothing can be written; the oldest go first.
    pub most_unwritten: usize,
    /// How long a write may take before the agent goes on without it.
    pub deadline: Duration,
    /// How long to wait before writing is tried again.
    pub retry: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            // Four times the week that repeat offenders are judged by, and a month's report.
            keep: Duration::from_secs(30 * 86_400),
            // An event is about 1 KiB, so this is one every 40 s for a month; nothing on a disk.
            most_bytes: 64 << 20,
            // A storm over 64 components; 4 MiB of the agent's 20.
            most_unwritten: 4096,
            // Half of the two seconds within which an error is to be told.
            deadline: Duration::from_secs(1),
            // A full disk is emptied by people; five seconds are soon enough and cost nothing.
            retry: Duration::from_secs(5),
        }
    }
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// The file.
    pub file: String,
    /// Whether it can be written.
    pub writable: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Unix time in milliseconds since which it cannot.
    pub unwritable_since_unix_ms: Option<u64>,
    /// The greatest id that was given to an event.
    pub last_event_id: u64,
    /// Events that wait in memory.
    pub unwritten: u64,
    /// Events that were dropped because too many waited, since the agent started.
    pub lost: u64,
    /// Bytes in use in the file, when it was last written.
    pub bytes: u64,
}

/// States to be kept: texts under names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// The texts.
    pub parts: BTreeMap<String, String>,
    /// Whether these are all there are, and those under other names are to go.
    pub all: bool,
}

/// What a consumer has not acknowledged yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// Whether older ones were removed, by age or by size, before they were acknowledged.
    pub lost: bool,
}

/// What is written in one transaction.
#[derive(Clone, Debug, Default)]
struct Batch {
    events: Vec<Event>,
    states: Option<Arc<States>>,
    cursors: BTreeMap<String, u64>,
    /// Consumers that are to be known no more.
    dismissed: BTreeSet<String>,
}

/// The store of one host. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    worker: Arc<Worker>,
    front: Arc<Mutex<Front>>,
}

impl Store {
    /// Opens the file in a state directory, for the boot that this is. A damaged file is set
    /// aside; one that cannot be opened is tried again later. Both are told by [`tick`](Self::tick).
    ///
    /// # Errors
    /// [`StoreError::Newer`]: what a newer agent wrote is not touched, and to go on without it
    /// would be to forget. And when no thread can be started.
    pub fn open(
        directory: &Path,
        boot_id: &str,
        settings: &StoreSettings,
        now_unix_ms: u64,
    ) -> Result<Self, StoreError> {
        Self::open_file(file(directory), boot_id, settings, now_unix_ms)
    }

    /// A store that is gone when the agent is, for one that is only tried out.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn in_memory(
        boot_id: &str,
        settings: &StoreSettings,
        now_unix_ms: u64,
    ) -> Result<Self, StoreError> {
        Self::open_file(PathBuf::from(open::MEMORY), boot_id, settings, now_unix_ms)
    }

    fn open_file(
        path: PathBuf,
        boot_id: &str,
        settings: &StoreSettings,
        now_unix_ms: u64,
    ) -> Result<Self, StoreError> {
        let worker = Arc::new(Worker::start(Place {
            path,
            boot_id: boot_id.to_owned(),
            settings: settings.clone(),
        })?);
        let mut front = Front::new(Arc::clone(&worker), boot_id, settings);
        let opening = worker.ask(move |keeper| keeper.open(now_unix_ms))?;
        match opening.recv_timeout(OPEN) {
            Ok(Err(error @ StoreError::Newer { .. })) => return Err(error),
            Ok(opened) => front.opened(now_unix_ms, opened),
            Err(RecvTimeoutError::Timeout) => {
                let late = worker.late(OPEN);
                front.opened(now_unix_ms, Err(late));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(worker.died()),
        }
        Ok(Self {
            worker,
            front: Arc::new(Mutex::new(front)),
        })
    }

    /// No code that can panic runs under the lock, and all of it leaves a sound state.
    fn lock(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps records, and with them the states, all or nothing. The events that may be told now:
    /// those of the records, and perhaps some on the store itself. Each says whether it is on disk.
    pub fn append(
        &self,
        now_unix_ms: u64,
        records: Vec<Record>,
        states: Option<States>,
    ) -> Vec<Event> {
        let mut front = self.lock();
        for record in records {
            front.push(record);
        }
        if let Some(states) = states {
            front.put_states(states);
        }
        front.flush(now_unix_ms);
        front.told()
    }

    /// Tries to write what waits, when it is time to. The events that may be told now.
    pub fn tick(&self, now_unix_ms: u64) -> Vec<Event> {
        let mut front = self.lock();
        front.flush(now_unix_ms);
        front.told()
    }

    /// Keeps what was read of this boot's kernel log, each record once whatever is tried again, and with each
    /// the event that it gives rise to. The events that are new. After an error the same batch
    /// is to be given again; what the disk took in spite of its silence is then known.
    ///
    /// # Errors
    /// When it cannot be written now: the kernel has it still.
    pub fn append_kernel(
        &self,
        now_unix_ms: u64,
        batch: KernelBatch,
    ) -> Result<Vec<Event>, StoreError> {
        self.lock().append_kernel(now_unix_ms, batch)
    }

    /// The sequence number up to which this boot's kernel log has been read.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last_kernel_sequence(&self) -> Result<Option<u64>, StoreError> {
        self.worker
            .read(|database| database.last_kernel_sequence())?
            .within(&self.worker)
    }

    /// The states as they were last kept.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn states(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.worker
            .read(|database| database.states())?
            .within(&self.worker)
    }

    /// The events that are asked for, oldest first, with those that are not written yet.
    ///
    /// # Errors
    /// When the file cannot be read and memory does not hold all that is asked for.
    pub fn events(&self, query: &Query) -> Result<Page, StoreError> {
        let (waiting, last_id, oldest_waiting, hung) = self.lock().waiting(query);
        // What memory holds begins where the file ends.
        let in_memory =
            oldest_waiting.is_some_and(|oldest| query.after.saturating_add(1) >= oldest);
        let file = match (in_memory, hung) {
            (true, true) => Ok((Vec::new(), 0)),
            (false, true) => Err(self.worker.late(self.worker.deadline())),
            _ => self.read_events(query),
        };
        let (mut events, forgotten_through) = match file {
            Err(_) if in_memory => (Vec::new(), 0),
            other => other?,
        };
        if query.newest || events.len() <= query.limit() {
            // Some may have been written between the two.
            let written = events.last().map_or(0, |event: &Event| event.id);
            events.extend(waiting.into_iter().filter(|event| event.id > written));
        }
        let more = query.cut(&mut events);
        Ok(Page {
            schema: SCHEMA,
            events,
            more,
            last_id,
            forgotten_through,
        })
    }

    fn read_events(&self, query: &Query) -> Result<(Vec<Event>, u64), StoreError> {
        let query = query.clone();
        self.worker
            .read(move |database| {
                let forgotten = database::forgotten_through(&database.connection)?;
                Ok((database::events(&database.connection, &query)?, forgotten))
            })?
            .within(&self.worker)
    }

    /// The oldest events that a consumer has not acknowledged. One that is new begins with what
    /// happens from now on. Not for the loop of the agent: it may wait for the disk.
    ///
    /// # Errors
    /// As [`events`](Self::events).
    pub fn pending(
        &self,
        now_unix_ms: u64,
        consumer: &str,
        limit: usize,
    ) -> Result<Pending, StoreError> {
        let after = self.lock().cursor(now_unix_ms, consumer);
        let page = self.events(&Query {
            after,
            limit: Some(limit),
            ..Query::default()
        })?;
        Ok(Pending {
            lost: page.forgotten_through > after,
            events: page.events,
        })
    }

    /// A consumer has dealt with all events up to `id`, and is not given them again. When it
    /// cannot be written and the agent ends, it is.
    pub fn ack(&self, now_unix_ms: u64, consumer: &str, id: u64) {
        let mut front = self.lock();
        front.acknowledge(consumer, id);
        front.flush(now_unix_ms);
    }

    /// A consumer is there from now on; one that is known goes on where it was.
    pub fn enlist(&self, now_unix_ms: u64, consumer: &str) {
        self.lock().cursor(now_unix_ms, consumer);
    }

    /// A consumer is there no more. Should it come back, it begins as one that is new.
    pub fn dismiss(&self, now_unix_ms: u64, consumer: &str) {
        let mut front = self.lock();
        front.dismiss(consumer);
        front.flush(now_unix_ms);
    }

    /// How the store is.
    #[must_use]
    pub fn status(&self) -> StoreStatus {
        self.lock().status()
    }

    /// Writes what waits, if that is possible, and closes the file.
    pub fn close(self, now_unix_ms: u64) {
        let mut front = self.lock();
        front.hurry();
        front.flush(now_unix_ms);
        drop(front);
        self.worker.close(CLOSE);
    }
}

/// An integer for SQLite, which has none above 2^63 - 1.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An integer of the file, which may hold anything.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
