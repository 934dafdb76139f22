//! Errors of devices and queues; those of the parts below have their own types and come as sources.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auk_asic::{Fault, Malformed, State, Status};

use crate::bus::BusError;
use crate::device::Holder;
use crate::dma::DmaError;
use crate::pci::{Bdf, ConfigError, PciError};
use crate::ring::Full;

/// What can go wrong with a device or a queue. Each variant says what the caller can do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Discovery failed; see the source.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// Memory for DMA failed; see the source.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// Another process, or another part of this one, has the chip open. Wait for it, or ask it to let go.
    #[error("{bdf}: in use by {holder}")]
    Busy {
        /// The function.
        bdf: Bdf,
        /// Who has it.
        holder: Holder,
    },
    /// The lock file that says who has the chip cannot be used. Look at its directory's permissions.
    #[error("the lease file {}: {source}", path.display())]
    Lease {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The function is no A1. Check the address.
    #[error(
        "{device}: vendor {vendor:#06x}, device {id:#06x} is not an A1 (0x1ae5, 0xa100 or 0xa1f0)"
    )]
    NotAnA1 {
        /// What was opened.
        device: Arc<str>,
        /// Vendor ID found.
        vendor: u16,
        /// Device ID found.
        id: u16,
    },
    /// The chip says what the programming model does not allow. Update driver or firmware; else the chip is broken.
    #[error("{device}: {source}")]
    Malformed {
        /// The device.
        device: Arc<str>,
        /// What was found and expected.
        source: Malformed,
    },
    /// Config space cannot be read or made sense of.
    #[error("{device}: {source}")]
    Config {
        /// The device.
        device: Arc<str>,
        /// What was wrong.
        source: ConfigError,
    },
    /// The bus failed in a way that is not a lost connection.
    #[error("{device}: {what}: {source}")]
    Bus {
        /// The device.
        device: Arc<str>,
        /// What was being done.
        what: &'static str,
        /// What the bus said.
        source: BusError,
    },
    /// The connection to the chip is gone: the simulator ended or broke the protocol. Open the chip again when it is back.
    #[error("{device}: disconnected: {source}")]
    Disconnected {
        /// The device.
        device: Arc<str>,
        /// What the bus said.
        source: BusError,
    },
    /// The chip does not answer any more: all registers read ones. Rescan the bus, or look at the slot.
    #[error("{device}: gone: the identity register reads {found:#010x}")]
    Gone {
        /// The device.
        device: Arc<str>,
        /// What the identity register held.
        found: u32,
    },
    /// A mapped doorbell was gone when it was rung: the function was removed, or sent to D3, or its memory decoding was
    /// switched off under this process. Commands since then never reached the chip. Reset the device, or open it again when it is back.
    #[error(
        "{device}: a mapped BAR was gone when it was accessed (removed, in D3, or memory decoding off); \
         reset the device, or open it again when it is back"
    )]
    MappingLost {
        /// The device.
        device: Arc<str>,
    },
    /// The chip stopped on a fault. [`Device::restart_firmware`](crate::Device::restart_firmware) brings it back; queues,
    /// programs and allocations must be made again.
    #[error("{device}: stopped on {}; restart its firmware", fault_name(*fault))]
    Faulted {
        /// The device.
        device: Arc<str>,
        /// Why; `None` when the chip named no fault that this driver knows.
        fault: Option<Fault>,
    },
    /// The deadline passed while the chip was answering registers. The work goes on: wait again, abort it, or, when the
    /// heartbeat has stopped, restart the firmware.
    #[error("{device}: {what} did not end within {} ms; {heartbeat}", waited.as_millis())]
    TimedOut {
        /// The device.
        device: Arc<str>,
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: Duration,
        /// Whether the firmware was alive meanwhile.
        heartbeat: Heartbeat,
    },
    /// The chip refused or failed one command; the queue goes on. The status says why.
    #[error("{device}: {what} ended in {status}")]
    Command {
        /// The device.
        device: Arc<str>,
        /// The command.
        what: &'static str,
        /// How it ended.
        status: Status,
    },
    /// The firmware is in a state that does not serve this. Wait, or load firmware.
    #[error("{device}: {what} needs the firmware to be in another state than {state}")]
    NotReady {
        /// The device.
        device: Arc<str>,
        /// What was asked for.
        what: &'static str,
        /// The state.
        state: State,
    },
    /// The device was reset after this was made. Make it again.
    #[error("{device}: the device was reset, and this {what} with it; make it again")]
    Stale {
        /// The device.
        device: Arc<str>,
        /// What is no more.
        what: &'static str,
    },
    /// A reset is under way in another thread, or the last one failed. Wait, or reset again.
    #[error("{device}: a reset is under way or has failed; reset the device and try again")]
    Resetting {
        /// The device.
        device: Arc<str>,
    },
    /// The chip stopped the queue on an error. Reset it ([`IoQueue::reset`](crate::IoQueue::reset)) or make another; what was in
    /// flight is lost.
    #[error("{device}: queue {queue} stopped on an error; reset it, or make another")]
    QueueStopped {
        /// The device.
        device: Arc<str>,
        /// Its number.
        queue: u16,
    },
    /// The queue was reset while the command ran. Whether the command took effect is not known; submit it again if it may run twice.
    #[error("{device}: queue {queue} was reset while a command ran on it; submit it again")]
    QueueReset {
        /// The device.
        device: Arc<str>,
        /// Its number.
        queue: u16,
    },
    /// The chip has aborted the command, or knows it no more, and no completion has come: it was lost on the way. Nothing but a reset
    /// of the queue ends the command: [`IoQueue::reset`](crate::IoQueue::reset).
    #[error(
        "{device}: a completion of queue {queue} was lost: the chip knows the command no more; reset the queue"
    )]
    CompletionLost {
        /// The device.
        device: Arc<str>,
        /// Its number.
        queue: u16,
    },
    /// No step of the reset ladder that was allowed has brought the chip back. Allow more, or have the host and the slot looked at.
    #[error("{device}: not recovered by {tried}: {source}")]
    NotRecovered {
        /// The device.
        device: Arc<str>,
        /// What was tried, and how long each took.
        tried: String,
        /// What was wrong at the end.
        source: Box<Error>,
    },
    /// The queue has as many commands as it is deep that run, or whose outcome nobody has collected. Poll or wait first.
    #[error(
        "queue {queue} is full: {in_flight} commands in flight, {uncollected} whose outcome was not collected"
    )]
    QueueFull {
        /// Its number.
        queue: u16,
        /// Commands that run.
        in_flight: u32,
        /// Commands that ended, and whose outcome nobody has asked for.
        uncollected: u32,
    },
    /// All queues of the chip are in use. Drop one, in this process or through its context.
    #[error("{device}: all {queues} I/O queues are in use; drop one first")]
    NoQueue {
        /// The device.
        device: Arc<str>,
        /// How many there are.
        queues: u16,
    },
    /// What was given cannot be put into a command. Correct it.
    #[error("{what}: {found}, expected {expected}")]
    Invalid {
        /// Which argument.
        what: &'static str,
        /// What was given.
        found: String,
        /// What can be.
        expected: String,
    },
    /// The ticket is of another queue, or its outcome was already collected.
    #[error("this ticket's outcome was already collected, or it is of another queue")]
    UnknownTicket,
    /// The firmware image is not one. Check the file.
    #[error("the firmware image: {0}")]
    Image(Malformed),
    /// A system call of this process failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Whether the firmware's heartbeat moved during a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heartbeat {
    /// It did: the chip is slow.
    Beats,
    /// It did not, for long enough to tell: the firmware hangs.
    Stopped,
    /// The wait was too short to tell, or there are no vital signs.
    Unknown,
}

impl std::fmt::Display for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Beats => "the firmware is alive",
            Self::Stopped => "the firmware's heartbeat has stopped",
            Self::Unknown => "whether the firmware is alive is not known",
        })
    }
}

fn fault_name(fault: Option<Fault>) -> &'static str {
    fault.map_or("a fault that it does not name", Fault::name)
}

impl Error {
    #[cold]
    pub(crate) fn full(queue: u16, full: Full) -> Self {
        Self::QueueFull {
            queue,
            in_flight: full.in_flight,
            uncollected: full.uncollected,
        }
    }

    /// The error where success makes no room for it; so that the allocation is not on the way of success either.
    #[cold]
    #[inline(never)]
    pub(crate) fn boxed(self) -> Box<Self> {
        Box::new(self)
    }

    #[cold]
    #[inline(never)]
    #[expect(clippy::boxed_local, reason = "what `boxed` gave is taken back")]
    pub(crate) fn unboxed(error: Box<Self>) -> Self {
        *error
    }

    /// Whether the whole device is of no use until it is reset or opened again.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Disconnected { .. }
                | Self::Gone { .. }
                | Self::MappingLost { .. }
                | Self::Faulted { .. }
                | Self::Resetting { .. }
                | Self::NotRecovered { .. }
        ) || matches!(
            self,
            Self::Command {
                status: Status::EccUncorrectable | Status::DeviceFaulted,
                ..
            }
        )
    }
}
