//! I/O queues: CREATE_QUEUE, DELETE_QUEUE, SET_COALESCING, ABORT.

use auk_asic::admin::{Coalescing, QueueShape};
use auk_asic::msix::VECTORS;
use auk_asic::submission::Operand;
use auk_asic::{PAGE, Status};

use super::{Rings, host};
use crate::machine::Machine;
use crate::queue::{Queue, Shape};

pub(super) fn create(
    machine: &mut Machine,
    (submissions, completions, park): (Operand, Operand, Operand),
    shape: QueueShape,
    context: u32,
    coalescing: Coalescing,
) -> Result<u64, Status> {
    let defined = QueueShape::new()
        .with_queue(shape.queue())
        .with_tag(shape.tag())
        .with_vector(shape.vector())
        .with_depth_log2(shape.depth_log2())
        .with_interrupts(shape.interrupts());
    let depths = 1..=machine.profile.max_depth_log2;
    if defined != shape || shape.vector() >= VECTORS || !depths.contains(&shape.depth_log2()) {
        return Err(Status::InvalidField);
    }
    let exists = (1..=u16::from(machine.profile.io_queues)).contains(&shape.queue());
    if !exists || machine.queue(shape.queue()).is_some() {
        return Err(Status::InvalidQueue);
    }
    machine.resources.contexts.check_exists(context)?;
    let (submissions, completions, park) = (host(submissions)?, host(completions)?, host(park)?);
    let page = PAGE as u64;
    if submissions.address % page != 0 || completions.address % page != 0 || park.address % 4 != 0 {
        return Err(Status::Misaligned);
    }
    let rings = Rings::new(
        &machine.resources.memory,
        submissions.address,
        completions.address,
        park.address,
        shape.depth_log2(),
    )
    .ok_or(Status::DmaFault)?;
    let shape = Shape {
        number: shape.queue(),
        tag: shape.tag(),
        vector: shape.interrupts().then_some(shape.vector()),
        depth_log2: shape.depth_log2(),
        context,
        coalescing,
    };
    let queue = rings.queue(shape, machine);
    machine.add_queue(queue).map(|()| 0)
}

/// The queue's work is between two steps, so its DMA has ended.
pub(super) fn delete(machine: &mut Machine, number: u16) -> Result<u64, Status> {
    io_queue(machine, number)?;
    machine.remove_queue(number).map(|()| 0)
}

pub(super) fn set_coalescing(
    machine: &mut Machine,
    number: u16,
    coalescing: Coalescing,
) -> Result<u64, Status> {
    io_queue(machine, number)?.set_coalescing(coalescing);
    Ok(0)
}

pub(super) fn abort(machine: &mut Machine, number: u16, command_id: u16) -> Result<u64, Status> {
    let aborted = io_queue(machine, number)?.abort(command_id);
    if aborted {
        machine.resources.counters.commands_failed += 1;
    }
    Ok(u64::from(!aborted))
}

fn io_queue(machine: &mut Machine, number: u16) -> Result<&mut Queue, Status> {
    match number {
        0 => Err(Status::InvalidQueue),
        number => machine.queue_mut(number).ok_or(Status::InvalidQueue),
    }
}
