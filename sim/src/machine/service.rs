//! Rounds over the queues.

use std::time::Instant;

use auk_asic::event::EventCode;
use auk_asic::io::IoOpcode;
use auk_asic::submission::Submission;
use auk_asic::{Fault, State, Status};

use super::Machine;
use super::sleep::earlier;
use crate::admin;
use crate::arming::Verdict;
use crate::fault::Met;
use crate::inject::{Occasion, Verb};
use crate::io::{self, Flip, Progress, Started};
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
    /// Faults of the whole chip that a command has met.
    happened: Vec<Verb>,
}

impl Machine {
    /// The chip may do DMA and raise interrupts.
    pub(super) fn may_master(&self) -> bool {
        self.config.bus_master() && !self.config.in_d3hot()
    }

    fn service(&self) -> Service {
        if !self.may_master() || self.life.hangs() || self.ailments.off_bus() {
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
        self.miss_doorbells();
        let mut work = false;
        for queue in self.queues.iter_mut().flatten() {
            // A faulted chip leaves its admin commands where they are.
            if refuses && queue.number() == 0 {
                continue;
            }
            work |= queue.sweep() || queue.has_work();
        }
        self.tell_of_stopped_queues();
        work
    }

    /// Looks at doorbells in the queues' stead, as long as faults wait for them.
    #[inline]
    fn miss_doorbells(&mut self) {
        let watched = self.resources.plan.watches(Occasion::Doorbell);
        if watched || self.is_wary {
            self.look_warily(watched);
        }
    }

    #[cold]
    fn look_warily(&mut self, watched: bool) {
        self.is_wary = watched;
        for queue in self.queues.iter_mut().skip(1).flatten() {
            queue.set_wary(watched);
            let Some(tail) = queue.new_doorbell().filter(|_| watched) else {
                continue;
            };
            let met = Met::of(Occasion::Doorbell).on_queue(queue.number());
            if self.resources.plan.meet(met, Instant::now()).is_empty() {
                queue.hear_doorbell(tail);
            } else {
                queue.miss_doorbell(tail);
            }
        }
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
        self.miss_doorbells();
        if self.ailments.storm.0.lasts() {
            self.resources.fire(self.ailments.storm.1);
        }
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
        if queue.sweep() || queue.has_current() {
            let plan = &resources.plan;
            if plan.watches(Occasion::Command) || plan.watches(Occasion::Completion) {
                work::<true>(queue, resources, &mut turn);
            } else {
                work::<false>(queue, resources, &mut turn);
            }
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
        if !turn.happened.is_empty() {
            let now = Instant::now();
            for verb in &turn.happened {
                self.happen(verb, now);
            }
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
            let command = Command {
                id: current.command_id,
                opcode: current.opcode,
            };
            finish(queue, resources, command, outcome, false);
            worked = true;
        }
        let mut entry = Submission::default();
        if queue.sweep() {
            for _ in 0..BATCH {
                if !queue.next(&mut entry) {
                    break;
                }
                let status = if std::mem::take(&mut self.poisoned) {
                    Status::EccUncorrectable
                } else {
                    Status::DeviceFaulted
                };
                finish(queue, resources, Command::of(&entry), Err(status), false);
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
/// command. With `FAULTS` for when some wait for commands or their completions.
#[inline]
fn work<const FAULTS: bool>(queue: &mut Queue, resources: &mut Resources, turn: &mut Turn) {
    let mut entry = Submission::default();
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
                    let launch = current.job.is_launch();
                    if let Some(flip) = current.flip.filter(|_| outcome.is_ok()) {
                        flip.make(&mut resources.memory);
                    }
                    let ended = Command {
                        id: current.command_id,
                        opcode: current.opcode,
                    };
                    queue.current = None;
                    finish(queue, resources, ended, outcome, launch);
                    turn.worked = true;
                }
            }
        }
        if !FAULTS && let Some(command_id) = queue.next_nop() {
            turn.worked = true;
            resources.counters.commands_ok += 1;
            queue.stage(command_id, Ok(0));
            continue;
        }
        if !queue.next(&mut entry) {
            return;
        }
        turn.worked = true;
        if FAULTS {
            begin_with_faults(queue, resources, entry, turn);
            if !turn.happened.is_empty() || queue.is_stuck() {
                return;
            }
        } else {
            begin(queue, resources, &entry, None, turn);
        }
    }
}

#[inline]
fn begin(
    queue: &mut Queue,
    resources: &mut Resources,
    entry: &Submission,
    flip: Option<Flip>,
    turn: &mut Turn,
) {
    if entry.opcode != IoOpcode::Nop.code() {
        turn.begun.get_or_insert_with(Instant::now);
    }
    if !io::is_short(entry) {
        queue.post_staged();
    }
    let command = Command::of(entry);
    match io::start(entry, queue.context(), resources) {
        Started::Done(outcome) => {
            if let Some(flip) = flip.filter(|_| outcome.is_ok()) {
                flip.make(&mut resources.memory);
            }
            finish(queue, resources, command, outcome, false);
        }
        Started::Job(job) => {
            queue.current = Some(Current {
                command_id: command.id,
                opcode: command.opcode,
                job,
                flip,
            });
        }
    }
}

/// Begins a command that faults may befall.
#[cold]
fn begin_with_faults(
    queue: &mut Queue,
    resources: &mut Resources,
    mut entry: Submission,
    turn: &mut Turn,
) {
    let met = Met::of(Occasion::Command)
        .on_queue(queue.number())
        .with_opcode(entry.opcode);
    let mut flip = None;
    for fault in resources.plan.meet(met, Instant::now()) {
        match fault {
            Verb::DmaUnmapped => {
                // The chip's fault and not the driver's, so strict mode has nothing to say.
                resources.counters.commands_failed += 1;
                queue.stage(entry.command_id, Err(Status::DmaFault));
                turn.happened.push(fault);
                return;
            }
            Verb::DmaShort => {
                let [length, ..] = &mut entry.args;
                *length = (*length / 2).max(1);
            }
            Verb::CopyFlip | Verb::ResultFlip => {
                flip = Flip::of(&entry, queue.context(), resources);
            }
            other => turn.happened.push(other),
        }
    }
    begin(queue, resources, &entry, flip, turn);
}

/// Fires the queue's interrupt if it is due.
#[inline]
fn interrupt(queue: &mut Queue, resources: &mut Resources) -> Verdict {
    let verdict = queue.look_at_arming();
    if verdict == Verdict::Fire
        && let Some(vector) = queue.vector()
    {
        let met = Met::of(Occasion::Interrupt).on_queue(queue.number());
        if resources.plan.watches(Occasion::Interrupt)
            && !resources.plan.meet(met, Instant::now()).is_empty()
        {
            return Verdict::Quiet;
        }
        resources.fire(vector);
    }
    verdict
}

/// Which command it is, and of what kind.
#[derive(Clone, Copy)]
struct Command {
    id: u16,
    opcode: u8,
}

impl Command {
    #[inline]
    fn of(entry: &Submission) -> Self {
        Self {
            id: entry.command_id,
            opcode: entry.opcode,
        }
    }
}

/// Counts a command that has ended, and stages its completion.
#[inline]
fn finish(
    queue: &mut Queue,
    resources: &mut Resources,
    command: Command,
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
                    command_id: command.id,
                });
            }
        }
    }
    if resources.plan.watches(Occasion::Completion) {
        return finish_with_faults(queue, resources, command, outcome);
    }
    queue.stage(command.id, outcome);
}

#[cold]
fn finish_with_faults(
    queue: &mut Queue,
    resources: &mut Resources,
    command: Command,
    outcome: Result<u64, Status>,
) {
    let met = Met::of(Occasion::Completion)
        .on_queue(queue.number())
        .with_opcode(command.opcode);
    let now = Instant::now();
    let faults = resources.plan.meet(met, now);
    if faults.is_empty() {
        queue.stage(command.id, outcome);
    } else {
        queue.complete_wrongly(command.id, outcome, &faults, now);
    }
}
