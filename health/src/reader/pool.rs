//! The agent's side: who reads what, and what happens when somebody is late.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ReaderCommand;
use super::held::{HeldReaders, LONGEST_RESET};
use super::job::{Done, Job, Key};
use super::life::{Life, Remains};
use super::serving::Reader;
use super::wire::LONGEST;
use crate::probe::ProbeError;
use crate::status::ReadersStatus;
use crate::time::millis;

/// Components that share a reader: a reader costs more memory than what it remembers of them, and one that wakes once a second
/// more time than a few of its looks.
const MEMBERS: usize = 128;
/// Readers of one component each: of those that were slow or hung.
const MOST_APART: usize = 8;
/// Readers that may hang before nothing that has hung before is tried again.
const MOST_TRIED: usize = 8;
/// Readers that may hang before no more are started at all. Each is a process that may not be
/// possible to end; a switch that dies takes as many components with it as it has slots.
const MOST_HELD: usize = 32;
/// This part of a deadline without an answer, and the jobs behind the one that lasts go to another
/// reader: they keep their cadence, and the one may still be in time.
const PATIENCE: u32 = 5;
/// A program that has not begun to serve after this long is none of ours.
const START: Duration = Duration::from_secs(10);

/// The readers of a host.
#[derive(Debug)]
pub(crate) struct Pool {
    command: Option<ReaderCommand>,
    root: PathBuf,
    deadline: Duration,
    readers: Vec<Reader>,
    held: HeldReaders,
    remains: Vec<Remains>,
    /// Jobs that were slow or hung, which are read apart from the others for a while.
    apart: BTreeMap<Key, Apart>,
    round: u64,
    asked: Instant,
    started: u64,
    missed: Vec<Done>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Apart {
    until: Instant,
    /// It has hung, so it must not share a reader.
    hung: bool,
}

impl Pool {
    /// A pool without readers; they are started as they are needed.
    pub(crate) fn new(command: Option<ReaderCommand>, root: &Path, deadline: Duration) -> Self {
        Self {
            command,
            root: root.to_owned(),
            deadline,
            readers: Vec::new(),
            held: HeldReaders::default(),
            remains: Vec::new(),
            apart: BTreeMap::new(),
            round: 0,
            asked: Instant::now(),
            started: 0,
            missed: Vec::new(),
            buffer: vec![0; LONGEST],
        }
    }

    /// How long a round may take from the next one on.
    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Begins a round: what was asked before is of no interest any more.
    pub(crate) fn begin(&mut self) {
        let now = Instant::now();
        self.round += 1;
        self.asked = now;
        self.remains.retain_mut(|remains| !remains.has_ended());
        for key in self.held.release(now, &mut self.buffer, &mut self.remains) {
            // It may hang again, so nobody else shall wait behind it.
            self.part(key, now, true);
        }
        self.apart.retain(|_, apart| apart.until > now);
        let (stay, go): (Vec<_>, _) =
            std::mem::take(&mut self.readers)
                .into_iter()
                .partition(|reader| match reader.apart {
                    Some(key) => self.apart.contains_key(&key) && !reader.members.is_empty(),
                    None => !reader.members.is_empty() || !reader.pending.is_empty(),
                });
        self.readers = stay;
        self.remains
            .extend(go.into_iter().map(|reader| reader.life.close()));
    }

    /// Asks for more in this round.
    pub(crate) fn ask(&mut self, jobs: impl IntoIterator<Item = Job>) {
        let mut asked: BTreeMap<usize, Vec<Job>> = BTreeMap::new();
        for job in jobs {
            match self.place(&job) {
                Ok(index) => asked.entry(index).or_default().push(job),
                Err(error) => self.missed.push(Done::Missed(job, error)),
            }
        }
        for (index, jobs) in asked {
            let round = self.round;
            let reader = &mut self.readers[index];
            if let Err(error) = reader.ask(round, jobs) {
                tracing::warn!(%error, "a reader cannot be asked");
                // What is pending is given to others when its end is seen.
                reader.leaves = true;
            }
        }
    }

    /// The component will not be asked for again.
    pub(crate) fn forget(&mut self, id: u64) {
        let key = Key::Look(id);
        self.apart.remove(&key);
        for reader in &mut self.readers {
            reader.drop_member(key);
        }
    }

    /// What was done since the last call.
    pub(crate) fn collect(&mut self) -> Vec<Done> {
        let now = Instant::now();
        let mut done = std::mem::take(&mut self.missed);
        let mut index = 0;
        while index < self.readers.len() {
            let reader = &mut self.readers[index];
            match reader.collect(self.round, now, &mut self.buffer, &mut done) {
                Ok(()) if reader.leaves && reader.pending.is_empty() => {
                    let reader = self.readers.swap_remove(index);
                    self.remains.push(reader.life.close());
                }
                Ok(()) => index += 1,
                Err(error) => {
                    let reader = self.readers.swap_remove(index);
                    self.lose(reader, &error);
                }
            }
        }
        self.relieve(now);
        done
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.missed.is_empty() && self.readers.iter().all(|reader| reader.pending.is_empty())
    }

    /// Time until the round is late.
    pub(crate) fn time_left(&self) -> Duration {
        self.deadline.saturating_sub(self.asked.elapsed())
    }

    /// Gives up what was not answered in time, and leaves behind whom it holds.
    pub(crate) fn give_up(&mut self) -> Vec<Done> {
        let now = Instant::now();
        let mut done = std::mem::take(&mut self.missed);
        for mut reader in std::mem::take(&mut self.readers) {
            let late = std::mem::take(&mut reader.pending);
            let first = late.front().map(Job::key);
            done.extend(late.into_iter().map(|job| Done::Missed(job, self.late())));
            match first {
                None => self.readers.push(reader),
                // A program that takes its time to start is held by nothing yet.
                Some(_) if !reader.ready && now.saturating_duration_since(reader.since) < START => {
                    self.readers.push(reader);
                }
                Some(_) if !reader.ready => self.remains.push(reader.life.close()),
                Some(key) => self.held.add(reader.life, key, now),
            }
        }
        done
    }

    pub(crate) fn usage(&self) -> ReadersStatus {
        ReadersStatus {
            serving: self.readers.len(),
            held: self.held.count(),
            started: self.started,
            ..ReadersStatus::default()
        }
    }

    /// The processes that serve or hang.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let serving = self.readers.iter().map(|reader| &reader.life);
        serving
            .chain(self.held.lives())
            .filter_map(Life::process)
            .collect()
    }

    /// Ends all readers, and waits a moment for those that can end.
    pub(crate) fn close(self, patience: Duration) {
        let readers = self.readers.into_iter().map(|reader| reader.life.close());
        let mut remains: Vec<Remains> = readers
            .chain(self.held.close())
            .chain(self.remains)
            .collect();
        let deadline = Instant::now() + patience;
        loop {
            remains.retain_mut(|remains| !remains.has_ended());
            if remains.is_empty() || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if !remains.is_empty() {
            let count = remains.len();
            tracing::warn!(count, "readers are held by a read; they end when it does");
        }
    }

    /// The reader that a job is to go to.
    fn place(&mut self, job: &Job) -> Result<usize, ProbeError> {
        let key = job.key();
        if self.held.hold(key) {
            return Err(self.late());
        }
        let apart = self.apart.get(&key).copied();
        let own = self
            .readers
            .iter()
            .position(|reader| reader.members.contains(&key) && !reader.leaves);
        if let Some(index) = own {
            let reader = &self.readers[index];
            if reader.apart.is_some() || apart.is_none() || !self.may_read_apart() {
                return Ok(index);
            }
            self.readers[index].drop_member(key);
        }
        match apart {
            Some(_) if self.may_read_apart() => return self.start(key, Some(key)),
            Some(Apart { hung: true, .. }) => return Err(self.none_left()),
            _ => {}
        }
        let shared = self.readers.iter_mut().enumerate().find(|(_, reader)| {
            reader.apart.is_none() && !reader.leaves && reader.members.len() < MEMBERS
        });
        match shared {
            Some((index, reader)) => {
                reader.members.insert(key);
                Ok(index)
            }
            None => self.start(key, None),
        }
    }

    fn may_read_apart(&self) -> bool {
        let apart = self.readers.iter().filter(|reader| reader.apart.is_some());
        apart.count() < MOST_APART && self.held.count() < MOST_TRIED
    }

    fn start(&mut self, key: Key, apart: Option<Key>) -> Result<usize, ProbeError> {
        // Each that serves may be the next to hang.
        if self.held.count() + self.readers.len() >= MOST_HELD {
            return Err(self.none_left());
        }
        let life = Life::start(self.command.as_ref(), &self.root).map_err(|error| {
            ProbeError::NoReader {
                errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            }
        })?;
        self.started += 1;
        self.readers.push(Reader::new(life, key, apart));
        Ok(self.readers.len() - 1)
    }

    /// Moves what waits behind a job that lasts to other readers.
    fn relieve(&mut self, now: Instant) {
        let patience = self.deadline / PATIENCE;
        let mut moved = Vec::new();
        let mut slow = Vec::new();
        for reader in &mut self.readers {
            let lasts = now.saturating_duration_since(reader.progress) >= patience;
            let Some(first) = reader.pending.front().map(Job::key) else {
                continue;
            };
            if !reader.ready || !lasts || reader.apart.is_some() {
                continue;
            }
            slow.push(first);
            if reader.pending.len() > 1 {
                moved.extend(reader.pending.drain(1..));
                reader.leaves = true;
            }
        }
        for key in slow {
            self.part(key, now, false);
        }
        if !moved.is_empty() {
            tracing::debug!(jobs = moved.len(), "moved behind a read that lasts");
            self.ask(moved);
        }
    }

    /// Buries a reader that has ended by itself. What it was at may be the reason, so that alone is
    /// not asked for again in this round.
    fn lose(&mut self, mut reader: Reader, error: &io::Error) {
        tracing::warn!(%error, "a reader has ended");
        let first = reader.pending.pop_front();
        let rest = std::mem::take(&mut reader.pending);
        let ready = reader.ready;
        self.remains.push(reader.life.close());
        let lost = |job| Done::Missed(job, ProbeError::ReaderLost);
        if let Some(job) = first {
            self.part(job.key(), self.asked, true);
            self.missed.push(lost(job));
        }
        if ready {
            self.ask(rest);
        } else {
            // One that never began to serve says nothing for the next.
            self.missed.extend(rest.into_iter().map(lost));
        }
    }

    /// Reads a job apart from the others for a while.
    fn part(&mut self, key: Key, now: Instant, hung: bool) {
        let until = now + LONGEST_RESET;
        let apart = self.apart.entry(key).or_insert(Apart { until, hung });
        apart.until = until;
        apart.hung |= hung;
    }

    fn none_left(&self) -> ProbeError {
        ProbeError::ReadersHeld {
            held: self.held.count(),
        }
    }

    fn late(&self) -> ProbeError {
        ProbeError::Late {
            deadline_ms: millis(self.deadline),
        }
    }
}
