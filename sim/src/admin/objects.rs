//! Contexts, allocations and programs.

use auk_asic::Status;
use auk_asic::admin::{MAX_WINDOWS, Window};
use auk_asic::program::{Program, ProgramImage};
use auk_asic::submission::Operand;
use zerocopy::{FromZeros, IntoBytes};

use super::host;
use crate::machine::Machine;
use crate::memory::Allocator;

pub(super) fn create_context(
    machine: &mut Machine,
    windows: Operand,
    count: u32,
    memory: u64,
) -> Result<u64, Status> {
    if count > MAX_WINDOWS {
        return Err(Status::InvalidField);
    }
    let mut list = vec![Window::new_zeroed(); count as usize];
    let resources = &mut machine.resources;
    resources.memory.read(host(windows)?, list.as_mut_bytes())?;
    resources.contexts.create(list, memory).map(u64::from)
}

pub(super) fn delete_context(machine: &mut Machine, context: u32) -> Result<u64, Status> {
    if machine.io_queues().any(|queue| queue.context() == context) {
        return Err(Status::Busy);
    }
    // A command of the owner may be at work on the context's memory.
    let allocator = &machine.resources.memory.allocator;
    let busy = allocator
        .of_context(context)
        .any(|(address, length)| in_use(machine, address, length));
    if busy {
        return Err(Status::Busy);
    }
    let resources = &mut machine.resources;
    resources.contexts.delete(context)?;
    resources.programs.unload_context(context);
    resources.memory.allocator.free_context(context);
    Ok(0)
}

pub(super) fn allocate(
    machine: &mut Machine,
    length: u64,
    align: u64,
    context: u32,
) -> Result<u64, Status> {
    let resources = &mut machine.resources;
    resources.contexts.check_exists(context)?;
    let allocator = &mut resources.memory.allocator;
    if let Some(bounds) = resources.contexts.get(context) {
        let wanted = Allocator::rounded(length).ok_or(Status::OutOfMemory)?;
        let total = allocator.used_by(context).checked_add(wanted);
        if total.is_none_or(|total| total > bounds.memory) {
            return Err(Status::OutOfMemory);
        }
    }
    allocator.allocate(length, align, context)
}

pub(super) fn free(machine: &mut Machine, address: u64) -> Result<u64, Status> {
    let piece = machine.resources.memory.allocator.at(address);
    let length = piece.ok_or(Status::OutOfRange)?.length;
    if in_use(machine, address, length) {
        return Err(Status::Busy);
    }
    machine.resources.memory.allocator.free(address);
    Ok(0)
}

/// Whether a command under way uses any of these bytes of device memory.
fn in_use(machine: &Machine, address: u64, length: u64) -> bool {
    machine
        .io_queues()
        .filter_map(|queue| queue.current.as_ref())
        .any(|current| current.job.uses_local(address, length))
}

pub(super) fn load_program(
    machine: &mut Machine,
    image: Operand,
    length: u32,
    context: u32,
) -> Result<u64, Status> {
    machine.resources.contexts.check_exists(context)?;
    if length as usize != ProgramImage::SIZE {
        return Err(Status::InvalidProgram);
    }
    let mut bytes = [0; ProgramImage::SIZE];
    machine.resources.memory.read(host(image)?, &mut bytes)?;
    let program = Program::parse(&bytes).map_err(|_| Status::InvalidProgram)?;
    if !machine.profile.kernels.contains(&program.kernel()) {
        return Err(Status::Unsupported);
    }
    let handle = machine.resources.programs.load(program, context)?;
    Ok(u64::from(handle))
}
