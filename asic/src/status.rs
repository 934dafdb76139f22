//! Completion status codes.

codes! {
    /// How a command ended.
    pub enum Status: u16 {
        /// It did what was asked.
        Success = 0,
        /// No such opcode, or not on this queue.
        InvalidOpcode = 1,
        /// A field is out of its range, or a field that the command does not use is not 0.
        InvalidField = 2,
        /// No such queue, or it exists already.
        InvalidQueue = 3,
        /// No such context.
        InvalidContext = 4,
        /// No such program, or its image is malformed.
        InvalidProgram = 5,
        /// An address or a length is not aligned as the command needs.
        Misaligned = 6,
        /// A device-memory address is outside the memory or the allocation.
        OutOfRange = 7,
        /// An address is outside what the queue's context may touch.
        AccessDenied = 8,
        /// An IOVA is not mapped, or not for this direction.
        DmaFault = 9,
        /// Not enough device memory.
        OutOfMemory = 10,
        /// No more contexts, programs or outstanding events.
        OutOfResources = 11,
        /// Ended by ABORT.
        Aborted = 12,
        /// WAIT saw no value in its time.
        TimedOut = 13,
        /// The command met an uncorrectable memory error; its output is not valid.
        EccUncorrectable = 14,
        /// The firmware is not in a state that serves this command.
        NotReady = 15,
        /// The firmware image is cut short, or its header is wrong.
        ImageMalformed = 16,
        /// The firmware image's signature does not verify.
        ImageSignature = 17,
        /// The firmware image's security version is below the fused one.
        ImageTooOld = 18,
        /// An embedding index or offset is outside its table.
        IndexOutOfRange = 19,
        /// Allowed by the model, but not offered by this chip's capabilities.
        Unsupported = 20,
        /// The object is in use: a context with queues, memory under a running command.
        Busy = 21,
        /// The chip stopped before the command could run.
        DeviceFaulted = 22,
    }
}

/// What is broken after a status other than success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This command alone; the queue goes on.
    Command,
    /// The whole chip: it needs a restart of its firmware.
    Device,
}

impl Status {
    /// What is broken: `None` after success.
    ///
    /// A queue that stops posts no completion for it: STATUS.queue_stopped and an event say so.
    #[must_use]
    pub const fn scope(self) -> Option<Scope> {
        match self {
            Self::Success => None,
            Self::EccUncorrectable | Self::DeviceFaulted => Some(Scope::Device),
            _ => Some(Scope::Command),
        }
    }
}
