//! The telemetry table.

use std::time::{Duration, Instant};

use auk_asic::State;
use auk_asic::telemetry::Telemetry;

use crate::machine::{Machine, milliseconds};

/// A reader that takes the table in pieces sees one table for this long at least.
const PERIOD: Duration = Duration::from_millis(10);

/// The table as readers see it, under its sequence counter.
#[derive(Debug, Default)]
pub(crate) struct TelemetryPage {
    table: Telemetry,
    changed: Option<Instant>,
}

impl TelemetryPage {
    /// Whether the table is old enough to change under a reader.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.changed
            .is_none_or(|changed| now.saturating_duration_since(changed) >= PERIOD)
    }

    /// Shows `fresh`, as a whole, so that the odd value of the counter never shows.
    pub(crate) fn update(&mut self, fresh: Telemetry, now: Instant) {
        self.table = Telemetry {
            sequence: self.table.sequence.wrapping_add(2),
            ..fresh
        };
        self.changed = Some(now);
    }

    pub(crate) fn table(&self) -> &Telemetry {
        &self.table
    }
}

/// The table at this time.
pub(crate) fn compose(machine: &Machine, now: Instant) -> Telemetry {
    let resources = &machine.resources;
    let counters = &resources.counters;
    let memory = &resources.memory;
    let running = machine.life.state == State::Running;
    let firmware_uptime = now.saturating_duration_since(machine.life.started);
    Telemetry {
        sequence: 0,
        version: Telemetry::VERSION,
        length: Telemetry::SIZE as u16,
        uptime_ms: machine.uptime_ms(now),
        firmware_uptime_ms: if running {
            milliseconds(firmware_uptime)
        } else {
            0
        },
        commands_ok: counters.commands_ok,
        commands_failed: counters.commands_failed,
        launches: counters.launches,
        host_read_bytes: memory.host_read_bytes,
        host_written_bytes: memory.host_written_bytes,
        interrupts: counters.interrupts,
        kicks: counters.kicks,
        busy_ns: counters.busy_ns,
        throttled_ms: milliseconds(machine.board.throttled()),
        memory_used: memory.allocator.used(),
        memory_total: memory.device.mapping.len(),
        clock_mhz: machine.board.clock_mhz(),
        queues: machine.io_queues().count() as u16,
        contexts: resources.contexts.count() as u16,
        programs: resources.programs.count() as u32,
        reserved: 0,
    }
}
