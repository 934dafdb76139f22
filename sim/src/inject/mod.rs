//! Faults that can be put into a simulated host while it runs, and how they get there from another process.
//!
//! A request is one line of JSON on the control socket, `{"verb": "ecc-ue", "target": "0000:01:00.0"}`; the
//! answer is one line as well, `{"ok": true}` or `{"ok": false, "error": "..."}`.

mod client;
mod parse;

use serde::{Deserialize, Serialize};

pub use client::{SendError, send};

/// Where the control socket is, below the root of the host.
pub const CONTROL_SOCKET: &str = "run/auk/sim/control.sock";

/// Longest line that either end reads, in bytes.
pub const MAX_LINE: usize = 4096;

/// How much of what a client sent is repeated to it, in characters.
pub(crate) const MOST_ECHO: usize = 64;

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
    /// The link of a chip or a NIC trains to this width.
    LinkWidth {
        /// Lanes: 1, 2, 4 and so on up to what the slot has, which heals it.
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
    /// A NIC's port negotiates another speed.
    PortSpeed {
        /// Mb/s; 400000 heals it.
        mbit: u32,
    },
    /// Frames come in damaged at a NIC.
    PortErrors {
        /// How many.
        #[serde(default = "one")]
        count: u32,
    },
    /// A NIC drops packets.
    PortDrops {
        /// How many.
        #[serde(default = "one")]
        count: u32,
    },
    /// A NIC's RDMA port goes down though the carrier is there.
    RdmaPort {
        /// Whether it follows the carrier again instead.
        #[serde(default)]
        up: bool,
    },
    /// A NIC's driver is loaded anew: what it counted begins at zero.
    DriverReload,
}

const fn one() -> u32 {
    1
}

const fn half_a_second() -> u64 {
    500
}

impl Verb {
    /// All verbs as they are written.
    pub const NAMES: &'static [&'static str] = &[
        "ecc-ce",
        "ecc-ue",
        "firmware-hang",
        "link-width",
        "carrier-flap",
        "port-speed",
        "port-errors",
        "port-drops",
        "rdma-port",
        "driver-reload",
    ];

    /// The verbs that have parameters, with their names.
    const PARAMETERS: &'static [(&'static str, &'static [&'static str])] = &[
        ("ecc-ce", &["count"]),
        ("link-width", &["lanes"]),
        ("carrier-flap", &["count", "down_ms"]),
        ("port-speed", &["mbit"]),
        ("port-errors", &["count"]),
        ("port-drops", &["count"]),
        ("rdma-port", &["up"]),
    ];

    /// The verb as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EccCe { .. } => "ecc-ce",
            Self::EccUe => "ecc-ue",
            Self::FirmwareHang => "firmware-hang",
            Self::LinkWidth { .. } => "link-width",
            Self::CarrierFlap { .. } => "carrier-flap",
            Self::PortSpeed { .. } => "port-speed",
            Self::PortErrors { .. } => "port-errors",
            Self::PortDrops { .. } => "port-drops",
            Self::RdmaPort { .. } => "rdma-port",
            Self::DriverReload => "driver-reload",
        }
    }
}

/// Why a fault did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// The line is no request.
    #[error(
        "a request is one line with a JSON object such as \
         {{\"verb\": \"ecc-ue\", \"target\": \"0000:01:00.0\"}}, and this is none: {reason}"
    )]
    NotARequest {
        /// What is wrong with it.
        reason: String,
    },
    /// The line is longer than a request can be.
    #[error("a request is one line of at most {MAX_LINE} bytes")]
    TooLong,
    /// There is no such verb.
    #[error(
        "no verb {found:?}{}; the verbs are {}",
        suggestion.map(|verb| format!(", did you mean {verb:?}?")).unwrap_or_default(),
        Verb::NAMES.join(", ")
    )]
    UnknownVerb {
        /// What was asked for.
        found: String,
        /// The verb that it resembles.
        suggestion: Option<&'static str>,
    },
    /// The verb has no such parameter, or not of that type.
    #[error("{verb}: {reason}")]
    BadParameter {
        /// What was asked for.
        verb: String,
        /// Which parameter, and what is wrong with it.
        reason: String,
    },
    /// The host serves as many clients as it takes.
    #[error("the simulated host has {most} clients already; try again later")]
    TooManyClients {
        /// How many it takes.
        most: usize,
    },
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
