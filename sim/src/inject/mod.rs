//! Faults that can be put into a simulated host while it runs, and how they get there from another process.
//!
//! A request is one line of JSON on the control socket, `{"verb": "ecc-ue", "target": "0000:01:00.0"}`; the
//! answer is one line as well, `{"ok": true}` or `{"ok": false, "error": "..."}`.

mod client;

use serde::{Deserialize, Serialize};

pub use client::{SendError, send};

/// Where the control socket is, below the root of the host.
pub const CONTROL_SOCKET: &str = "run/auk/sim/control.sock";

/// Longest line that either end reads, in bytes.
pub const MAX_LINE: usize = 4096;

/// A fault, and what it is to befall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injection {
    /// A chip by its PCI address, or a NIC by its PCI address or its interface.
    pub target: String,
    /// What is to happen.
    #[serde(flatten)]
    pub verb: Verb,
}

/// What can be made to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Verb {
    /// Correctable memory errors of a chip.
    EccCe {
        /// How many.
        #[serde(default = "one")]
        count: u32,
    },
    /// An uncorrectable memory error of a chip: it stops, and what runs ends in an error.
    EccUe,
    /// A chip's firmware hangs: heartbeat and queues stop.
    FirmwareHang,
    /// A chip's link trains to this width.
    LinkWidth {
        /// Lanes: 1, 2, 4 or 8; the slot's width heals it.
        lanes: u8,
    },
    /// A NIC loses its carrier and gets it back.
    CarrierFlap {
        /// How often.
        #[serde(default = "one")]
        count: u32,
        /// For how many milliseconds each time, and as long between two.
        #[serde(default = "half_a_second")]
        down_ms: u64,
    },
}

const fn one() -> u32 {
    1
}

const fn half_a_second() -> u64 {
    500
}

impl Verb {
    /// The verb as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EccCe { .. } => "ecc-ce",
            Self::EccUe => "ecc-ue",
            Self::FirmwareHang => "firmware-hang",
            Self::LinkWidth { .. } => "link-width",
            Self::CarrierFlap { .. } => "carrier-flap",
        }
    }
}

/// Why a fault did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// There is no such device.
    #[error("no device {target:?} on this host; it has {}", known.join(", "))]
    UnknownTarget {
        /// What was asked for.
        target: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The device is of the other kind.
    #[error("{verb} is for {expected}, and {target} is {found}")]
    WrongKind {
        /// What was asked for.
        verb: &'static str,
        /// What it is for.
        expected: &'static str,
        /// The device.
        target: String,
        /// What it is.
        found: &'static str,
    },
    /// A number is out of its range.
    #[error("{verb}: {reason}")]
    OutOfRange {
        /// What was asked for.
        verb: &'static str,
        /// Which number, and what is allowed.
        reason: String,
    },
}

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}
