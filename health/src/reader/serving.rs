//! One reader that serves: what it was asked, what it has answered.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::time::Instant;

use super::job::{Done, Job, Key};
use super::life::Life;
use super::wire::{Answer, Look, Request, VERSION};
use crate::probe::discover::Found;

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) life: Life,
    pub(super) since: Instant,
    pub(super) ready: bool,
    /// The one job that it is for; `None` of a reader that many share.
    pub(super) apart: Option<Key>,
    /// Its jobs from round to round.
    pub(super) members: BTreeSet<Key>,
    /// Components that it was told of, and those of them that are none of its own any more.
    known: BTreeSet<u64>,
    forget: Vec<u64>,
    /// Asked and not answered, in its order.
    pub(super) pending: VecDeque<Job>,
    pub(super) progress: Instant,
    /// The number of the last list that came from it, and the parts of one that is on its way.
    list: u64,
    parts: Vec<Found>,
    /// Jobs of this round were given to others, so it is of no use after the one it is at.
    pub(super) leaves: bool,
}

impl Reader {
    /// One that was just started, for a job: that alone where it is `apart`, and else with others.
    pub(super) fn new(life: Life, key: Key, apart: Option<Key>) -> Self {
        let now = Instant::now();
        Self {
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
        }
    }

    pub(super) fn ask(&mut self, round: u64, jobs: Vec<Job>) -> io::Result<()> {
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

    pub(super) fn drop_member(&mut self, key: Key) {
        self.members.remove(&key);
        if let Key::Look(id) = key
            && self.known.remove(&id)
        {
            self.forget.push(id);
        }
    }

    /// Takes what it has answered so far.
    pub(super) fn collect(
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
        // They are answered in their order, but for those that another reader has now.
        match self.pending.front() {
            Some(first) if first.key() == key => drop(self.pending.pop_front()),
            _ => self.pending.retain(|job| job.key() != key),
        }
    }
}
