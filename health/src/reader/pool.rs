//! The agent's side: who reads what, and what happens when somebody is late.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ReaderCommand;
use super::held::{HeldReaders, LONGEST_RESET};
use super::life::{Life, Remains};
use super::wire::{Answer, LONGEST, Look, Request, VERSION};
use crate::facts::{Class, Facts, Identity};
use crate::probe::ProbeError;
use crate::probe::discover::Found;
use crate::probe::target::ConfigAccess;
use crate::status::ReadersStatus;
use crate::time::millis;

/// Components that share a reader: a reader costs more memory than what it remembers of them.
const MEMBERS: usize = 64;
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

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The list of the host's devices.
    List,
    /// A component, by the agent's number.
    Look(u64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("the list of devices"),
            Self::Look(id) => write!(f, "component {id}"),
        }
    }
}

/// Something to read.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// List the host's devices.
    List,
    /// Look at a component.
    Look {
        /// The agent's number for it; never used again for another.
        id: u64,
        /// What to read of it.
        class: Class,
        /// What it is.
        found: Arc<Found>,
    },
}

impl Job {
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::List => Key::List,
            Self::Look { id, .. } => Key::Look(*id),
        }
    }
}

/// What came of a job.
#[derive(Debug)]
pub(crate) enum Done {
    /// The list; `None` when it is as it was the last time.
    Listed(Result<Option<Vec<Found>>, ProbeError>),
    /// A look.
    Looked {
        /// The agent's number for the component.
        id: u64,
        /// Who it is, as far as could be read.
        identity: Identity,
        /// How its config space is read.
        access: ConfigAccess,
        /// Dwords of its config space that were asked for.
        dwords: u32,
        /// What was seen.
        facts: Box<Facts>,
    },
    /// Nobody could do it, or not in time.
    Missed(Job, ProbeError),
}

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

#[derive(Debug)]
struct Reader {
    life: Life,
    since: Instant,
    ready: bool,
    /// The one job that it is for; `None` of a reader that many share.
    apart: Option<Key>,
    /// Its jobs from round to round.
    members: BTreeSet<Key>,
    /// Components that it was told of, and those of them that are none of its own any more.
    known: BTreeSet<u64>,
    forget: Vec<u64>,
    /// Asked and not answered, in its order.
    pending: VecDeque<Job>,
    progress: Instant,
    /// The number of the last list that came from it, and the parts of one that is on its way.
    list: u64,
    parts: Vec<Found>,
    /// Jobs of this round were given to others, so it is of no use after the one it is at.
    leaves: bool,
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
        let now = Instant::now();
        self.readers.push(Reader {
            life,
            since: now,
            ready: false,
            apart,
            members: BTreeSet::from([key]),
            known: BTreeSet::new(),
            forget: Vec::new(),
            pending: VecDeque::new(),
            progress: now,
            list: 0,
            parts: Vec::new(),
            leaves: false,
        });
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

impl Reader {
    fn ask(&mut self, round: u64, jobs: Vec<Job>) -> io::Result<()> {
        if self.pending.is_empty() {
            self.progress = Instant::now();
        }
        // The list is made first, whatever its place among the jobs.
        let (mut jobs, others): (Vec<_>, _) =
            jobs.into_iter().partition(|job| matches!(job, Job::List));
        jobs.extend(others);
        self.pending.extend(jobs.iter().cloned());
        // One that starts is told what is asked when it has begun to serve. Else it would be at a job of an earlier round by
        // then, and what holds it there would be taken for what it was asked last.
        match self.ready {
            true => self.send(round, &jobs),
            false => Ok(()),
        }
    }

    fn send(&mut self, round: u64, jobs: &[Job]) -> io::Result<()> {
        let mut list = None;
        let mut looks = Vec::new();
        for job in jobs {
            match job {
                Job::List => list = Some(self.list),
                Job::Look { id, class, found } => looks.push(Look {
                    id: *id,
                    class: *class,
                    found: self.known.insert(*id).then(|| Found::clone(found)),
                }),
            }
        }
        self.life.ask(&Request::Read {
            round,
            list,
            looks,
            forget: std::mem::take(&mut self.forget),
        })
    }

    /// It serves from now on.
    fn begin(&mut self, round: u64) -> io::Result<()> {
        self.ready = true;
        let jobs: Vec<Job> = self.pending.iter().cloned().collect();
        match jobs.is_empty() {
            true => Ok(()),
            false => self.send(round, &jobs),
        }
    }

    fn drop_member(&mut self, key: Key) {
        self.members.remove(&key);
        if let Key::Look(id) = key
            && self.known.remove(&id)
        {
            self.forget.push(id);
        }
    }

    /// Takes what it has answered so far.
    fn collect(
        &mut self,
        round: u64,
        now: Instant,
        buffer: &mut [u8],
        done: &mut Vec<Done>,
    ) -> io::Result<()> {
        while let Some(answer) = self.life.answer(buffer)? {
            self.progress = now;
            match answer {
                Answer::Ready { version: VERSION } => self.begin(round)?,
                Answer::Ready { version } => {
                    let text = format!("a reader of version {version}, expected {VERSION}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Answer::Listed {
                    round: of,
                    number,
                    listed,
                    whole,
                } if of == round && self.is_pending(Key::List) => {
                    let listed = match listed {
                        Ok(Some(part)) => {
                            self.parts.extend(part);
                            if !whole {
                                continue;
                            }
                            self.list = number;
                            Ok(Some(std::mem::take(&mut self.parts)))
                        }
                        Err(error) if !self.parts.is_empty() => {
                            self.list = number;
                            let listed = std::mem::take(&mut self.parts);
                            done.push(Done::Listed(Ok(Some(listed))));
                            Err(error)
                        }
                        unchanged_or_error => unchanged_or_error,
                    };
                    self.take_pending(Key::List);
                    done.push(Done::Listed(listed));
                }
                Answer::Looked {
                    round: of,
                    id,
                    identity,
                    access,
                    dwords,
                    facts,
                } if of == round && self.is_pending(Key::Look(id)) => {
                    self.take_pending(Key::Look(id));
                    done.push(Done::Looked {
                        id,
                        identity,
                        access,
                        dwords,
                        facts,
                    });
                }
                // Of a round that is over, or of a component that another reader has now.
                Answer::Listed { .. } | Answer::Looked { .. } => {}
            }
        }
        Ok(())
    }

    fn is_pending(&self, key: Key) -> bool {
        self.pending.iter().any(|job| job.key() == key)
    }

    fn take_pending(&mut self, key: Key) {
        self.pending.retain(|job| job.key() != key);
    }
}
