//! FIRMWARE_DOWNLOAD.

use auk_asic::Status;
use auk_asic::firmware::MAX_IMAGE;
use auk_asic::submission::Operand;

use super::host;
use crate::machine::Machine;

pub(super) fn download(
    machine: &mut Machine,
    src: Operand,
    length: u32,
    offset: u32,
) -> Result<u64, Status> {
    if length == 0 || length > MAX_IMAGE {
        return Err(Status::InvalidField);
    }
    let mut piece = vec![0; length as usize];
    machine.resources.memory.read(host(src)?, &mut piece)?;
    machine.firmware.stage(offset, &piece)?;
    Ok(0)
}
