//! IDENTIFY and GET_LOG.

use std::time::Instant;

use auk_asic::Status;
use auk_asic::admin::Identify;
use auk_asic::firmware::{MAX_IMAGE, SLOTS};
use auk_asic::log::LogPage;
use auk_asic::submission::Operand;
use zerocopy::{FromZeros, IntoBytes};

use super::host;
use crate::machine::Machine;

pub(super) fn identify(machine: &mut Machine, dst: Operand) -> Result<u64, Status> {
    let profile = &machine.profile;
    let version = machine.life.version;
    let mut identify = Identify {
        version: Identify::VERSION,
        length: Identify::SIZE as u16,
        firmware_version: version.map_or(0, |version| version.into_bits()),
        serial: profile.serial,
        memory: machine.resources.memory.allocator.capacity(),
        active_slot: machine.firmware.active,
        next_slot: machine.firmware.next,
        slots: SLOTS,
        max_image: MAX_IMAGE,
        security_version: profile.security_version,
        ..Identify::new_zeroed()
    };
    fill(&mut identify.product, &profile.product);
    fill(&mut identify.part_number, &profile.part_number);
    let memory = &mut machine.resources.memory;
    memory.write(host(dst)?, identify.as_bytes())?;
    Ok(0)
}

fn fill(field: &mut [u8], text: &str) {
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
}

pub(super) fn log_page(
    machine: &mut Machine,
    dst: Operand,
    page: LogPage,
    (offset, length): (u32, u32),
) -> Result<u64, Status> {
    let bytes = match page {
        LogPage::Telemetry => {
            machine.refresh_telemetry(Instant::now());
            machine.telemetry.table().as_bytes().to_vec()
        }
        LogPage::Events => machine.log.events(),
        LogPage::Crash => machine.log.crash().as_bytes().to_vec(),
        LogPage::Firmware => machine.firmware.slot_info(),
    };
    let rest = bytes.get(offset as usize..).unwrap_or_default();
    let part = &rest[..rest.len().min(length as usize)];
    machine.resources.memory.write(host(dst)?, part)?;
    Ok(bytes.len() as u64)
}
