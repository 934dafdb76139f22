//! Asynchronous events.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Malformed;

codes! {
    /// What happened.
    pub enum EventCode: u16 {
        /// The firmware started; the argument is the generation.
        FirmwareStarted = 1,
        /// The device stopped; the argument is the [`Fault`](crate::Fault).
        DeviceFaulted = 2,
        /// A queue stopped; the argument is its number.
        QueueStopped = 3,
        /// Correctable ECC errors; the argument is the lifetime count.
        EccCorrectable = 4,
        /// An uncorrectable ECC error; the argument is the lifetime count.
        EccUncorrectable = 5,
        /// The reasons to throttle changed; the argument is the new [`Throttle`](crate::vitals::Throttle).
        ThrottleChanged = 6,
        /// A page of device memory was retired; the argument is the count of retired pages.
        PageRetired = 7,
        /// A self-test ended; the argument is the [`SelfTest`](crate::SelfTest) code.
        SelfTestEnded = 8,
        /// A reset of the function ended; the argument is 0.
        Reset = 9,
        /// The link's speed or width changed; the argument is LNKSTA.
        LinkChanged = 10,
    }
}

/// Result of ASYNC_EVENT.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EventResult {
    /// [`EventCode`].
    pub code: u16,
    /// Events lost before this one because no ASYNC_EVENT was outstanding; the event log has them.
    pub lost: u16,
    /// The code's argument.
    pub argument: u32,
}

/// An event in the event log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct EventRecord {
    /// Counts events since power-on, from 1.
    pub sequence: u64,
    /// Milliseconds since power-on.
    pub uptime_ms: u64,
    /// [`EventCode`].
    pub code: u16,
    /// 0.
    pub reserved: u16,
    /// The code's argument.
    pub argument: u32,
    /// Generation of the firmware.
    pub generation: u32,
    /// 0.
    pub reserved1: u32,
}

fields!(EventRecord, size = 32, {
    0x00 => sequence,
    0x08 => uptime_ms,
    0x10 => code,
    0x12 => reserved,
    0x14 => argument,
    0x18 => generation,
    0x1C => reserved1,
});

/// An event whose code was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub code: EventCode,
    /// The code's argument.
    pub argument: u32,
}

impl Event {
    /// The event in the result of an ASYNC_EVENT.
    ///
    /// # Errors
    /// [`Malformed`] when the code is of no event.
    pub const fn parse(result: EventResult) -> Result<Self, Malformed> {
        match EventCode::parse(result.code()) {
            Ok(code) => Ok(Self {
                code,
                argument: result.argument(),
            }),
            Err(error) => Err(error),
        }
    }
}
