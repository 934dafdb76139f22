//! Strict mode: what hardware would only call undefined is written down, for tests to look at.

use std::fmt;

/// Something that a driver must not do, and whose effect on silicon is undefined.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// An access to the register page that is not four aligned bytes.
    RegisterAccess {
        /// Offset in BAR0.
        offset: u64,
        /// Bytes.
        length: usize,
        /// It was a write.
        write: bool,
    },
    /// An access where BAR0 has no register.
    NoRegister {
        /// Offset in BAR0.
        offset: u64,
        /// It was a write.
        write: bool,
    },
    /// A write to a read-only register.
    ReadOnlyRegister {
        /// The register's name.
        name: &'static str,
        /// What was written.
        value: u32,
    },
    /// A doorbell more than the depth ahead of what has completed.
    DoorbellBeyondRing {
        /// The queue.
        queue: u16,
        /// SQ_TAIL.
        tail: u32,
        /// Completions posted.
        completed: u32,
        /// The ring's entries.
        depth: u32,
    },
    /// A KICK for a queue that does not exist.
    KickOfNoQueue {
        /// What was written.
        queue: u32,
    },
    /// A ring or park word that is not, or no longer, mapped.
    RingNotMapped {
        /// The queue.
        queue: u16,
    },
    /// An operand outside the mapped ranges.
    DmaNotMapped {
        /// The queue.
        queue: u16,
        /// The command.
        command_id: u16,
    },
    /// A BAR accessed while COMMAND.memory is clear or the function is in D3hot.
    BarDisabled {
        /// Which BAR.
        bar: u32,
        /// Offset in it.
        offset: u64,
    },
    /// A config write of a length other than 1, 2 or 4, or not aligned to it.
    ConfigAccess {
        /// Offset in config space.
        offset: u64,
        /// Bytes.
        length: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RegisterAccess {
                offset,
                length,
                write,
            } => write!(
                f,
                "{} of {length} bytes at {offset:#x} of BAR0, expected 4 aligned bytes",
                verb(write)
            ),
            Self::NoRegister { offset, write } => write!(
                f,
                "{} at {offset:#x} of BAR0, where there is no register",
                verb(write)
            ),
            Self::ReadOnlyRegister { name, value } => {
                write!(f, "write of {value:#x} to the read-only register {name}")
            }
            Self::DoorbellBeyondRing {
                queue,
                tail,
                completed,
                depth,
            } => write!(
                f,
                "queue {queue}: doorbell {tail} is more than the depth of {depth} ahead of \
                 {completed} completions"
            ),
            Self::KickOfNoQueue { queue } => {
                write!(f, "KICK of queue {queue}, which does not exist")
            }
            Self::RingNotMapped { queue } => {
                write!(f, "queue {queue}: its rings or park word are not mapped")
            }
            Self::DmaNotMapped { queue, command_id } => write!(
                f,
                "queue {queue}: command {command_id} has an operand outside the mapped ranges"
            ),
            Self::BarDisabled { bar, offset } => write!(
                f,
                "access at {offset:#x} of BAR{bar} while memory space is disabled or in D3hot"
            ),
            Self::ConfigAccess { offset, length } => write!(
                f,
                "write of {length} bytes at {offset:#x} of config space, expected 1, 2 or 4 \
                 aligned bytes"
            ),
        }
    }
}

fn verb(write: bool) -> &'static str {
    if write { "write" } else { "read" }
}

/// The first violations; a driver that loops on one must not eat the host's memory.
const KEPT: usize = 256;

/// The violations so far.
#[derive(Debug, Default)]
pub(crate) struct Strict {
    violations: Vec<Violation>,
}

impl Strict {
    pub(crate) fn record(&mut self, violation: Violation) {
        tracing::warn!(%violation, "strict mode");
        if self.violations.len() < KEPT {
            self.violations.push(violation);
        }
    }

    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }
}
