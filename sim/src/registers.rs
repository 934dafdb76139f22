//! BAR0 page 0.

use std::time::Instant;

use auk_asic::bar0::{self, AdminQueue, Control, REGISTERS, Status};
use auk_asic::ident::MODEL_VERSION;
use auk_asic::register::{Access, Register};
use auk_asic::{Fault, State};

use crate::admin;
use crate::machine::Machine;
use crate::strict::Violation;

/// The registers that hold what was written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Registers {
    pub(crate) control: Control,
    pub(crate) admin_submissions: u64,
    pub(crate) admin_completions: u64,
    pub(crate) admin_park: u64,
    pub(crate) admin_queue: AdminQueue,
    scratch: u32,
}

/// Reads bytes of page 0.
pub(crate) fn read(machine: &mut Machine, offset: u64, into: &mut [u8]) {
    into.fill(0xFF);
    let length = into.len();
    let Ok(word) = <&mut [u8; 4]>::try_from(into) else {
        return violation(machine, offset, length, false);
    };
    if !offset.is_multiple_of(4) {
        return violation(machine, offset, length, false);
    }
    match find(offset) {
        Some(register) => *word = value(machine, register).to_le_bytes(),
        None => machine.resources.strict.record(Violation::NoRegister {
            offset,
            write: false,
        }),
    }
}

/// Writes bytes of page 0.
pub(crate) fn write(machine: &mut Machine, offset: u64, from: &[u8], now: Instant) {
    let Ok(bytes) = <[u8; 4]>::try_from(from) else {
        return violation(machine, offset, from.len(), true);
    };
    if !offset.is_multiple_of(4) {
        return violation(machine, offset, from.len(), true);
    }
    let value = u32::from_le_bytes(bytes);
    let Some(register) = find(offset) else {
        let violation = Violation::NoRegister {
            offset,
            write: true,
        };
        return machine.resources.strict.record(violation);
    };
    if register.access == Access::ReadOnly {
        let name = register.name;
        let violation = Violation::ReadOnlyRegister { name, value };
        return machine.resources.strict.record(violation);
    }
    set(machine, register, value, now);
}

fn violation(machine: &mut Machine, offset: u64, length: usize, write: bool) {
    machine.resources.strict.record(Violation::RegisterAccess {
        offset,
        length,
        write,
    });
}

fn find(offset: u64) -> Option<Register> {
    REGISTERS
        .iter()
        .find(|register| register.offset == offset)
        .copied()
}

fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

fn value(machine: &Machine, register: Register) -> u32 {
    let profile = &machine.profile;
    let registers = &machine.registers;
    let timing = &profile.timing;
    match register {
        bar0::IDENT => u32::from(profile.vendor) | u32::from(profile.model.code()) << 16,
        bar0::VERSION => MODEL_VERSION,
        bar0::SERIAL_LO => low(profile.serial),
        bar0::SERIAL_HI => high(profile.serial),
        bar0::CAP_QUEUES => profile.cap_queues().into_bits(),
        bar0::CAP_DMA => profile.cap_dma().into_bits(),
        bar0::CAP_MEMORY_LO => low(profile.memory),
        bar0::CAP_MEMORY_HI => high(profile.memory),
        bar0::CAP_OPS => profile.cap_ops(),
        bar0::CAP_KERNELS => profile.cap_kernels(),
        bar0::CAP_LIMITS => profile.cap_limits().into_bits(),
        bar0::TIMEOUT_READY => timing.ready_ms,
        bar0::TIMEOUT_COMMAND => timing.command_ms,
        bar0::TIMEOUT_ABORT => timing.abort_ms,
        bar0::TIMEOUT_QUEUE => timing.queue_ms,
        bar0::TIMEOUT_RESTART => timing.restart_ms,
        bar0::TIMEOUT_FLR => timing.flr_ms,
        bar0::CONTROL => registers.control.into_bits(),
        bar0::STATUS => status(machine).into_bits(),
        bar0::FAULT => u32::from(machine.life.fault.map_or(0, Fault::code)),
        bar0::GENERATION => machine.life.generation,
        bar0::STOPPED_LO => low(machine.stopped()),
        bar0::STOPPED_HI => high(machine.stopped()),
        bar0::ADMIN_SQ_LO => low(registers.admin_submissions),
        bar0::ADMIN_SQ_HI => high(registers.admin_submissions),
        bar0::ADMIN_CQ_LO => low(registers.admin_completions),
        bar0::ADMIN_CQ_HI => high(registers.admin_completions),
        bar0::ADMIN_PARK_LO => low(registers.admin_park),
        bar0::ADMIN_PARK_HI => high(registers.admin_park),
        bar0::ADMIN_QUEUE => registers.admin_queue.into_bits(),
        bar0::SCRATCH => registers.scratch,
        // KICK and whatever else is only written.
        _ => 0,
    }
}

fn status(machine: &Machine) -> Status {
    let state = machine.life.state;
    let serves = matches!(state, State::Loader | State::Running);
    Status::new()
        .with_ready(serves && machine.registers.control.enable() && machine.queue(0).is_some())
        .with_faulted(state == State::Faulted)
        .with_queue_stopped(machine.stopped() != 0)
        .with_state_code(state.code())
}

fn set(machine: &mut Machine, register: Register, value: u32, now: Instant) {
    let registers = &mut machine.registers;
    match register {
        bar0::CONTROL => set_control(machine, Control::from_bits(value), now),
        bar0::ADMIN_SQ_LO => set_low(&mut registers.admin_submissions, value),
        bar0::ADMIN_SQ_HI => set_high(&mut registers.admin_submissions, value),
        bar0::ADMIN_CQ_LO => set_low(&mut registers.admin_completions, value),
        bar0::ADMIN_CQ_HI => set_high(&mut registers.admin_completions, value),
        bar0::ADMIN_PARK_LO => set_low(&mut registers.admin_park, value),
        bar0::ADMIN_PARK_HI => set_high(&mut registers.admin_park, value),
        bar0::ADMIN_QUEUE => registers.admin_queue = AdminQueue::from_bits(value),
        bar0::SCRATCH => registers.scratch = value,
        bar0::KICK => {
            machine.resources.counters.kicks += 1;
            let exists = u16::try_from(value).is_ok_and(|number| machine.queue(number).is_some());
            if !exists {
                let violation = Violation::KickOfNoQueue { queue: value };
                machine.resources.strict.record(violation);
            }
        }
        _ => {}
    }
}

fn set_low(word: &mut u64, value: u32) {
    *word = *word & !u64::from(u32::MAX) | u64::from(value);
}

fn set_high(word: &mut u64, value: u32) {
    *word = *word & u64::from(u32::MAX) | u64::from(value) << 32;
}

fn set_control(machine: &mut Machine, control: Control, now: Instant) {
    if control.restart() {
        return machine.restart(now);
    }
    let enabled = machine.registers.control.enable();
    if enabled && !control.enable() {
        machine.drop_owner();
    }
    machine.registers.control = Control::new().with_enable(control.enable());
    if control.enable() && !enabled {
        admin::begin(machine, now);
    }
}
