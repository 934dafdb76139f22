//! BAR0: page 0 (identity, control, status, error), page 1 (telemetry), and one doorbell page per
//! queue from [`DOORBELLS`] on.
//!
//! Registers are 32 bits wide and take naturally aligned 4-byte accesses only.

use bitfield_struct::bitfield;

use crate::register::registers;
use crate::state::State;
use crate::{Malformed, PAGE};

/// Bytes of BAR0.
pub const SIZE: u64 = 0x80000;
/// Offset of the telemetry page.
pub const TELEMETRY: u64 = 0x1000;
/// Offset of the admin queue's doorbell page; queue `q` has `DOORBELLS + q * PAGE`.
pub const DOORBELLS: u64 = 0x40000;
/// Most I/O queues that the model has room for; [`CAP_QUEUES`] says how many a chip has.
pub const MAX_IO_QUEUES: u16 = 32;
/// Greatest depth of a queue that the model allows, as a power of two.
pub const MAX_DEPTH_LOG2: u8 = 12;

/// Offset in BAR0 of queue `queue`'s doorbell page.
#[must_use]
pub const fn doorbell_page(queue: u16) -> u64 {
    DOORBELLS + queue as u64 * PAGE as u64
}

registers! {
    /// Vendor in bits 15:0, device in 31:16. All ones: the chip is not there.
    IDENT = 0x000, ReadOnly;
    /// Version of the programming model.
    VERSION = 0x004, ReadOnly;
    /// Serial number, low half; the same as the Device Serial Number capability.
    SERIAL_LO = 0x008, ReadOnly;
    /// Serial number, high half.
    SERIAL_HI = 0x00C, ReadOnly;
    /// [`CapQueues`].
    CAP_QUEUES = 0x010, ReadOnly;
    /// [`CapDma`].
    CAP_DMA = 0x014, ReadOnly;
    /// Bytes of device memory, low half.
    CAP_MEMORY_LO = 0x018, ReadOnly;
    /// Bytes of device memory, high half.
    CAP_MEMORY_HI = 0x01C, ReadOnly;
    /// One bit per I/O opcode that the chip knows.
    CAP_OPS = 0x020, ReadOnly;
    /// One bit per kernel that a program may name.
    CAP_KERNELS = 0x024, ReadOnly;
    /// [`CapLimits`].
    CAP_LIMITS = 0x028, ReadOnly;
    /// Milliseconds from CONTROL.enable to STATUS.ready, and back.
    TIMEOUT_READY = 0x030, ReadOnly;
    /// Milliseconds that any one command may take.
    TIMEOUT_COMMAND = 0x034, ReadOnly;
    /// Milliseconds from ABORT to its completion.
    TIMEOUT_ABORT = 0x038, ReadOnly;
    /// Milliseconds from DELETE_QUEUE to its completion.
    TIMEOUT_QUEUE = 0x03C, ReadOnly;
    /// Milliseconds from CONTROL.restart to state RUNNING.
    TIMEOUT_RESTART = 0x040, ReadOnly;
    /// Milliseconds from FLR to the first answer of config space.
    TIMEOUT_FLR = 0x044, ReadOnly;
    /// [`Control`].
    CONTROL = 0x080, ReadWrite;
    /// [`Status`].
    STATUS = 0x084, ReadOnly;
    /// The current fault code in bits 15:0, 0 when there is none.
    FAULT = 0x088, ReadOnly;
    /// Counts the starts of the firmware since power-on.
    GENERATION = 0x08C, ReadOnly;
    /// Bit q: queue q stopped on an error, queues 0 to 31.
    STOPPED_LO = 0x090, ReadOnly;
    /// Bit 0: queue 32 stopped on an error.
    STOPPED_HI = 0x094, ReadOnly;
    /// IOVA of the admin submission ring, low half; page-aligned.
    ADMIN_SQ_LO = 0x0A0, ReadWrite;
    /// IOVA of the admin submission ring, high half.
    ADMIN_SQ_HI = 0x0A4, ReadWrite;
    /// IOVA of the admin completion ring, low half; page-aligned.
    ADMIN_CQ_LO = 0x0A8, ReadWrite;
    /// IOVA of the admin completion ring, high half.
    ADMIN_CQ_HI = 0x0AC, ReadWrite;
    /// IOVA of the admin queue's park word, low half; 0 for none.
    ADMIN_PARK_LO = 0x0B0, ReadWrite;
    /// IOVA of the admin queue's park word, high half.
    ADMIN_PARK_HI = 0x0B4, ReadWrite;
    /// [`AdminQueue`].
    ADMIN_QUEUE = 0x0B8, ReadWrite;
    /// A write of a queue number wakes the chip to look at that queue's doorbell.
    KICK = 0x0C0, WriteOnly;
    /// Holds what was written; for a test of the path to the chip. Cleared by FLR.
    SCRATCH = 0x0C4, ReadWrite;
}

/// `CAP_QUEUES`: how many queues and how deep.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CapQueues {
    /// I/O queues, 1 to [`MAX_IO_QUEUES`].
    pub io_queues: u8,
    /// Greatest depth as a power of two, 1 to [`MAX_DEPTH_LOG2`].
    #[bits(4)]
    pub max_depth_log2: u8,
    /// Bytes of a submission entry as a power of two.
    #[bits(4)]
    pub submission_log2: u8,
    /// Bytes of a completion entry as a power of two.
    #[bits(4)]
    pub completion_log2: u8,
    /// Distance of doorbell pages as a power of two.
    #[bits(5)]
    pub doorbell_stride_log2: u8,
    #[bits(7)]
    __: u8,
}

impl CapQueues {
    /// The capabilities, if a driver of this model can use them.
    ///
    /// # Errors
    /// [`Malformed`] with the first field that is out of range.
    pub const fn parse(raw: u32) -> Result<Self, Malformed> {
        let caps = Self::from_bits(raw);
        let (found, expected) = if caps.io_queues() == 0 || caps.io_queues() as u16 > MAX_IO_QUEUES
        {
            (caps.io_queues(), "1 to 32 I/O queues")
        } else if caps.max_depth_log2() == 0 || caps.max_depth_log2() > MAX_DEPTH_LOG2 {
            (caps.max_depth_log2(), "a depth of 2 to 4096 entries")
        } else if caps.submission_log2() != 6 {
            (caps.submission_log2(), "64-byte submission entries")
        } else if caps.completion_log2() != 4 {
            (caps.completion_log2(), "16-byte completion entries")
        } else if caps.doorbell_stride_log2() != 12 {
            (caps.doorbell_stride_log2(), "4 KiB doorbell pages")
        } else {
            return Ok(caps);
        };
        Err(Malformed {
            what: "CAP_QUEUES",
            found: found as u64,
            expected,
        })
    }
}

/// `CAP_DMA`: what the chip's DMA engine can do.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CapDma {
    /// Width of an IOVA in bits, 32 to 64.
    pub address_bits: u8,
    /// The chip sets the park word before it sleeps and needs a KICK then.
    pub parking: bool,
    /// Operands may be in the peer space.
    pub peer: bool,
    #[bits(22)]
    __: u32,
}

impl CapDma {
    /// The capabilities, if the address width makes sense.
    ///
    /// # Errors
    /// [`Malformed`] with the width found.
    pub const fn parse(raw: u32) -> Result<Self, Malformed> {
        let caps = Self::from_bits(raw);
        if caps.address_bits() < 32 || caps.address_bits() > 64 {
            return Err(Malformed {
                what: "CAP_DMA.address_bits",
                found: caps.address_bits() as u64,
                expected: "32 to 64 bits of DMA address",
            });
        }
        Ok(caps)
    }

    /// The greatest IOVA that the chip can put on the bus.
    #[must_use]
    pub const fn last_address(self) -> u64 {
        if self.address_bits() >= 64 {
            u64::MAX
        } else {
            (1 << self.address_bits()) - 1
        }
    }
}

/// `CAP_LIMITS`: how many objects the chip can hold.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct CapLimits {
    /// Contexts beside context 0.
    pub contexts: u8,
    /// Loaded programs, over all contexts.
    pub programs: u8,
    /// Greatest length of one copy or fill as a power of two, 12 to 40.
    #[bits(6)]
    pub max_transfer_log2: u8,
    #[bits(10)]
    __: u16,
}

impl CapLimits {
    /// The limits, if the transfer length makes sense.
    ///
    /// # Errors
    /// [`Malformed`] with the length found.
    pub const fn parse(raw: u32) -> Result<Self, Malformed> {
        let caps = Self::from_bits(raw);
        if caps.max_transfer_log2() < 12 || caps.max_transfer_log2() > 40 {
            return Err(Malformed {
                what: "CAP_LIMITS.max_transfer_log2",
                found: caps.max_transfer_log2() as u64,
                expected: "transfers of 4 KiB to 1 TiB",
            });
        }
        Ok(caps)
    }

    /// Greatest length of one copy or fill, in bytes.
    #[must_use]
    pub const fn max_transfer(self) -> u64 {
        1 << self.max_transfer_log2()
    }
}

/// `CONTROL`.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Control {
    /// Starts the admin queue from the ADMIN registers. Clearing it ends all DMA and deletes all
    /// queues and contexts.
    pub enable: bool,
    /// Restarts the firmware; reads as 0.
    pub restart: bool,
    #[bits(30)]
    __: u32,
}

/// `STATUS`.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Status {
    /// The admin queue takes commands.
    pub ready: bool,
    /// The device stopped on the fault in FAULT; only a restart of the firmware helps.
    pub faulted: bool,
    /// A queue stopped on an error; STOPPED says which.
    pub queue_stopped: bool,
    #[bits(5)]
    __: u8,
    /// [`State`], as in the vital signs.
    pub state_code: u8,
    __: u16,
}

impl Status {
    /// The chip's state.
    ///
    /// # Errors
    /// [`Malformed`] when the code is of no state.
    pub const fn state(self) -> Result<State, Malformed> {
        State::parse(self.state_code())
    }
}

/// `ADMIN_QUEUE`: shape of the admin queue.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct AdminQueue {
    /// Depth as a power of two, the same for both rings.
    #[bits(4)]
    pub depth_log2: u8,
    #[bits(12)]
    __: u16,
    /// Tag that the chip puts in each completion of this queue.
    pub tag: u16,
}
