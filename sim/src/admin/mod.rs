//! The admin queue and its commands.

mod firmware;
mod information;
mod objects;
mod queues;
mod self_test;

use std::time::Instant;

use auk_asic::admin::{AdminCommand, AdminOpcode, Coalescing};
use auk_asic::submission::{Operand, Space, Submission};
use auk_asic::{Fault, PAGE, State, Status};

use crate::arming::Verdict;
use crate::machine::Machine;
use crate::memory::{Direction, Memory};
use crate::queue::{Queue, Shape};
use crate::ring::{CompletionRing, ParkWord, Ring, SubmissionRing};

/// Admin commands before the I/O queues have their turn.
const BATCH: usize = 8;

/// CONTROL.enable was set: the admin queue begins, from what its registers say now. In a state that
/// does not serve it, it waits.
pub(crate) fn begin(machine: &mut Machine, now: Instant) {
    if machine.life.state == State::Faulted {
        // Only a restart helps, and that clears CONTROL.enable.
        return;
    }
    let registers = machine.registers;
    let shape = registers.admin_queue;
    let depth_log2 = shape.depth_log2();
    let aligned = [registers.admin_submissions, registers.admin_completions]
        .iter()
        .all(|ring| ring % PAGE as u64 == 0)
        && registers.admin_park.is_multiple_of(4);
    let deep_enough = (1..=machine.profile.max_depth_log2).contains(&depth_log2);
    let rings = Rings::new(
        &machine.resources.memory,
        registers.admin_submissions,
        registers.admin_completions,
        registers.admin_park,
        depth_log2,
    );
    let Some(rings) = rings.filter(|_| aligned && deep_enough) else {
        let message = "the ADMIN registers name no rings that can be reached";
        return machine.fail(Fault::DmaFault, None, message, now);
    };
    let shape = Shape {
        number: 0,
        tag: shape.tag(),
        vector: Some(0),
        depth_log2,
        context: crate::context::OWNER,
        coalescing: Coalescing::new(),
    };
    let queue = rings.queue(shape, machine);
    if let Err(status) = machine.add_queue(queue) {
        tracing::error!(%status, "the admin queue exists already");
    }
}

/// The two rings and the park word of a queue.
struct Rings {
    submissions: SubmissionRing,
    completions: CompletionRing,
    park: Option<ParkWord>,
}

impl Rings {
    /// `None` when any of them cannot be reached.
    fn new(
        memory: &Memory,
        submissions: u64,
        completions: u64,
        park: u64,
        depth_log2: u8,
    ) -> Option<Self> {
        let park = match park {
            0 => None,
            iova => Some(ParkWord::new(memory, iova)?),
        };
        Some(Self {
            submissions: Ring::new(memory, submissions, depth_log2, Direction::Read)?,
            completions: Ring::new(memory, completions, depth_log2, Direction::Write)?,
            park,
        })
    }

    fn queue(self, shape: Shape, machine: &Machine) -> Queue {
        Queue::new(
            shape,
            &machine.doorbells.mapping,
            self.submissions,
            self.completions,
            self.park,
        )
    }
}

/// Serves the admin queue. True when there was something to do.
#[inline]
pub(crate) fn serve(machine: &mut Machine) -> bool {
    let Some(queue) = machine.queue_mut(0) else {
        return false;
    };
    if queue.sweep() {
        serve_commands(machine);
        return true;
    }
    let stopped = queue.stopped().is_some();
    if queue.look_at_arming() == Verdict::Fire {
        machine.resources.fire(0);
    }
    if stopped {
        machine.tell_of_stopped_queues();
    }
    false
}

fn serve_commands(machine: &mut Machine) {
    let mut entry = Submission::default();
    for _ in 0..BATCH {
        let queue = machine.queue_mut(0);
        if !queue.is_some_and(|queue| queue.next(&mut entry)) {
            break;
        }
        let outcome = execute(machine, &entry);
        let Some(queue) = machine.queue_mut(0) else {
            break;
        };
        if let Some(outcome) = outcome {
            queue.complete(entry.command_id, outcome);
        }
    }
    let verdict = machine.queue_mut(0).map(Queue::look_at_arming);
    if verdict == Some(Verdict::Fire) {
        machine.resources.fire(0);
    }
}

/// The outcome of a command; `None` when it completes later.
fn execute(machine: &mut Machine, entry: &Submission) -> Option<Result<u64, Status>> {
    let command = match AdminCommand::decode(entry) {
        Ok(command) => command,
        Err(status) => return Some(Err(status)),
    };
    if command == AdminCommand::AsyncEvent && machine.life.state == State::Running {
        return machine.add_async_event(entry.command_id).err().map(Err);
    }
    let outcome = perform(machine, &command);
    tracing::debug!(opcode = %command.opcode(), ?outcome, "admin command");
    Some(outcome)
}

fn perform(machine: &mut Machine, command: &AdminCommand) -> Result<u64, Status> {
    let in_loader = matches!(
        command.opcode(),
        AdminOpcode::Identify
            | AdminOpcode::FirmwareDownload
            | AdminOpcode::FirmwareCommit
            | AdminOpcode::GetLog
    );
    if machine.life.state != State::Running && !in_loader {
        return Err(Status::NotReady);
    }
    match *command {
        AdminCommand::Identify { dst } => information::identify(machine, dst),
        AdminCommand::GetLog {
            dst,
            page,
            offset,
            length,
        } => information::log_page(machine, dst, page, (offset, length)),
        AdminCommand::CreateContext {
            windows,
            count,
            memory,
        } => objects::create_context(machine, windows, count, memory),
        AdminCommand::DeleteContext { context } => objects::delete_context(machine, context),
        AdminCommand::AllocMemory {
            length,
            align,
            context,
        } => objects::allocate(machine, length, align, context),
        AdminCommand::FreeMemory { address } => objects::free(machine, address),
        AdminCommand::LoadProgram {
            image,
            length,
            context,
        } => objects::load_program(machine, image, length, context),
        AdminCommand::UnloadProgram { program } => {
            machine.resources.programs.unload(program).map(|()| 0)
        }
        AdminCommand::CreateQueue {
            submissions,
            completions,
            park,
            shape,
            context,
            coalescing,
        } => {
            let operands = (submissions, completions, park);
            queues::create(machine, operands, shape, context, coalescing)
        }
        AdminCommand::DeleteQueue { queue } => queues::delete(machine, queue),
        AdminCommand::SetCoalescing { queue, coalescing } => {
            queues::set_coalescing(machine, queue, coalescing)
        }
        AdminCommand::Abort { queue, command_id } => queues::abort(machine, queue, command_id),
        AdminCommand::FirmwareDownload {
            src,
            length,
            offset,
        } => firmware::download(machine, src, length, offset),
        AdminCommand::FirmwareCommit {
            slot,
            activate,
            length,
        } => machine.firmware.commit(slot, activate, length).map(|()| 0),
        AdminCommand::SetPowerState { state } => {
            machine.board.set_power_state(state);
            Ok(0)
        }
        AdminCommand::SelfTest => Ok(self_test::run(machine, Instant::now())),
        AdminCommand::AsyncEvent => Err(Status::NotReady),
    }
}

/// Admin commands move data to and from host memory only.
fn host(operand: Operand) -> Result<Operand, Status> {
    match operand.space {
        Space::Host => Ok(operand),
        Space::Local => Err(Status::InvalidField),
        Space::Peer => Err(Status::Unsupported),
    }
}
