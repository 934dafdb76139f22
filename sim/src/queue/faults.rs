//! What injected faults do to a queue.

use std::time::{Duration, Instant};

use auk_asic::Status;
use auk_asic::completion::Tail;
use auk_asic::doorbell::SQ_TAIL;

use super::Queue;
use crate::fault::Spell;
use crate::inject::Verb;

/// A status code that no status has.
const NO_STATUS: u16 = 0x7FFF;

/// A completion that a fault keeps back.
#[derive(Debug)]
pub(super) struct Held {
    /// Until then, or `None` until the next one was posted.
    pub(super) until: Option<Instant>,
    tail: Tail,
    result: u64,
}

impl Queue {
    /// Stands still for a while.
    pub(crate) fn stick(&mut self, spell: Spell) {
        self.stuck = spell;
    }

    #[inline]
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck.lasts()
    }

    /// Lets time pass over what faults do to it.
    pub(crate) fn pass(&mut self, now: Instant) {
        self.stuck.pass(now);
        if !self.held.is_empty() {
            self.release(|held| held.until.is_some_and(|until| until <= now));
        }
    }

    /// Ends what faults do to it.
    pub(crate) fn heal(&mut self) {
        self.stuck = Spell::Over;
        self.unseen = None;
        self.release(|_| true);
    }

    /// When something changes by itself next.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let held = self.held.iter().filter_map(|held| held.until);
        held.chain(self.stuck.end()).min()
    }

    /// Whether it works on a command, and may go on with it.
    #[inline]
    pub(crate) fn has_current(&self) -> bool {
        self.current.is_some() && !self.stuck.lasts()
    }

    /// The same, and the command does not wait for a semaphore.
    pub(crate) fn has_work(&self) -> bool {
        let works = self
            .current
            .as_ref()
            .is_some_and(|current| !current.job.is_wait());
        works && !self.stuck.lasts()
    }

    /// Whether the doorbell is looked at by [`Queue::new_doorbell`] alone.
    pub(crate) fn set_wary(&mut self, wary: bool) {
        self.is_wary = wary;
    }

    /// The doorbell, if it has moved since it was last seen.
    pub(crate) fn new_doorbell(&self) -> Option<u32> {
        let tail = self.doorbells.load_u32(self.doorbell + SQ_TAIL.offset);
        tail.ok()
            .filter(|&tail| tail != self.tail && Some(tail) != self.unseen)
    }

    pub(crate) fn hear_doorbell(&mut self, tail: u32) {
        self.tail = tail;
    }

    pub(crate) fn miss_doorbell(&mut self, tail: u32) {
        self.unseen = Some(tail);
    }

    /// Posts a completion that faults befall, after those that are staged.
    #[cold]
    pub(crate) fn complete_wrongly(
        &mut self,
        command_id: u16,
        outcome: Result<u64, Status>,
        faults: &[Verb],
        now: Instant,
    ) {
        self.post_staged();
        let (result, status) = match outcome {
            Ok(result) => (result, Status::Success),
            Err(status) => (0, status),
        };
        self.completed = self.completed.wrapping_add(1);
        let mut tail = self.tail_of(command_id, status);
        let (mut copies, mut until) = (1, None);
        for fault in faults {
            match *fault {
                Verb::CompletionDrop => copies = 0,
                Verb::CompletionDuplicate => copies = 2,
                Verb::CompletionCorrupt => tail.set_status_code(NO_STATUS),
                // No queue is as deep, so that it is of no command in flight.
                Verb::CompletionWrongId => tail.set_command_id(command_id ^ 1 << 15),
                Verb::CompletionWrongQueue => tail.set_queue(self.shape.number ^ 1 << 15),
                Verb::CompletionStaleTag { ms } => {
                    self.write(tail.with_tag(self.shape.tag ^ 1), result);
                    until = Some(Some(now + Duration::from_millis(ms)));
                }
                Verb::CompletionDelay { ms } => {
                    until = Some(Some(now + Duration::from_millis(ms)));
                }
                Verb::CompletionReorder => until = Some(None),
                _ => {}
            }
        }
        for _ in 0..copies {
            match until {
                Some(until) => self.held.push(Held {
                    until,
                    tail,
                    result,
                }),
                None => self.put(tail, result),
            }
        }
        if until.is_none() {
            self.release_reordered();
        }
    }

    /// Posts what was to come behind the next one.
    pub(super) fn release_reordered(&mut self) {
        self.release(|held| held.until.is_none());
    }

    fn release(&mut self, which: impl Fn(&Held) -> bool) {
        for held in self
            .held
            .extract_if(.., |held| which(held))
            .collect::<Vec<_>>()
        {
            self.put(held.tail, held.result);
        }
    }
}
