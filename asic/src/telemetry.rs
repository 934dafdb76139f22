//! The telemetry table: page 1 of BAR0, and log page Telemetry.
//!
//! Like the vital signs it changes under a sequence counter, so a reader takes the whole table
//! between two equal, even values. A later version may be longer; the fields here stay.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Malformed;

/// The table.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Telemetry {
    /// Odd while the chip changes the table.
    pub sequence: u32,
    /// Layout: 1.
    pub version: u16,
    /// Bytes of the table.
    pub length: u16,
    /// Milliseconds since power-on.
    pub uptime_ms: u64,
    /// Milliseconds since the firmware started.
    pub firmware_uptime_ms: u64,
    /// I/O commands that ended in success.
    pub commands_ok: u64,
    /// I/O commands that ended otherwise.
    pub commands_failed: u64,
    /// LAUNCH commands that ended in success.
    pub launches: u64,
    /// Bytes read from host memory by I/O commands.
    pub host_read_bytes: u64,
    /// Bytes written to host memory by I/O commands.
    pub host_written_bytes: u64,
    /// Interrupts fired.
    pub interrupts: u64,
    /// Writes of KICK.
    pub kicks: u64,
    /// Nanoseconds in which a command ran, summed over queues.
    pub busy_ns: u64,
    /// Milliseconds spent throttled.
    pub throttled_ms: u64,
    /// Bytes of device memory that are allocated.
    pub memory_used: u64,
    /// Bytes of device memory.
    pub memory_total: u64,
    /// Clock of the processing elements in MHz.
    pub clock_mhz: u32,
    /// I/O queues that exist.
    pub queues: u16,
    /// Contexts that exist, context 0 included.
    pub contexts: u16,
    /// Programs that are loaded.
    pub programs: u32,
    /// 0.
    pub reserved: u32,
}

fields!(Telemetry, size = 128, {
    0x00 => sequence,
    0x04 => version,
    0x06 => length,
    0x08 => uptime_ms,
    0x10 => firmware_uptime_ms,
    0x18 => commands_ok,
    0x20 => commands_failed,
    0x28 => launches,
    0x30 => host_read_bytes,
    0x38 => host_written_bytes,
    0x40 => interrupts,
    0x48 => kicks,
    0x50 => busy_ns,
    0x58 => throttled_ms,
    0x60 => memory_used,
    0x68 => memory_total,
    0x70 => clock_mhz,
    0x74 => queues,
    0x76 => contexts,
    0x78 => programs,
    0x7C => reserved,
});

impl Telemetry {
    /// Layout that this crate describes.
    pub const VERSION: u16 = 1;

    /// The table at the start of `bytes`, which were read between two equal values of the counter.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut short, torn, or of an unknown layout.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (table, _) = Self::read_from_prefix(bytes).map_err(|_| Malformed {
            what: "bytes of telemetry",
            found: bytes.len() as u64,
            expected: "at least 128",
        })?;
        let wrong = |what, found: u64, expected| {
            Err(Malformed {
                what,
                found,
                expected,
            })
        };
        if table.sequence % 2 == 1 {
            return wrong(
                "telemetry sequence",
                u64::from(table.sequence),
                "an even number",
            );
        }
        if table.version != Self::VERSION {
            return wrong("telemetry version", u64::from(table.version), "1");
        }
        if usize::from(table.length) < Self::SIZE {
            return wrong("telemetry length", u64::from(table.length), "at least 128");
        }
        Ok(table)
    }
}
