//! Commands of the admin queue, and the structures in host memory that they read and write.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::log::LogPage;
use crate::submission::{Operand, Submission};
use crate::{Malformed, Status};

codes! {
    /// Opcodes of the admin queue.
    pub enum AdminOpcode: u8 {
        /// Writes [`Identify`] to host memory. Served by the loader too.
        Identify = 0x01,
        /// Makes a context from a list of [`Window`]s; the result is its number.
        CreateContext = 0x02,
        /// Ends a context that has no queues; its programs and memory go with it.
        DeleteContext = 0x03,
        /// Starts an I/O queue.
        CreateQueue = 0x04,
        /// Stops an I/O queue; all its DMA has ended when this completes.
        DeleteQueue = 0x05,
        /// Changes a queue's interrupt coalescing.
        SetCoalescing = 0x06,
        /// Allocates device memory; the result is its address.
        AllocMemory = 0x08,
        /// Frees device memory.
        FreeMemory = 0x09,
        /// Loads a program image; the result is its handle.
        LoadProgram = 0x0A,
        /// Unloads a program.
        UnloadProgram = 0x0B,
        /// Copies a piece of a firmware image to the staging buffer. Served by the loader too.
        FirmwareDownload = 0x0C,
        /// Verifies the staged image and writes it to a slot. Served by the loader too.
        FirmwareCommit = 0x0D,
        /// Copies a log page to host memory; the result is its whole length. Served by the loader too.
        GetLog = 0x10,
        /// Sets the power limit.
        SetPowerState = 0x11,
        /// Ends one command of an I/O queue; the result is 1 if it had completed already.
        Abort = 0x12,
        /// Completes when an event occurs; the result is [`EventResult`](crate::event::EventResult).
        AsyncEvent = 0x13,
        /// Runs patterns over reserved memory and known answers on all kernels.
        SelfTest = 0x14,
    }
}

/// Most [`Window`]s of a context.
pub const MAX_WINDOWS: u32 = 16;
/// ASYNC_EVENT commands that may be outstanding.
pub const MAX_ASYNC_EVENTS: usize = 4;
/// Alignment and granularity of device-memory allocations, in bytes.
pub const MEMORY_GRANULE: u64 = 4096;

/// A range of IOVA that a context's queues may touch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Window {
    /// First IOVA, page-aligned.
    pub base: u64,
    /// Bytes, a multiple of the page.
    pub length: u64,
}

fields!(Window, size = 16, { 0x00 => base, 0x08 => length, });

/// Which queue CREATE_QUEUE makes, and how.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct QueueShape {
    /// Queue number, 1 to CAP_QUEUES.io_queues.
    pub queue: u16,
    /// Tag that the chip puts in each completion.
    pub tag: u16,
    /// MSI-X vector.
    pub vector: u16,
    /// Depth as a power of two, the same for both rings.
    #[bits(4)]
    pub depth_log2: u8,
    /// The queue may raise interrupts.
    pub interrupts: bool,
    #[bits(11)]
    __: u16,
}

/// When a queue's armed interrupt fires.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct Coalescing {
    /// Fire at this many completions past the armed index; 0 and 1 mean the first.
    pub count: u32,
    /// Fire this many microseconds after the first of them at the latest; 0 is at once.
    pub microseconds: u32,
}

codes! {
    /// Power states of SET_POWER_STATE: the cap on power.
    pub enum PowerState: u8 {
        /// The board's full power.
        Full = 0,
        /// Three quarters of it.
        Reduced = 1,
        /// Half of it.
        Low = 2,
    }
}

/// An admin command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminCommand {
    /// See [`AdminOpcode::Identify`].
    Identify {
        /// [`Identify::SIZE`] bytes of host memory.
        dst: Operand,
    },
    /// See [`AdminOpcode::CreateContext`].
    CreateContext {
        /// The [`Window`]s, in host memory.
        windows: Operand,
        /// How many, 0 to [`MAX_WINDOWS`].
        count: u32,
        /// Most bytes of device memory that the context may allocate.
        memory: u64,
    },
    /// See [`AdminOpcode::DeleteContext`].
    DeleteContext {
        /// From CREATE_CONTEXT.
        context: u32,
    },
    /// See [`AdminOpcode::CreateQueue`].
    CreateQueue {
        /// The submission ring, page-aligned, in host memory.
        submissions: Operand,
        /// The completion ring, page-aligned and zeroed, in host memory.
        completions: Operand,
        /// The park word, 4-byte aligned, in host memory; address 0 for none.
        park: Operand,
        /// Number, tag, vector, depth.
        shape: QueueShape,
        /// The context it belongs to; 0 is the owner's.
        context: u32,
        /// When an armed interrupt fires.
        coalescing: Coalescing,
    },
    /// See [`AdminOpcode::DeleteQueue`].
    DeleteQueue {
        /// Queue number.
        queue: u16,
    },
    /// See [`AdminOpcode::SetCoalescing`].
    SetCoalescing {
        /// Queue number.
        queue: u16,
        /// When an armed interrupt fires.
        coalescing: Coalescing,
    },
    /// See [`AdminOpcode::AllocMemory`].
    AllocMemory {
        /// Bytes; rounded up to [`MEMORY_GRANULE`].
        length: u64,
        /// A power of two from [`MEMORY_GRANULE`] on.
        align: u64,
        /// The context it belongs to.
        context: u32,
    },
    /// See [`AdminOpcode::FreeMemory`].
    FreeMemory {
        /// From ALLOC_MEMORY.
        address: u64,
    },
    /// See [`AdminOpcode::LoadProgram`].
    LoadProgram {
        /// The [program image](crate::program::Program), in host memory.
        image: Operand,
        /// Its bytes.
        length: u32,
        /// The context it belongs to.
        context: u32,
    },
    /// See [`AdminOpcode::UnloadProgram`].
    UnloadProgram {
        /// From LOAD_PROGRAM.
        program: u32,
    },
    /// See [`AdminOpcode::FirmwareDownload`].
    FirmwareDownload {
        /// A piece of the image, in host memory.
        src: Operand,
        /// Its bytes.
        length: u32,
        /// Where in the staging buffer.
        offset: u32,
    },
    /// See [`AdminOpcode::FirmwareCommit`].
    FirmwareCommit {
        /// 0 or 1.
        slot: u8,
        /// Boot from this slot at the next restart.
        activate: bool,
        /// Bytes of the staged image.
        length: u32,
    },
    /// See [`AdminOpcode::GetLog`].
    GetLog {
        /// Where to.
        dst: Operand,
        /// Which page.
        page: LogPage,
        /// First byte.
        offset: u32,
        /// Bytes.
        length: u32,
    },
    /// See [`AdminOpcode::SetPowerState`].
    SetPowerState {
        /// The cap.
        state: PowerState,
    },
    /// See [`AdminOpcode::Abort`].
    Abort {
        /// Queue number.
        queue: u16,
        /// The command's identifier.
        command_id: u16,
    },
    /// See [`AdminOpcode::AsyncEvent`].
    AsyncEvent,
    /// See [`AdminOpcode::SelfTest`].
    SelfTest,
}

impl AdminCommand {
    /// The command's opcode.
    #[must_use]
    pub const fn opcode(&self) -> AdminOpcode {
        match self {
            Self::Identify { .. } => AdminOpcode::Identify,
            Self::CreateContext { .. } => AdminOpcode::CreateContext,
            Self::DeleteContext { .. } => AdminOpcode::DeleteContext,
            Self::CreateQueue { .. } => AdminOpcode::CreateQueue,
            Self::DeleteQueue { .. } => AdminOpcode::DeleteQueue,
            Self::SetCoalescing { .. } => AdminOpcode::SetCoalescing,
            Self::AllocMemory { .. } => AdminOpcode::AllocMemory,
            Self::FreeMemory { .. } => AdminOpcode::FreeMemory,
            Self::LoadProgram { .. } => AdminOpcode::LoadProgram,
            Self::UnloadProgram { .. } => AdminOpcode::UnloadProgram,
            Self::FirmwareDownload { .. } => AdminOpcode::FirmwareDownload,
            Self::FirmwareCommit { .. } => AdminOpcode::FirmwareCommit,
            Self::GetLog { .. } => AdminOpcode::GetLog,
            Self::SetPowerState { .. } => AdminOpcode::SetPowerState,
            Self::Abort { .. } => AdminOpcode::Abort,
            Self::AsyncEvent => AdminOpcode::AsyncEvent,
            Self::SelfTest => AdminOpcode::SelfTest,
        }
    }

    /// The submission entry, with command identifier 0.
    #[must_use]
    pub fn encode(&self) -> Submission {
        let entry = |args| Submission::of(self.opcode().code(), args);
        match *self {
            Self::Identify { dst } => entry([0; 4]).to(dst),
            Self::CreateContext {
                windows,
                count,
                memory,
            } => entry([count as u64, memory, 0, 0]).from(windows),
            Self::DeleteContext { context } => entry([context as u64, 0, 0, 0]),
            Self::CreateQueue {
                submissions,
                completions,
                park,
                shape,
                context,
                coalescing,
            } => entry([shape.into_bits(), context as u64, coalescing.into_bits(), 0])
                .to(completions)
                .from(submissions)
                .with(park),
            Self::DeleteQueue { queue } => entry([queue as u64, 0, 0, 0]),
            Self::SetCoalescing { queue, coalescing } => {
                entry([queue as u64, coalescing.into_bits(), 0, 0])
            }
            Self::AllocMemory {
                length,
                align,
                context,
            } => entry([length, align, context as u64, 0]),
            Self::FreeMemory { address } => entry([address, 0, 0, 0]),
            Self::LoadProgram {
                image,
                length,
                context,
            } => entry([length as u64, context as u64, 0, 0]).from(image),
            Self::UnloadProgram { program } => entry([program as u64, 0, 0, 0]),
            Self::FirmwareDownload {
                src,
                length,
                offset,
            } => entry([length as u64, offset as u64, 0, 0]).from(src),
            Self::FirmwareCommit {
                slot,
                activate,
                length,
            } => entry([slot as u64, activate as u64, length as u64, 0]),
            Self::GetLog {
                dst,
                page,
                offset,
                length,
            } => entry([page.code() as u64, offset as u64, length as u64, 0]).to(dst),
            Self::SetPowerState { state } => entry([state.code() as u64, 0, 0, 0]),
            Self::Abort { queue, command_id } => entry([queue as u64, command_id as u64, 0, 0]),
            Self::AsyncEvent | Self::SelfTest => entry([0; 4]),
        }
    }

    /// The command in a submission entry.
    ///
    /// # Errors
    /// The status that the chip completes the entry with: [`Status::InvalidOpcode`], or
    /// [`Status::InvalidField`] when a field is out of range or should be 0.
    pub fn decode(e: &Submission) -> Result<Self, Status> {
        let opcode = AdminOpcode::parse(e.opcode).map_err(|_| Status::InvalidOpcode)?;
        let [a, b, c, _] = e.args;
        let command = match opcode {
            AdminOpcode::Identify => Self::Identify { dst: e.dst()? },
            AdminOpcode::CreateContext => Self::CreateContext {
                windows: e.src()?,
                count: narrow(a)?,
                memory: b,
            },
            AdminOpcode::DeleteContext => Self::DeleteContext {
                context: narrow(a)?,
            },
            AdminOpcode::CreateQueue => Self::CreateQueue {
                submissions: e.src()?,
                completions: e.dst()?,
                park: e.aux()?,
                shape: QueueShape::from_bits(a),
                context: narrow(b)?,
                coalescing: Coalescing::from_bits(c),
            },
            AdminOpcode::DeleteQueue => Self::DeleteQueue { queue: narrow(a)? },
            AdminOpcode::SetCoalescing => Self::SetCoalescing {
                queue: narrow(a)?,
                coalescing: Coalescing::from_bits(b),
            },
            AdminOpcode::AllocMemory => Self::AllocMemory {
                length: a,
                align: b,
                context: narrow(c)?,
            },
            AdminOpcode::FreeMemory => Self::FreeMemory { address: a },
            AdminOpcode::LoadProgram => Self::LoadProgram {
                image: e.src()?,
                length: narrow(a)?,
                context: narrow(b)?,
            },
            AdminOpcode::UnloadProgram => Self::UnloadProgram {
                program: narrow(a)?,
            },
            AdminOpcode::FirmwareDownload => Self::FirmwareDownload {
                src: e.src()?,
                length: narrow(a)?,
                offset: narrow(b)?,
            },
            AdminOpcode::FirmwareCommit => Self::FirmwareCommit {
                slot: narrow(a)?,
                activate: flag(b)?,
                length: narrow(c)?,
            },
            AdminOpcode::GetLog => Self::GetLog {
                dst: e.dst()?,
                page: LogPage::parse(narrow(a)?).map_err(|_| Status::InvalidField)?,
                offset: narrow(b)?,
                length: narrow(c)?,
            },
            AdminOpcode::SetPowerState => Self::SetPowerState {
                state: PowerState::parse(narrow(a)?).map_err(|_| Status::InvalidField)?,
            },
            AdminOpcode::Abort => Self::Abort {
                queue: narrow(a)?,
                command_id: narrow(b)?,
            },
            AdminOpcode::AsyncEvent => Self::AsyncEvent,
            AdminOpcode::SelfTest => Self::SelfTest,
        };
        e.unused_fields_are_zero(command.encode())?;
        Ok(command)
    }
}

fn narrow<T: TryFrom<u64>>(value: u64) -> Result<T, Status> {
    T::try_from(value).map_err(|_| Status::InvalidField)
}

fn flag(value: u64) -> Result<bool, Status> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Status::InvalidField),
    }
}

/// What IDENTIFY writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Identify {
    /// Layout of this structure: 1.
    pub version: u16,
    /// Bytes that follow from the start of the structure, at least [`Identify::SIZE`].
    pub length: u16,
    /// [`FirmwareVersion`](crate::firmware::FirmwareVersion) that runs; 0 in the loader.
    pub firmware_version: u32,
    /// Serial number, as in the Device Serial Number capability.
    pub serial: u64,
    /// Bytes of device memory that can be allocated.
    pub memory: u64,
    /// Slot that the firmware booted from.
    pub active_slot: u8,
    /// Slot of the next boot.
    pub next_slot: u8,
    /// Firmware slots.
    pub slots: u8,
    /// 0.
    pub reserved0: u8,
    /// Bytes of the staging buffer: the greatest firmware image.
    pub max_image: u32,
    /// Lowest security version that a firmware image may have.
    pub security_version: u32,
    /// 0.
    pub reserved1: u32,
    /// Product name in ASCII, padded with 0.
    pub product: [u8; 32],
    /// Board part number in ASCII, padded with 0.
    pub part_number: [u8; 16],
    /// 0.
    pub reserved2: [u8; 40],
}

fields!(Identify, size = 128, {
    0x00 => version,
    0x02 => length,
    0x04 => firmware_version,
    0x08 => serial,
    0x10 => memory,
    0x18 => active_slot,
    0x19 => next_slot,
    0x1A => slots,
    0x1B => reserved0,
    0x1C => max_image,
    0x20 => security_version,
    0x24 => reserved1,
    0x28 => product,
    0x48 => part_number,
    0x58 => reserved2,
});

impl Identify {
    /// Layout that this crate describes.
    pub const VERSION: u16 = 1;

    /// The structure at the start of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] when it is cut short or of another layout.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (identify, _) = Self::read_from_prefix(bytes).map_err(|_| Malformed {
            what: "bytes of IDENTIFY",
            found: bytes.len() as u64,
            expected: "at least 128",
        })?;
        if identify.version != Self::VERSION {
            return Err(Malformed {
                what: "IDENTIFY.version",
                found: u64::from(identify.version),
                expected: "1",
            });
        }
        if usize::from(identify.length) < Self::SIZE {
            return Err(Malformed {
                what: "IDENTIFY.length",
                found: u64::from(identify.length),
                expected: "at least 128",
            });
        }
        Ok(identify)
    }
}
