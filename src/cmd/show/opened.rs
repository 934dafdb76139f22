//! What only a chip that is open says: capability registers, firmware slots, telemetry.

use std::time::Duration;

use anyhow::Context;
use auk_asic::firmware::FirmwareVersion;
use auk_asic::io::IoOpcode;
use auk_asic::log::SlotInfo;
use auk_asic::program::Kernel;
use auk_asic::telemetry::Telemetry;
use auk_driver::pci::{Bdf, Host};
use auk_driver::{Capabilities, Device, OpenOptions};
use serde::Serialize;

use super::seen::bytes;
use crate::inventory::dashed;
use crate::output::Fields;

/// What an open chip said.
#[derive(Debug, Serialize)]
pub(super) struct Opened {
    product: String,
    part_number: String,
    capabilities: Shown,
    firmware_slots: Vec<Slot>,
    telemetry: Readings,
}

#[derive(Debug, Serialize)]
struct Shown {
    model_version: String,
    serial: String,
    io_queues: u16,
    queue_depth: u32,
    address_bits: u8,
    parking: bool,
    peer: bool,
    memory_bytes: u64,
    max_transfer_bytes: u64,
    contexts: u8,
    programs: u8,
    commands: Vec<&'static str>,
    kernels: Vec<&'static str>,
    timeouts_ms: Timeouts,
}

#[derive(Debug, Serialize)]
struct Timeouts {
    ready: u128,
    command: u128,
    abort: u128,
    queue: u128,
    restart: u128,
    flr: u128,
}

#[derive(Debug, Serialize)]
struct Slot {
    slot: usize,
    version: Option<String>,
    security_version: u32,
    payload_bytes: u32,
    booted_from: bool,
    next_to_boot: bool,
}

#[derive(Debug, Serialize)]
struct Readings {
    uptime_ms: u64,
    firmware_uptime_ms: u64,
    clock_mhz: u32,
    commands_ok: u64,
    commands_failed: u64,
    launches: u64,
    host_read_bytes: u64,
    host_written_bytes: u64,
    interrupts: u64,
    busy_ns: u64,
    throttled_ms: u64,
    memory_used_bytes: u64,
    queues: u16,
    contexts: u16,
    programs: u32,
}

/// Bits of `SlotInfo::flags`, `docs/hardware.md`, log pages.
const BOOTED_FROM: u32 = 1 << 0;
const NEXT_TO_BOOT: u32 = 1 << 1;

/// Opens the chip, asks it, and closes it again.
pub(super) fn open(host: &Host, address: Bdf, longest: Duration) -> anyhow::Result<Opened> {
    let options = OpenOptions::default()
        .timeout(longest)
        .longest_timeout(longest);
    let device =
        Device::open(host, address, &options).with_context(|| format!("opening {address}"))?;
    let identity = device
        .identity()
        .with_context(|| format!("asking {address} who it is"))?;
    let slots = device
        .firmware_slots()
        .with_context(|| format!("reading the firmware slots of {address}"))?;
    let telemetry = device
        .telemetry()
        .with_context(|| format!("reading the telemetry of {address}"))?;
    Ok(Opened {
        product: ascii(&identity.product),
        part_number: ascii(&identity.part_number),
        capabilities: shown(device.capabilities()),
        firmware_slots: slots.iter().enumerate().map(slot).collect(),
        telemetry: readings(&telemetry),
    })
}

/// ASCII that is padded with 0.
fn ascii(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn shown(found: &Capabilities) -> Shown {
    let timeouts = found.timeouts();
    Shown {
        model_version: format!("{}.{}", found.version() >> 16, found.version() & 0xFFFF),
        serial: dashed(found.serial()),
        io_queues: found.io_queues(),
        queue_depth: found.max_depth(),
        address_bits: found.address_bits(),
        parking: found.parking(),
        peer: found.peer(),
        memory_bytes: found.memory(),
        max_transfer_bytes: found.max_transfer(),
        contexts: found.contexts(),
        programs: found.programs(),
        commands: IoOpcode::ALL
            .iter()
            .filter(|opcode| found.has_opcode(**opcode))
            .map(|opcode| opcode.name())
            .collect(),
        kernels: Kernel::ALL
            .iter()
            .filter(|kernel| found.has_kernel(**kernel))
            .map(|kernel| kernel.name())
            .collect(),
        timeouts_ms: Timeouts {
            ready: timeouts.ready.as_millis(),
            command: timeouts.command.as_millis(),
            abort: timeouts.abort.as_millis(),
            queue: timeouts.queue.as_millis(),
            restart: timeouts.restart.as_millis(),
            flr: timeouts.flr.as_millis(),
        },
    }
}

fn slot((slot, info): (usize, &SlotInfo)) -> Slot {
    Slot {
        slot,
        version: FirmwareVersion::parse_optional(info.version).map(|version| version.to_string()),
        security_version: info.security_version,
        payload_bytes: info.payload_length,
        booted_from: info.flags & BOOTED_FROM != 0,
        next_to_boot: info.flags & NEXT_TO_BOOT != 0,
    }
}

const fn readings(table: &Telemetry) -> Readings {
    Readings {
        uptime_ms: table.uptime_ms,
        firmware_uptime_ms: table.firmware_uptime_ms,
        clock_mhz: table.clock_mhz,
        commands_ok: table.commands_ok,
        commands_failed: table.commands_failed,
        launches: table.launches,
        host_read_bytes: table.host_read_bytes,
        host_written_bytes: table.host_written_bytes,
        interrupts: table.interrupts,
        busy_ns: table.busy_ns,
        throttled_ms: table.throttled_ms,
        memory_used_bytes: table.memory_used,
        queues: table.queues,
        contexts: table.contexts,
        programs: table.programs,
    }
}

impl Opened {
    pub(super) fn sections(&self) -> [Fields; 3] {
        [
            self.capability_section(),
            self.slot_section(),
            self.telemetry_section(),
        ]
    }

    fn capability_section(&self) -> Fields {
        let found = &self.capabilities;
        let yes_no = |yes: bool| if yes { "yes" } else { "no" };
        let times = &found.timeouts_ms;
        let mut fields = Fields::new("Capabilities (from its registers)");
        fields
            .push("product", &self.product)
            .push("part number", &self.part_number)
            .push("serial number", &found.serial)
            .push("programming model", &found.model_version)
            .push("I/O queues", format!("{}, up to {} deep", found.io_queues, found.queue_depth))
            .push("DMA address", format!("{} bits", found.address_bits))
            .push("device memory", bytes(found.memory_bytes))
            .push("longest transfer", bytes(found.max_transfer_bytes))
            .push("contexts", found.contexts.to_string())
            .push("programs", found.programs.to_string())
            .push("commands", found.commands.join(" "))
            .push("kernels", found.kernels.join(" "))
            .push("peer to peer", yes_no(found.peer))
            .push("parks when idle", yes_no(found.parking))
            .push(
                "timeouts",
                format!(
                    "ready {} ms, command {} ms, abort {} ms, queue {} ms, restart {} ms, FLR {} ms",
                    times.ready, times.command, times.abort, times.queue, times.restart, times.flr
                ),
            );
        fields
    }

    fn slot_section(&self) -> Fields {
        let mut fields = Fields::new("Firmware slots");
        for slot in &self.firmware_slots {
            let text = match &slot.version {
                None => "empty".to_owned(),
                Some(version) => {
                    let booted = if slot.booted_from {
                        ", booted from"
                    } else {
                        ""
                    };
                    let next = if slot.next_to_boot {
                        ", next to boot"
                    } else {
                        ""
                    };
                    format!(
                        "{version} (security version {}){booted}{next}",
                        slot.security_version
                    )
                }
            };
            fields.push(&format!("slot {}", slot.slot), text);
        }
        fields
    }

    fn telemetry_section(&self) -> Fields {
        let found = &self.telemetry;
        let seconds = |ms: u64| format!("{}.{:03} s", ms / 1000, ms % 1000);
        let mut fields = Fields::new("Telemetry");
        fields
            .push("powered for", seconds(found.uptime_ms))
            .push("firmware runs for", seconds(found.firmware_uptime_ms))
            .push("clock", format!("{} MHz", found.clock_mhz))
            .push(
                "commands",
                format!(
                    "{} well, {} failed",
                    found.commands_ok, found.commands_failed
                ),
            )
            .push("launches", found.launches.to_string())
            .push("read from host", bytes(found.host_read_bytes))
            .push("written to host", bytes(found.host_written_bytes))
            .push("interrupts", found.interrupts.to_string())
            .push("busy", seconds(found.busy_ns / 1_000_000))
            .push("throttled", seconds(found.throttled_ms))
            .push("memory in use", bytes(found.memory_used_bytes));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_ascii_ends_at_the_first_zero() {
        assert_eq!(ascii(b"A1\0\0"), "A1");
        assert_eq!(ascii(b"\0junk"), "");
        assert_eq!(ascii(b"full"), "full");
    }
}
