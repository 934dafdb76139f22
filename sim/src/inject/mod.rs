//! Faults that can be put into a simulated host while it runs, and how they get there from another process.
//!
//! A request is one line of JSON on the control socket, `{"verb": "ecc-ue", "target": "0000:01:00.0"}`; the
//! answer is one line as well, `{"ok": true}` or `{"ok": false, "error": "..."}`.

mod catalogue;
mod client;
mod parse;
mod script;
mod trigger;
mod verb;

use serde::{Deserialize, Serialize};

pub use catalogue::{Entry, Form, Occasion, Parameter, Target};
pub use client::{SendError, send};
pub use script::{Script, ScriptError};
pub use trigger::{Opcode, Trigger};
pub use verb::Verb;

/// Where the control socket is, below the root of the host.
pub const CONTROL_SOCKET: &str = "run/auk/sim/control.sock";

/// Longest line that either end reads, in bytes.
pub const MAX_LINE: usize = 4096;

/// How much of what a client sent is repeated to it, in characters.
pub(crate) const MOST_ECHO: usize = 64;

/// A fault, what it is to befall, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Injection {
    /// A chip by its PCI address, or a NIC by its PCI address or its interface.
    pub target: String,
    /// What is to happen.
    #[serde(flatten)]
    pub verb: Verb,
    /// When.
    #[serde(flatten)]
    pub when: Trigger,
}

impl Injection {
    /// At once, or at the next occasion of its kind.
    #[must_use]
    pub fn new(target: impl Into<String>, verb: Verb) -> Self {
        Self {
            target: target.into(),
            verb,
            when: Trigger::default(),
        }
    }

    /// The same, when the trigger says.
    #[must_use]
    pub fn when(self, when: Trigger) -> Self {
        Self { when, ..self }
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
    /// There is no such fault.
    #[error(
        "no fault {found:?}{}; `auk sim faults` lists them",
        suggestion.map(|verb| format!(", did you mean {verb:?}?")).unwrap_or_default()
    )]
    UnknownVerb {
        /// What was asked for.
        found: String,
        /// The fault that it resembles.
        suggestion: Option<&'static str>,
    },
    /// The fault has no such parameter, or not of that type.
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
    /// The host could not do its part.
    #[error("{verb}: the simulated host could not do it: {reason}")]
    Failed {
        /// What was asked for.
        verb: &'static str,
        /// Why.
        reason: String,
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
