//! What commands work on, apart from the queue that they came through.

use std::time::Duration;

use auk_asic::Status;
use auk_asic::msix::VECTORS;
use auk_asic::submission::Operand;
use auk_vfio_user::irq::IrqTable;
use auk_vfio_user::model::IrqInfo;

use crate::context::{Contexts, Programs};
use crate::fault::Plan;
use crate::memory::{Direction, Memory};
use crate::profile::ChipProfile;
use crate::strict::Strict;

/// Counts that telemetry shows.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commands_ok: u64,
    pub(crate) commands_failed: u64,
    pub(crate) launches: u64,
    pub(crate) kicks: u64,
    pub(crate) interrupts: u64,
    pub(crate) busy_ns: u64,
}

/// The MSI-X vectors as VFIO knows them.
pub(crate) const MSIX: IrqInfo = IrqInfo {
    count: VECTORS as u32,
    eventfd: true,
    maskable: true,
    automasked: false,
    noresize: false,
};

/// Memory, contexts, programs and what goes with them.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) memory: Memory,
    pub(crate) contexts: Contexts,
    pub(crate) programs: Programs,
    pub(crate) interrupts: IrqTable,
    pub(crate) strict: Strict,
    pub(crate) counters: Counters,
    pub(crate) max_transfer: u64,
    pub(crate) command_timeout: Duration,
    /// Faults that wait for their occasion.
    pub(crate) plan: Plan,
}

impl Resources {
    pub(crate) fn new(profile: &ChipProfile, memory: Memory) -> Self {
        Self {
            memory,
            contexts: Contexts::new(profile.contexts),
            programs: Programs::new(profile.programs),
            interrupts: IrqTable::new(MSIX),
            strict: Strict::default(),
            counters: Counters::default(),
            max_transfer: profile.cap_limits().max_transfer(),
            command_timeout: Duration::from_millis(u64::from(profile.timing.command_ms)),
            plan: Plan::default(),
        }
    }

    /// Whether a queue of `context` may and can touch `length` bytes at `operand`.
    ///
    /// # Errors
    /// [`Status::AccessDenied`], [`Status::DmaFault`], [`Status::OutOfRange`] or
    /// [`Status::Unsupported`].
    pub(crate) fn check(
        &self,
        context: u32,
        operand: Operand,
        length: u64,
        direction: Direction,
    ) -> Result<(), Status> {
        self.contexts
            .check(context, operand, length, &self.memory.allocator)?;
        self.memory.check(operand, length, direction)
    }

    /// Fires a vector, for which the client may have an eventfd.
    pub(crate) fn fire(&mut self, vector: u16) {
        if self.interrupts.fire(u32::from(vector)) {
            self.counters.interrupts += 1;
        }
    }

    /// Everything that belongs to a driver goes: contexts, programs, allocations.
    pub(crate) fn clear(&mut self) {
        self.contexts.clear();
        self.programs.clear();
        self.memory.allocator.clear();
    }
}
