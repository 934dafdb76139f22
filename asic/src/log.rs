//! Log pages of GET_LOG.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Fault, Malformed};

codes! {
    /// What GET_LOG can read.
    pub enum LogPage: u8 {
        /// [`Telemetry`](crate::telemetry::Telemetry), one consistent copy.
        Telemetry = 1,
        /// The last [`EVENT_LOG_ENTRIES`] [`EventRecord`](crate::event::EventRecord)s, oldest first.
        Events = 2,
        /// [`CrashLog`].
        Crash = 3,
        /// [`SlotInfo`] of each firmware slot.
        Firmware = 4,
    }
}

/// Most records of the event log.
pub const EVENT_LOG_ENTRIES: usize = 128;

/// What the firmware left behind when it last stopped on a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CrashLog {
    /// 1 when there is one, 0 when the firmware never stopped on a fault.
    pub valid: u16,
    /// [`Fault`].
    pub fault: u16,
    /// Generation that stopped.
    pub generation: u32,
    /// Milliseconds since power-on.
    pub uptime_ms: u64,
    /// [`FirmwareVersion`](crate::firmware::FirmwareVersion) that stopped.
    pub firmware_version: u32,
    /// Queue whose command was running, 0xFFFF for none.
    pub queue: u16,
    /// That command's identifier.
    pub command_id: u16,
    /// Device-memory address concerned, 0 for none.
    pub address: u64,
    /// What the firmware had to say, in ASCII, padded with 0.
    pub message: [u8; 96],
}

fields!(CrashLog, size = 128, {
    0x00 => valid,
    0x02 => fault,
    0x04 => generation,
    0x08 => uptime_ms,
    0x10 => firmware_version,
    0x14 => queue,
    0x16 => command_id,
    0x18 => address,
    0x20 => message,
});

impl CrashLog {
    /// The crash log in `bytes`, or `None` when the firmware never stopped on a fault.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut short or its fault code is of no fault.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, Fault)>, Malformed> {
        let (log, _) = Self::read_from_prefix(bytes).map_err(|_| Malformed {
            what: "bytes of a crash log",
            found: bytes.len() as u64,
            expected: "at least 128",
        })?;
        match log.valid {
            0 => Ok(None),
            1 => Ok(Some((log, Fault::parse(log.fault)?))),
            other => Err(Malformed {
                what: "crash log valid",
                found: u64::from(other),
                expected: "0 or 1",
            }),
        }
    }
}

/// A firmware slot.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SlotInfo {
    /// [`FirmwareVersion`](crate::firmware::FirmwareVersion), 0 for an empty slot.
    pub version: u32,
    /// Security version.
    pub security_version: u32,
    /// Bytes of payload.
    pub payload_length: u32,
    /// Bit 0: booted from; bit 1: next to boot.
    pub flags: u32,
}

fields!(SlotInfo, size = 16, {
    0x00 => version,
    0x04 => security_version,
    0x08 => payload_length,
    0x0C => flags,
});
