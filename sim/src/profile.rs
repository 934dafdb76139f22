//! What one instance of the chip has: the difference between silicon, a prototype and a test's needs.

use std::time::Duration;

use auk_asic::bar0::{CapDma, CapLimits, CapQueues, MAX_DEPTH_LOG2, MAX_IO_QUEUES};
use auk_asic::ident::{Model, VENDOR};
use auk_asic::io::IoOpcode;
use auk_asic::program::Kernel;

/// A PCIe link as LNKCAP and LNKSTA code it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Speed code, 1 (2.5 GT/s) to 6 (64 GT/s); PCI Express Base Specification 6.0, section 7.5.3.6.
    pub speed: u8,
    /// Width in lanes: 1, 2, 4, 8, 16 or 32.
    pub width: u8,
}

impl Link {
    /// Whether both codes are ones that the specification has.
    #[must_use]
    pub fn is_valid(self) -> bool {
        (1..=6).contains(&self.speed) && matches!(self.width, 1 | 2 | 4 | 8 | 16 | 32)
    }
}

/// The timeouts that the chip advertises, in milliseconds, and the clock of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// TIMEOUT_READY.
    pub ready_ms: u32,
    /// TIMEOUT_COMMAND.
    pub command_ms: u32,
    /// TIMEOUT_ABORT.
    pub abort_ms: u32,
    /// TIMEOUT_QUEUE.
    pub queue_ms: u32,
    /// TIMEOUT_RESTART.
    pub restart_ms: u32,
    /// TIMEOUT_FLR.
    pub flr_ms: u32,
    /// How long a boot takes.
    pub boot: Duration,
    /// How long a hung runtime lives until the watchdog stops the chip.
    pub watchdog: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ready_ms: 500,
            command_ms: 10_000,
            abort_ms: 1_000,
            queue_ms: 1_000,
            restart_ms: 2_000,
            flr_ms: 100,
            boot: Duration::from_millis(3),
            watchdog: Duration::from_secs(5),
        }
    }
}

/// What an instance of the chip has.
#[derive(Clone, Debug)]
pub struct ChipProfile {
    /// Silicon or FPGA prototype.
    pub model: Model,
    /// PCI vendor ID, for hosts where [`VENDOR`] belongs to somebody.
    pub vendor: u16,
    /// Serial number.
    pub serial: u64,
    /// Product name, ASCII, 32 bytes at most.
    pub product: String,
    /// Board part number, ASCII, 16 bytes at most.
    pub part_number: String,
    /// Bytes of device memory, a power of two from 64 KiB on.
    pub memory: u64,
    /// I/O queues, 1 to [`MAX_IO_QUEUES`].
    pub io_queues: u8,
    /// Greatest depth of a queue as a power of two, 1 to [`MAX_DEPTH_LOG2`].
    pub max_depth_log2: u8,
    /// Width of a DMA address in bits, 32 to 64.
    pub address_bits: u8,
    /// The chip sleeps when idle and says so in park words.
    pub parking: bool,
    /// Contexts beside context 0.
    pub contexts: u8,
    /// Programs over all contexts.
    pub programs: u8,
    /// Greatest copy or fill in bytes as a power of two, 12 to 40.
    pub max_transfer_log2: u8,
    /// Kernels that the chip has.
    pub kernels: Vec<Kernel>,
    /// What the slot allows; the link starts there.
    pub link: Link,
    /// Lowest security version of firmware.
    pub security_version: u32,
    /// The advertised timeouts and the chip's own times.
    pub timing: Timing,
    /// How long the idle engine looks for work before it sleeps. Wasted where the client has no
    /// other processor, so the default there is much shorter.
    pub spin: Duration,
}

impl ChipProfile {
    /// The A1 in silicon, with as much memory as a test needs.
    #[must_use]
    pub fn silicon(serial: u64) -> Self {
        Self {
            model: Model::Silicon,
            vendor: VENDOR,
            serial,
            product: "Auk A1 (simulated)".to_owned(),
            part_number: "A1-SIM".to_owned(),
            memory: 1 << 30,
            io_queues: MAX_IO_QUEUES as u8,
            max_depth_log2: MAX_DEPTH_LOG2,
            address_bits: 57,
            parking: true,
            contexts: 64,
            programs: 255,
            max_transfer_log2: 32,
            kernels: Kernel::ALL.to_vec(),
            link: Link { speed: 5, width: 8 },
            security_version: 1,
            timing: Timing::default(),
            spin: default_spin(),
        }
    }

    /// The A1 as an FPGA prototype: two queues, a 40-bit DMA address, a slow link, no float kernels.
    #[must_use]
    pub fn fpga(serial: u64) -> Self {
        Self {
            model: Model::Fpga,
            product: "Auk A1 FPGA (simulated)".to_owned(),
            part_number: "A1-FPGA-SIM".to_owned(),
            memory: 256 << 20,
            io_queues: 2,
            max_depth_log2: 8,
            address_bits: 40,
            contexts: 4,
            programs: 16,
            max_transfer_log2: 24,
            kernels: vec![Kernel::GemmInt8, Kernel::Checksum],
            link: Link { speed: 3, width: 8 },
            ..Self::silicon(serial)
        }
    }

    /// # Errors
    /// [`ProfileError`] with the first field that the programming model has no room for.
    pub(crate) fn check(&self) -> Result<(), ProfileError> {
        let wrong = |field, found: u64, expected| {
            Err(ProfileError {
                field,
                found,
                expected,
            })
        };
        if !self.memory.is_power_of_two() || self.memory < 64 << 10 || self.memory > 1 << 40 {
            return wrong("memory", self.memory, "a power of two from 64 KiB to 1 TiB");
        }
        if self.io_queues == 0 || u16::from(self.io_queues) > MAX_IO_QUEUES {
            return wrong("io_queues", u64::from(self.io_queues), "1 to 32");
        }
        if self.max_depth_log2 == 0 || self.max_depth_log2 > MAX_DEPTH_LOG2 {
            return wrong("max_depth_log2", u64::from(self.max_depth_log2), "1 to 12");
        }
        if self.address_bits < 32 || self.address_bits > 64 {
            return wrong("address_bits", u64::from(self.address_bits), "32 to 64");
        }
        if self.max_transfer_log2 < 12 || self.max_transfer_log2 > 40 {
            return wrong(
                "max_transfer_log2",
                u64::from(self.max_transfer_log2),
                "12 to 40",
            );
        }
        if !self.link.is_valid() {
            return wrong(
                "link",
                u64::from(self.link.width) << 8 | u64::from(self.link.speed),
                "a speed code of 1 to 6 and a width of 1 to 32 lanes",
            );
        }
        if !self.product.is_ascii() || self.product.len() > 32 {
            return wrong(
                "product",
                self.product.len() as u64,
                "at most 32 ASCII bytes",
            );
        }
        if !self.part_number.is_ascii() || self.part_number.len() > 16 {
            return wrong(
                "part_number",
                self.part_number.len() as u64,
                "at most 16 ASCII bytes",
            );
        }
        Ok(())
    }

    pub(crate) fn cap_queues(&self) -> CapQueues {
        CapQueues::new()
            .with_io_queues(self.io_queues)
            .with_max_depth_log2(self.max_depth_log2)
            .with_submission_log2(6)
            .with_completion_log2(4)
            .with_doorbell_stride_log2(12)
    }

    pub(crate) fn cap_dma(&self) -> CapDma {
        CapDma::new()
            .with_address_bits(self.address_bits)
            .with_parking(self.parking)
    }

    pub(crate) fn cap_limits(&self) -> CapLimits {
        CapLimits::new()
            .with_contexts(self.contexts)
            .with_programs(self.programs)
            .with_max_transfer_log2(self.max_transfer_log2)
    }

    pub(crate) fn cap_ops(&self) -> u32 {
        IoOpcode::ALL
            .iter()
            .fold(0, |bits, op| bits | 1 << op.code())
    }

    pub(crate) fn cap_kernels(&self) -> u32 {
        self.kernels
            .iter()
            .fold(0, |bits, kernel| bits | 1 << kernel.code())
    }
}

/// A profile that the programming model has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chip profile: {field} is {found:#x}, expected {expected}")]
pub struct ProfileError {
    /// Which field.
    pub field: &'static str,
    /// What it held.
    pub found: u64,
    /// What the model allows.
    pub expected: &'static str,
}

fn default_spin() -> Duration {
    match std::thread::available_parallelism() {
        Ok(cpus) if cpus.get() > 1 => Duration::from_micros(100),
        _ => Duration::from_micros(5),
    }
}
