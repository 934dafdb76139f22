//! What is known without the disk: the ids, what waits to be written, and how far everybody is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Instant;

use super::database::Known;
use super::open::SetAside;
use super::worker::{Flushed, OpenedFile, Worker};
use super::{
    Batch, Event, KernelBatch, Query, Record, States, StoreError, StoreSettings, StoreStatus,
};

/// [`Record::kind`] of the store's own events; they begin with [`TROUBLE`](super::TROUBLE).
const SET_ASIDE: &str = "store_set_aside";
const UNWRITABLE: &str = "store_unwritable";
const WRITABLE: &str = "store_writable";

type Outcome = Result<Flushed, StoreError>;

pub(super) struct Front {
    worker: Arc<Worker>,
    boot_id: String,
    settings: StoreSettings,
    last_id: u64,
    /// Not written yet.
    backlog: VecDeque<Event>,
    /// Not told yet.
    untold: Vec<Event>,
    states: Option<Arc<States>>,
    cursors: BTreeMap<String, u64>,
    /// Those of the cursors that are not written yet.
    moved: BTreeMap<String, u64>,
    /// Consumers that the file still knows, and nobody else.
    dismissed: BTreeSet<String>,
    trouble: Option<Trouble>,
    /// A write that the disk has not answered.
    unanswered: Option<Receiver<Outcome>>,
    lost: u64,
    /// The last id that was dropped unwritten.
    lost_through: u64,
    bytes: u64,
    /// Whether the file's past is known: not when it could not be opened at first.
    known: bool,
}

/// Nothing can be written.
struct Trouble {
    since_unix_ms: u64,
    reason: String,
    /// When writing was last tried; `None` to try at once.
    tried: Option<Instant>,
    /// Events that were dropped before it began.
    lost_before: u64,
}

impl Front {
    pub(super) fn new(worker: Arc<Worker>, boot_id: &str, settings: &StoreSettings) -> Self {
        Self {
            worker,
            boot_id: boot_id.to_owned(),
            settings: settings.clone(),
            last_id: 0,
            backlog: VecDeque::new(),
            untold: Vec::new(),
            states: None,
            cursors: BTreeMap::new(),
            moved: BTreeMap::new(),
            dismissed: BTreeSet::new(),
            trouble: None,
            unanswered: None,
            lost: 0,
            lost_through: 0,
            bytes: 0,
            known: false,
        }
    }

    /// Takes what the file knows, or that it could not be opened.
    pub(super) fn opened(&mut self, now_unix_ms: u64, opened: Result<OpenedFile, StoreError>) {
        // Where the ids of the past cannot be read, the seconds since 1970 are beyond them, unless
        // there was more than an event a second in all that time.
        let beyond = now_unix_ms / 1000;
        match opened {
            Ok(OpenedFile { known, set_aside }) => {
                self.last_id = match set_aside {
                    Some(_) => known.last_id.max(beyond),
                    None => known.last_id,
                };
                self.learn(known);
                if let Some(set_aside) = set_aside {
                    self.tell_set_aside(now_unix_ms, &set_aside);
                }
            }
            Err(error) => {
                self.last_id = beyond;
                self.fail(now_unix_ms, &error);
            }
        }
    }

    /// Takes over the past of the file. A consumer that is known to it goes on where it was, whatever it was given since.
    fn learn(&mut self, known: Known) {
        self.known = true;
        // A consumer may have acknowledged what was never written.
        let acknowledged = known.cursors.values().copied().max().unwrap_or(0);
        self.last_id = self.last_id.max(known.last_id).max(acknowledged);
        for (name, cursor) in known.cursors {
            if self.dismissed.contains(&name) {
                continue;
            }
            self.moved.remove(&name);
            self.cursors.insert(name, cursor);
        }
    }

    /// Gives a record its place among all others.
    pub(super) fn push(&mut self, record: Record) {
        let event = self.numbered(record);
        self.untold.push(event.clone());
        self.backlog.push_back(event);
    }

    /// Drops the oldest of what nobody could write.
    fn bound(&mut self) {
        while self.trouble.is_some() && self.backlog.len() > self.settings.most_unwritten {
            if let Some(event) = self.backlog.pop_front() {
                self.lost += 1;
                self.lost_through = event.id;
            }
        }
    }

    fn numbered(&mut self, record: Record) -> Event {
        self.last_id += 1;
        Event {
            id: self.last_id,
            boot_id: self.boot_id.clone(),
            stored: false,
            record,
        }
    }

    pub(super) fn put_states(&mut self, states: States) {
        let states = match self.states.take() {
            Some(waiting) if !states.all => {
                let mut waiting = Arc::unwrap_or_clone(waiting);
                waiting.parts.extend(states.parts);
                waiting
            }
            _ => states,
        };
        self.states = Some(Arc::new(states));
    }

    /// The events that nobody was told yet, and whether they are on disk.
    pub(super) fn told(&mut self) -> Vec<Event> {
        let unwritten = self.backlog.front().map_or(u64::MAX, |event| event.id);
        let mut events = std::mem::take(&mut self.untold);
        for event in &mut events {
            event.stored = event.id < unwritten && event.id > self.lost_through;
        }
        events
    }

    /// Lets the next write be tried at once.
    pub(super) fn hurry(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.tried = None;
        }
    }

    /// Writes all that waits, unless the disk has only just refused.
    pub(super) fn flush(&mut self, now_unix_ms: u64) {
        self.write_all(now_unix_ms);
        self.bound();
    }

    fn write_all(&mut self, now_unix_ms: u64) {
        if let Some(unanswered) = self.unanswered.take() {
            match unanswered.try_recv() {
                Ok(outcome) => self.take(now_unix_ms, outcome),
                Err(TryRecvError::Empty) => {
                    self.unanswered = Some(unanswered);
                    return;
                }
                Err(TryRecvError::Disconnected) => {
                    let died = self.worker.died();
                    self.fail(now_unix_ms, &died);
                }
            }
        }
        let tried = self.trouble.as_ref().and_then(|trouble| trouble.tried);
        if tried.is_some_and(|tried| tried.elapsed() < self.settings.retry) {
            return;
        }
        // What a write has to tell is written as well; twice, as a way out of trouble may begin
        // with a file that was set aside.
        for _ in 0..3 {
            let waits = !self.backlog.is_empty()
                || self.states.is_some()
                || !self.moved.is_empty()
                || !self.dismissed.is_empty();
            if !waits || !self.try_write(now_unix_ms) {
                break;
            }
        }
    }

    /// Writes all that waits; false when that failed.
    fn try_write(&mut self, now_unix_ms: u64) -> bool {
        let batch = Batch {
            events: self.backlog.iter().cloned().collect(),
            states: self.states.clone(),
            // Those of the file must be known before they are moved.
            cursors: match self.known {
                true => self.moved.clone(),
                false => BTreeMap::new(),
            },
            dismissed: self.dismissed.clone(),
        };
        let known = self.known;
        let asked = self
            .worker
            .ask(move |keeper| keeper.flush(batch, !known, now_unix_ms));
        let outcome = match asked {
            Ok(answer) => match answer.recv_timeout(self.settings.deadline) {
                Ok(outcome) => outcome,
                Err(RecvTimeoutError::Timeout) => {
                    self.unanswered = Some(answer);
                    Err(self.worker.late(self.settings.deadline))
                }
                Err(RecvTimeoutError::Disconnected) => Err(self.worker.died()),
            },
            Err(error) => Err(error),
        };
        let written = outcome.is_ok();
        self.take(now_unix_ms, outcome);
        written
    }

    fn take(&mut self, now_unix_ms: u64, outcome: Outcome) {
        let Flushed {
            batch,
            known,
            set_aside,
            bytes,
        } = match outcome {
            Ok(flushed) => flushed,
            Err(error) => return self.fail(now_unix_ms, &error),
        };
        self.bytes = bytes;
        if let Some(known) = known {
            self.learn(known);
        }
        if let Some(last) = batch.events.last() {
            self.backlog.retain(|event| event.id > last.id);
        }
        if let (Some(now), Some(then)) = (&self.states, &batch.states)
            && Arc::ptr_eq(now, then)
        {
            self.states = None;
        }
        self.moved
            .retain(|name, cursor| batch.cursors.get(name) != Some(cursor));
        self.dismissed
            .retain(|name| !batch.dismissed.contains(name));
        if let Some(set_aside) = set_aside {
            // The new file has none of the cursors.
            self.moved = self.cursors.clone();
            self.tell_set_aside(now_unix_ms, &set_aside);
        }
        if let Some(trouble) = self.trouble.take() {
            let lost = self.lost - trouble.lost_before;
            let seconds = now_unix_ms.saturating_sub(trouble.since_unix_ms) / 1000;
            let summary = format!(
                "the store can be written again after {seconds} s: {} events that had waited in memory are written, \
                 {lost} are lost",
                batch.events.len()
            );
            self.push(Record::of_agent(now_unix_ms, WRITABLE, summary));
        }
    }

    fn fail(&mut self, now_unix_ms: u64, error: &StoreError) {
        let reason = error.to_string();
        if let Some(trouble) = &mut self.trouble {
            trouble.reason = reason;
            trouble.tried = Some(Instant::now());
            return;
        }
        let summary = format!(
            "the store cannot be written, events wait in memory and are lost with the agent: {reason}"
        );
        self.trouble = Some(Trouble {
            since_unix_ms: now_unix_ms,
            reason,
            tried: Some(Instant::now()),
            lost_before: self.lost,
        });
        self.push(Record::of_agent(now_unix_ms, UNWRITABLE, summary));
    }

    fn tell_set_aside(&mut self, now_unix_ms: u64, set_aside: &SetAside) {
        let summary = format!(
            "the store was damaged ({}): it is kept as {}, and a new one begun without its history",
            set_aside.why,
            set_aside.to.display()
        );
        self.push(Record::of_agent(now_unix_ms, SET_ASIDE, summary));
    }

    pub(super) fn append_kernel(
        &mut self,
        now_unix_ms: u64,
        batch: KernelBatch,
    ) -> Result<Vec<Event>, StoreError> {
        // What waits was first.
        self.flush(now_unix_ms);
        if let Some(trouble) = &self.trouble {
            return Err(StoreError::Unwritable {
                path: self.worker.path().to_owned(),
                reason: trouble.reason.clone(),
            });
        }
        let KernelBatch {
            records,
            events,
            seen,
        } = batch;
        let others: Vec<_> = events
            .into_iter()
            .map(|event| self.numbered(event))
            .collect();
        let records: Vec<_> = records
            .into_iter()
            .map(|(record, event)| (record, event.map(|event| self.numbered(event))))
            .collect();
        let of_records = records.iter().filter_map(|(_, event)| event.clone());
        let mut events: Vec<Event> = others.iter().cloned().chain(of_records).collect();
        let asked = self.worker.ask(move |keeper| {
            keeper.write(|database| database.write_kernel(&records, &others, seen))
        });
        let outcome = match asked {
            Ok(answer) => match answer.recv_timeout(self.settings.deadline) {
                Ok(outcome) => outcome,
                Err(RecvTimeoutError::Timeout) => Err(self.worker.late(self.settings.deadline)),
                Err(RecvTimeoutError::Disconnected) => Err(self.worker.died()),
            },
            Err(error) => Err(error),
        };
        let new = outcome.inspect_err(|error| self.fail(now_unix_ms, error))?;
        events.retain_mut(|event| {
            event.stored = true;
            new.contains(&event.id)
        });
        Ok(events)
    }

    /// What waits and is asked for; the last id; the first that waits; whether the disk hangs.
    pub(super) fn waiting(&self, query: &Query) -> (Vec<Event>, u64, Option<u64>, bool) {
        let waiting = self.backlog.iter().filter(|event| query.matches(event));
        let oldest = self.backlog.front().map(|event| event.id);
        (
            waiting.cloned().collect(),
            self.last_id,
            oldest,
            self.unanswered.is_some(),
        )
    }

    /// How far a consumer is; one that is new begins here.
    pub(super) fn cursor(&mut self, now_unix_ms: u64, consumer: &str) -> u64 {
        if let Some(cursor) = self.cursors.get(consumer) {
            return *cursor;
        }
        let begin = self.last_id;
        self.dismissed.remove(consumer);
        self.cursors.insert(consumer.to_owned(), begin);
        self.moved.insert(consumer.to_owned(), begin);
        self.flush(now_unix_ms);
        begin
    }

    pub(super) fn dismiss(&mut self, consumer: &str) {
        self.moved.remove(consumer);
        if self.cursors.remove(consumer).is_some() || !self.known {
            self.dismissed.insert(consumer.to_owned());
        }
    }

    pub(super) fn acknowledge(&mut self, consumer: &str, id: u64) {
        let id = id.min(self.last_id);
        let cursor = self.cursors.entry(consumer.to_owned()).or_insert(0);
        if id > *cursor {
            *cursor = id;
            self.moved.insert(consumer.to_owned(), id);
        }
    }

    pub(super) fn status(&self) -> StoreStatus {
        let trouble = self.trouble.as_ref();
        StoreStatus {
            file: self.worker.path().display().to_string(),
            writable: trouble.is_none(),
            reason: trouble.map(|trouble| trouble.reason.clone()),
            unwritable_since_unix_ms: trouble.map(|trouble| trouble.since_unix_ms),
            last_event_id: self.last_id,
            unwritten: self.backlog.len() as u64,
            lost: self.lost,
            bytes: self.bytes,
        }
    }
}
