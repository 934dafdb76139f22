//! Rounds over the queues.

use std::time::Instant;

use auk_asic::event::EventCode;
use auk_asic::io::IoOpcode;
use auk_asic::{Fault, State, Status};

use super::Machine;
use super::sleep::earlier;
use crate::admin;
use crate::arming::Verdict;
use crate::io::{self, Progress, Started};
use crate::queue::{Current, Queue, Stopped};
use crate::resources::Resources;
use crate::strict::Violation;

/// Commands of one queue before the next queue has its turn.
const BATCH: u32 = 64;

/// What the queues get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// Everything.
    All,
    /// Commands end in a device error.
    Refusal,
    /// Nothing.
    None,
}

/// What came of a queue's turn.
#[derive(Default)]
struct Turn {
    /// Something was done.
    worked: bool,
    /// Until when the command at hand waits for a semaphore.
    blocked: Option<Instant>,
    /// When the first command that moves or computes began.
    begun: Option<Instant>,
}

impl Machine {
    /// The chip may do DMA and raise interrupts.
    pub(super) fn may_master(&self) -> bool {
        self.config.bus_master() && !self.config.in_d3hot()
    }

    fn service(&self) -> Service {
        if !self.may_master() || self.life.hangs() {
            return Service::None;
        }
        match (self.life.state, self.life.fault) {
            (State::Running | State::Loader, _) => Service::All,
            (State::Faulted, Some(Fault::EccUncorrectable)) => Service::Refusal,
            _ => Service::None,
        }
    }

    /// Whether doorbells mean anything now.
    pub(crate) fn serves(&self) -> bool {
        self.service() != Service::None && (!self.live.is_empty() || self.queues[0].is_some())
    }

    /// Looks at all doorbells. True when a queue has something to do.
    pub(crate) fn sweep(&mut self) -> bool {
        if !self.serves() {
            return false;
        }
        let refuses = self.service() == Service::Refusal;
        let mut work = false;
        for queue in self.queues.iter_mut().flatten() {
            // A faulted chip leaves its admin commands where they are.
            if refuses && queue.number() == 0 {
                continue;
            }
            work |= queue.sweep() || queue.current.as_ref().is_some_and(|c| !c.job.is_wait());
        }
        self.tell_of_stopped_queues();
        work
    }

    /// Fires what became due since the last round. A driver arms and then reads the park word; the
    /// chip sets the word and then looks here, so that one of the two sees the other.
    pub(crate) fn look_at_armings(&mut self) {
        if !self.serves() {
            return;
        }
        for queue in self.queues.iter_mut().flatten() {
            if let Verdict::At(due) = interrupt(queue, &mut self.resources) {
                earlier(&mut self.wake_at, due);
            }
        }
    }

    /// Whether the engine has a reason to be awake.
    pub(crate) fn wants_engine(&mut self) -> bool {
        self.stopping || self.attention || self.sweep()
    }

    pub(crate) fn tell_of_stopped_queues(&mut self) {
        for index in 0..self.queues.len() {
            let Some(queue) = &self.queues[index] else {
                continue;
            };
            let number = queue.number();
            let Some(why) = queue.stopped().filter(|_| self.stopped >> number & 1 == 0) else {
                continue;
            };
            let violation = match why {
                Stopped::DoorbellBeyondRing { tail } => Violation::DoorbellBeyondRing {
                    queue: number,
                    tail,
                    completed: queue.completed(),
                    depth: queue.depth(),
                },
                Stopped::RingNotMapped => Violation::RingNotMapped { queue: number },
            };
            self.stopped |= 1 << number;
            self.resources.strict.record(violation);
            let now = Instant::now();
            self.event(EventCode::QueueStopped, u32::from(number), now);
            if number == 0 && why == Stopped::RingNotMapped {
                self.fail(Fault::DmaFault, None, "the admin rings are not mapped", now);
            }
        }
    }

    /// One round over all queues. True when something was done.
    #[inline]
    pub(crate) fn turn(&mut self) -> bool {
        let service = self.service();
        self.wake_at = None;
        self.blocked = false;
        let mut worked = false;
        match service {
            Service::None => return false,
            Service::All => {
                for index in 0..self.live.len() {
                    worked |= self.serve(self.live[index]);
                }
                worked |= admin::serve(self);
            }
            Service::Refusal => {
                for index in 0..self.live.len() {
                    worked |= self.refuse(self.live[index]);
                }
            }
        }
        worked
    }

    #[inline]
    fn serve(&mut self, number: u16) -> bool {
        let Some(Some(queue)) = self.queues.get_mut(usize::from(number)) else {
            return false;
        };
        let resources = &mut self.resources;
        let mut turn = Turn::default();
        if queue.sweep() || queue.current.is_some() {
            work(queue, resources, &mut turn);
            queue.post_staged();
        }
        if let Some(begun) = turn.begun {
            let elapsed = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            resources.counters.busy_ns = resources.counters.busy_ns.saturating_add(elapsed);
        }
        if let Some(deadline) = turn.blocked {
            self.blocked = true;
            earlier(&mut self.wake_at, deadline);
        }
        if let Verdict::At(due) = interrupt(queue, resources) {
            earlier(&mut self.wake_at, due);
        }
        if queue.stopped().is_some() && self.stopped >> number & 1 == 0 {
            self.tell_of_stopped_queues();
        }
        turn.worked
    }

    /// Ends what a queue has in a device error.
    fn refuse(&mut self, number: u16) -> bool {
        let Some(Some(queue)) = self.queues.get_mut(usize::from(number)) else {
            return false;
        };
        let resources = &mut self.resources;
        let mut worked = false;
        if let Some(current) = queue.current.take() {
            let outcome = Err(Status::DeviceFaulted);
            finish(queue, resources, current.command_id, outcome, false);
            worked = true;
        }
        if queue.sweep() {
            for _ in 0..BATCH {
                let Some(entry) = queue.next() else {
                    break;
                };
                let status = if std::mem::take(&mut self.poisoned) {
                    Status::EccUncorrectable
                } else {
                    Status::DeviceFaulted
                };
                finish(queue, resources, entry.command_id, Err(status), false);
                worked = true;
            }
        }
        queue.post_staged();
        if let Verdict::At(due) = interrupt(queue, resources) {
            earlier(&mut self.wake_at, due);
        }
        worked
    }
}

/// Works on a queue until it is empty, blocked, has had its share, or has made one step of a long
/// command.
#[inline]
fn work(queue: &mut Queue, resources: &mut Resources, turn: &mut Turn) {
    for _ in 0..BATCH {
        if queue.current.is_some() {
            queue.post_staged();
        }
        if let Some(current) = &mut queue.current {
            if !current.job.is_wait() {
                turn.begun.get_or_insert_with(Instant::now);
            }
            match current.job.advance(resources) {
                Progress::More => {
                    turn.worked = true;
                    return;
                }
                Progress::Blocked(deadline) => {
                    turn.blocked = Some(deadline);
                    return;
                }
                Progress::Done(outcome) => {
                    let (id, launch) = (current.command_id, current.job.is_launch());
                    queue.current = None;
                    finish(queue, resources, id, outcome, launch);
                    turn.worked = true;
                }
            }
        }
        let Some(entry) = queue.next() else {
            return;
        };
        turn.worked = true;
        if entry.opcode != IoOpcode::Nop.code() {
            turn.begun.get_or_insert_with(Instant::now);
        }
        if !io::is_short(&entry) {
            queue.post_staged();
        }
        match io::start(&entry, queue.context(), resources) {
            Started::Done(outcome) => {
                finish(queue, resources, entry.command_id, outcome, false);
            }
            Started::Job(job) => {
                queue.current = Some(Current {
                    command_id: entry.command_id,
                    job,
                });
            }
        }
    }
}

/// Fires the queue's interrupt if it is due.
#[inline]
fn interrupt(queue: &mut Queue, resources: &mut Resources) -> Verdict {
    let verdict = queue.look_at_arming();
    if verdict == Verdict::Fire
        && let Some(vector) = queue.vector()
    {
        resources.fire(vector);
    }
    verdict
}

/// Counts a command that has ended, and stages its completion.
#[inline]
fn finish(
    queue: &mut Queue,
    resources: &mut Resources,
    command_id: u16,
    outcome: Result<u64, Status>,
    launch: bool,
) {
    let counters = &mut resources.counters;
    match outcome {
        Ok(_) => {
            counters.commands_ok += 1;
            counters.launches += u64::from(launch);
        }
        Err(status) => {
            counters.commands_failed += 1;
            if status == Status::DmaFault {
                resources.strict.record(Violation::DmaNotMapped {
                    queue: queue.number(),
                    command_id,
                });
            }
        }
    }
    queue.stage(command_id, outcome);
}
