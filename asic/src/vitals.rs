//! Vital signs: the DVSEC in config space that shows a chip's health to whoever can read sysfs,
//! while a job holds the chip.
//!
//! All fields but the heartbeat change under a sequence counter: read the counter, the fields, the
//! counter again; an odd or a changed counter means try again, three times at most, and then the
//! block is unobservable. The chip changes the block at most every 100 ms.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::firmware::FirmwareVersion;
use crate::{Fault, Malformed, SelfTest, State};

/// DVSEC ID under [`VENDOR`](crate::ident::VENDOR).
pub const DVSEC_ID: u16 = 1;
/// DVSEC revision of this layout.
pub const DVSEC_REVISION: u8 = 1;
/// Offset of [`VitalSigns`] from the start of the extended capability; the DVSEC header is
/// PCI Express Base Specification 6.0, section 7.9.6.
pub const BODY: u16 = 0x0C;
/// Bytes at the start of [`VitalSigns`] that change while the chip runs; the rest changes at a
/// start of the firmware only.
pub const LIVE_SIZE: usize = 0x38;
/// Tries before a block whose counter moves is unobservable.
pub const READ_TRIES: u32 = 3;
/// Counts of the heartbeat a second.
pub const HEARTBEAT_HZ: u32 = 10;

/// Why the chip runs slower than it could.
#[bitfield(u32)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "u32", into = "u32")
)]
pub struct Throttle {
    /// The die or the memory is at its throttle point.
    pub thermal: bool,
    /// The power limit of the power state.
    pub power_cap: bool,
    /// The board's supply asks for less.
    pub supply: bool,
    #[bits(29)]
    __: u32,
}

/// The block as it lies in config space.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VitalSigns {
    /// Odd while the chip changes the block.
    pub sequence: u32,
    /// [`State`].
    pub state: u8,
    /// [`SelfTest`].
    pub self_test: u8,
    /// The current [`Fault`], 0 for none.
    pub fault: u16,
    /// Starts of the firmware since power-on.
    pub generation: u32,
    /// The last [`Fault`] since power-on, 0 for none; resets keep it.
    pub last_fault: u16,
    /// 0.
    pub reserved0: u16,
    /// Generation in which the last fault was.
    pub last_fault_generation: u32,
    /// Generation in which the last self-test ended.
    pub self_test_generation: u32,
    /// Die temperature in tenths of a degree Celsius.
    pub die_temperature: i16,
    /// Memory temperature in tenths of a degree Celsius.
    pub memory_temperature: i16,
    /// Board power in milliwatts.
    pub power: u32,
    /// [`Throttle`].
    pub throttle: Throttle,
    /// Correctable ECC errors, lifetime; stays at the maximum.
    pub ecc_ce: u32,
    /// Uncorrectable ECC errors, lifetime; stays at the maximum.
    pub ecc_ue: u32,
    /// Pages of device memory taken out of use, lifetime.
    pub retired_pages: u32,
    /// PCIe replays since power-on.
    pub pcie_replays: u32,
    /// Counts at [`HEARTBEAT_HZ`] in D0 and state RUNNING. Outside the sequence counter.
    pub heartbeat: u32,
    /// Die temperature at which the chip throttles, in tenths of a degree Celsius.
    pub throttle_point: i16,
    /// Die temperature at which the chip stops, in tenths of a degree Celsius.
    pub shutdown_point: i16,
    /// Power limit in milliwatts.
    pub power_limit: u32,
    /// [`FirmwareVersion`] that runs; 0 in ROM and loader.
    pub firmware_version: u32,
}

fields!(VitalSigns, size = 68, {
    0x00 => sequence,
    0x04 => state,
    0x05 => self_test,
    0x06 => fault,
    0x08 => generation,
    0x0C => last_fault,
    0x0E => reserved0,
    0x10 => last_fault_generation,
    0x14 => self_test_generation,
    0x18 => die_temperature,
    0x1A => memory_temperature,
    0x1C => power,
    0x20 => throttle,
    0x24 => ecc_ce,
    0x28 => ecc_ue,
    0x2C => retired_pages,
    0x30 => pcie_replays,
    0x34 => heartbeat,
    0x38 => throttle_point,
    0x3A => shutdown_point,
    0x3C => power_limit,
    0x40 => firmware_version,
});

/// Bytes of the whole DVSEC, header included; the length in its header.
pub const DVSEC_SIZE: u16 = BODY + VitalSigns::SIZE as u16;

/// Vital signs whose codes were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Vitals {
    /// What the firmware is doing.
    pub state: State,
    /// Why it stopped, if it did.
    pub fault: Option<Fault>,
    /// Starts of the firmware since power-on.
    pub generation: u32,
    /// The last fault since power-on, and the generation that it was in.
    pub last_fault: Option<(Fault, u32)>,
    /// Outcome of the last self-test.
    pub self_test: SelfTest,
    /// Generation in which the last self-test ended.
    pub self_test_generation: u32,
    /// Die temperature in tenths of a degree Celsius.
    pub die_temperature: i16,
    /// Memory temperature in tenths of a degree Celsius.
    pub memory_temperature: i16,
    /// Temperature at which the chip throttles, in tenths of a degree Celsius.
    pub throttle_point: i16,
    /// Temperature at which the chip stops, in tenths of a degree Celsius.
    pub shutdown_point: i16,
    /// Board power in milliwatts.
    pub power: u32,
    /// Power limit in milliwatts.
    pub power_limit: u32,
    /// Why the chip runs slower than it could.
    pub throttle: Throttle,
    /// Correctable ECC errors, lifetime.
    pub ecc_ce: u32,
    /// Uncorrectable ECC errors, lifetime.
    pub ecc_ue: u32,
    /// Pages of device memory taken out of use.
    pub retired_pages: u32,
    /// PCIe replays since power-on.
    pub pcie_replays: u32,
    /// Heartbeat count.
    pub heartbeat: u32,
    /// Firmware that runs; `None` in ROM and loader.
    pub firmware: Option<FirmwareVersion>,
}

impl Vitals {
    /// The vital signs in a block that was read between two equal, even values of the counter.
    ///
    /// # Errors
    /// [`Malformed`] with the first code that the model does not have.
    pub fn parse(raw: &VitalSigns) -> Result<Self, Malformed> {
        if raw.sequence % 2 == 1 {
            return Err(Malformed {
                what: "vital signs sequence",
                found: u64::from(raw.sequence),
                expected: "an even number",
            });
        }
        Ok(Self {
            state: State::parse(raw.state)?,
            fault: Fault::parse_optional(raw.fault)?,
            generation: raw.generation,
            last_fault: Fault::parse_optional(raw.last_fault)?
                .map(|fault| (fault, raw.last_fault_generation)),
            self_test: SelfTest::parse(raw.self_test)?,
            self_test_generation: raw.self_test_generation,
            die_temperature: raw.die_temperature,
            memory_temperature: raw.memory_temperature,
            throttle_point: raw.throttle_point,
            shutdown_point: raw.shutdown_point,
            power: raw.power,
            power_limit: raw.power_limit,
            throttle: raw.throttle,
            ecc_ce: raw.ecc_ce,
            ecc_ue: raw.ecc_ue,
            retired_pages: raw.retired_pages,
            pcie_replays: raw.pcie_replays,
            heartbeat: raw.heartbeat,
            firmware: FirmwareVersion::parse_optional(raw.firmware_version),
        })
    }

    /// Whether this life of the firmware has passed a self-test.
    #[must_use]
    pub fn self_test_passed(&self) -> bool {
        self.self_test == SelfTest::Passed && self.self_test_generation == self.generation
    }
}
