//! What an instance of the chip has, read once and checked.

use std::time::Duration;

use auk_asic::Malformed;
use auk_asic::bar0::{self, CapDma, CapLimits, CapQueues};
use auk_asic::ident::{self, Model};
use auk_asic::io::IoOpcode;
use auk_asic::program::Kernel;
use auk_asic::register::Register;

/// How long the chip says that things may take, within what the caller is willing to believe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From enabling the admin queue to being ready, and back.
    pub ready: Duration,
    /// Any one command.
    pub command: Duration,
    /// An abort.
    pub abort: Duration,
    /// The deletion of a queue.
    pub queue: Duration,
    /// A restart of the firmware.
    pub restart: Duration,
    /// A function-level reset.
    pub flr: Duration,
}

/// The capability registers of BAR0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    model: Model,
    version: u32,
    serial: u64,
    queues: CapQueues,
    dma: CapDma,
    limits: CapLimits,
    memory: u64,
    ops: u32,
    kernels: u32,
    timeouts: Timeouts,
}

impl Capabilities {
    /// Reads and checks all of them; `longest` bounds the timeouts.
    pub(super) fn read<E>(
        read: impl Fn(Register) -> Result<u32, E>,
        wrong: impl Fn(Malformed) -> E,
        longest: Duration,
    ) -> Result<Self, E> {
        let wide = |low, high| Ok(u64::from(read(high)?) << 32 | u64::from(read(low)?));
        let time = |register| {
            // A chip that says 0 would have every wait end before it began.
            Ok(Duration::from_millis(u64::from(read(register)?.max(1))).min(longest))
        };
        let identity = read(bar0::IDENT)?;
        let version = read(bar0::VERSION)?;
        ident::check_version(version).map_err(&wrong)?;
        let memory = wide(bar0::CAP_MEMORY_LO, bar0::CAP_MEMORY_HI)?;
        if memory == 0 || memory > 1 << 48 {
            return Err(wrong(Malformed {
                what: "CAP_MEMORY",
                found: memory,
                expected: "1 byte to 256 TiB of device memory",
            }));
        }
        Ok(Self {
            model: Model::parse((identity >> 16) as u16).map_err(&wrong)?,
            version,
            serial: wide(bar0::SERIAL_LO, bar0::SERIAL_HI)?,
            queues: CapQueues::parse(read(bar0::CAP_QUEUES)?).map_err(&wrong)?,
            dma: CapDma::parse(read(bar0::CAP_DMA)?).map_err(&wrong)?,
            limits: CapLimits::parse(read(bar0::CAP_LIMITS)?).map_err(&wrong)?,
            memory,
            ops: read(bar0::CAP_OPS)?,
            kernels: read(bar0::CAP_KERNELS)?,
            timeouts: Timeouts {
                ready: time(bar0::TIMEOUT_READY)?,
                command: time(bar0::TIMEOUT_COMMAND)?,
                abort: time(bar0::TIMEOUT_ABORT)?,
                queue: time(bar0::TIMEOUT_QUEUE)?,
                restart: time(bar0::TIMEOUT_RESTART)?,
                flr: time(bar0::TIMEOUT_FLR)?,
            },
        })
    }

    /// Silicon or FPGA prototype.
    #[must_use]
    pub const fn model(&self) -> Model {
        self.model
    }

    /// Version of the programming model: major in bits 31:16, minor in 15:0.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Serial number.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// I/O queues.
    #[must_use]
    pub const fn io_queues(&self) -> u16 {
        self.queues.io_queues() as u16
    }

    /// Greatest depth of a queue.
    #[must_use]
    pub const fn max_depth(&self) -> u32 {
        1 << self.queues.max_depth_log2()
    }

    /// Width of a DMA address in bits.
    #[must_use]
    pub const fn address_bits(&self) -> u8 {
        self.dma.address_bits()
    }

    /// Greatest IOVA that the chip can put on the bus.
    #[must_use]
    pub const fn last_address(&self) -> u64 {
        self.dma.last_address()
    }

    /// Whether the chip sleeps and must be woken (simulators do).
    #[must_use]
    pub const fn parking(&self) -> bool {
        self.dma.parking()
    }

    /// Whether commands can name the memory of other chips.
    #[must_use]
    pub const fn peer(&self) -> bool {
        self.dma.peer()
    }

    /// Bytes of device memory.
    #[must_use]
    pub const fn memory(&self) -> u64 {
        self.memory
    }

    /// Greatest length of one copy or fill in bytes.
    #[must_use]
    pub const fn max_transfer(&self) -> u64 {
        self.limits.max_transfer()
    }

    /// Contexts beside the owner's.
    #[must_use]
    pub const fn contexts(&self) -> u8 {
        self.limits.contexts()
    }

    /// Programs that can be loaded at a time.
    #[must_use]
    pub const fn programs(&self) -> u8 {
        self.limits.programs()
    }

    /// Whether the chip knows an opcode.
    #[must_use]
    #[inline]
    pub const fn has_opcode(&self, opcode: IoOpcode) -> bool {
        self.ops & 1 << opcode.code() != 0
    }

    /// Whether the chip has a kernel.
    #[must_use]
    pub const fn has_kernel(&self, kernel: Kernel) -> bool {
        self.kernels & 1 << kernel.code() != 0
    }

    /// How long things may take.
    #[must_use]
    pub const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}
