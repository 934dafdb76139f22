//! What readers are asked, and what comes of it.

use std::fmt;
use std::sync::Arc;

use crate::facts::{Class, Facts, Identity};
use crate::probe::ProbeError;
use crate::probe::discover::Found;
use crate::probe::target::ConfigAccess;

/// What a job is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The list of the host's devices.
    List,
    /// A component, by the agent's number.
    Look(u64),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("the list of devices"),
            Self::Look(id) => write!(f, "component {id}"),
        }
    }
}

/// Something to read.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// List the host's devices.
    List,
    /// Look at a component.
    Look {
        /// The agent's number for it; never used again for another.
        id: u64,
        /// What to read of it.
        class: Class,
        /// What it is.
        found: Arc<Found>,
    },
}

impl Job {
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::List => Key::List,
            Self::Look { id, .. } => Key::Look(*id),
        }
    }
}

/// What came of a job.
#[derive(Debug)]
pub(crate) enum Done {
    /// The list; `None` when it is as it was the last time.
    Listed(Result<Option<Vec<Found>>, ProbeError>),
    /// A look.
    Looked {
        /// The agent's number for the component.
        id: u64,
        /// Who it is, as far as could be read.
        identity: Identity,
        /// How its config space is read.
        access: ConfigAccess,
        /// Dwords of its config space that were asked for.
        dwords: u32,
        /// What was seen.
        facts: Box<Facts>,
    },
    /// Nobody could do it, or not in time.
    Missed(Job, ProbeError),
}
