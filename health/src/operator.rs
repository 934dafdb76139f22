//! What people order: holds, releases, clears and switches. Each has an author and a reason, and is told as an event.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Moment;

/// The name that stands for all components of a host.
pub const HOST: &str = "host";
/// Longest reason that is kept, in characters.
const MOST_REASON: usize = 500;

/// Who ordered something, by the credentials of the socket's other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The user.
    pub uid: u32,
    /// Its name, where the host knows one.
    pub name: Option<String>,
}

impl std::fmt::Display for Author {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// A component that somebody works on: no new job, whatever its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Address of the component, or [`HOST`].
    pub component: String,
    /// Who holds it.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Moment,
    /// For how long; `None` until it is released.
    pub lasts: Option<Duration>,
}

impl Hold {
    /// Whether its time is over. Measured on the clock that nobody sets.
    #[must_use]
    pub fn is_over(&self, now: Moment) -> bool {
        self.lasts
            .is_some_and(|lasts| now.since(self.since) >= lasts)
    }

    /// Unix time in milliseconds at which it ends, if it does by itself.
    #[must_use]
    pub fn until_unix_ms(&self) -> Option<u64> {
        let lasts = crate::time::millis(self.lasts?);
        Some(self.since.unix_ms.saturating_add(lasts))
    }
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.component.as_str() {
            HOST => "the host is held",
            _ => "held",
        };
        write!(f, "{what} by {}: {}", self.author, self.reason)
    }
}

/// Whether a check has a say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It has.
    #[default]
    On,
    /// It judges and is shown, and bears on nothing: for a rule that is new.
    Shadow,
    /// It does not judge.
    Off,
}

impl Mode {
    /// The name in JSON and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A mode that was ordered at run time; it stands above the configuration's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Name of the check.
    pub check: String,
    /// The mode.
    pub mode: Mode,
    /// Who.
    pub author: Author,
    /// Why.
    pub reason: String,
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// No new job on a component.
    Hold {
        /// Address, serial number or slot of the component, or [`HOST`].
        component: String,
        /// Why.
        reason: String,
        /// For how long; without it until it is released.
        #[serde(default)]
        seconds: Option<u64>,
    },
    /// The end of a hold.
    Release {
        /// As it was held.
        component: String,
        /// Why.
        #[serde(default)]
        reason: Option<String>,
    },
    /// What is held against a component is dropped; what is still seen comes back at the next look.
    Clear {
        /// The component.
        component: String,
        /// One check, or all.
        #[serde(default)]
        check: Option<String>,
        /// Why.
        reason: String,
    },
    /// A check gets another mode, on all components.
    Switch {
        /// Name of the check.
        check: String,
        /// The mode; `None` is what the configuration says.
        mode: Option<Mode>,
        /// Why.
        reason: String,
    },
}

impl Order {
    /// Refuses what nobody could account for later.
    pub(crate) fn checked(self) -> Result<Self, OrderError> {
        let reason = match &self {
            Self::Hold { reason, .. }
            | Self::Clear { reason, .. }
            | Self::Switch { reason, .. } => Some(reason),
            Self::Release { reason, .. } => reason.as_ref(),
        };
        match reason {
            Some(reason) if reason.trim().is_empty() => Err(OrderError::NoReason),
            Some(reason) if reason.chars().count() > MOST_REASON => Err(OrderError::LongReason),
            _ => Ok(self),
        }
    }
}

/// What was done, for the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// Who; `None` for the agent itself, when a hold's time is over.
    pub author: Option<Author>,
    /// The order, with the component's address for whatever name was given.
    pub order: Order,
    /// What came of it, in a sentence.
    pub outcome: String,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// There is no such component.
    #[error(
        "no component {found:?} on this host; it has {}, and {HOST} stands for all",
        if .known.is_empty() { "none".to_owned() } else { .known.join(", ") }
    )]
    UnknownComponent {
        /// What was asked for.
        found: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no such check.
    #[error("no check {found:?}; the checks are {}", .known.join(", "))]
    UnknownCheck {
        /// What was asked for.
        found: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no hold to release.
    #[error("{component} is not held")]
    NotHeld {
        /// The component.
        component: String,
    },
    /// The evidence is against it.
    #[error("{component}: {check} is not cleared: {reason}")]
    Refused {
        /// The component.
        component: String,
        /// The check.
        check: String,
        /// What stands against it, and what would not.
        reason: String,
    },
    /// Nothing is held against it.
    #[error("{component}: nothing to clear, {what}")]
    NothingToClear {
        /// The component.
        component: String,
        /// What was found instead.
        what: String,
    },
    /// No reason was given.
    #[error("the reason is empty; say why, for whoever reads it at night")]
    NoReason,
    /// The reason is a novel.
    #[error("the reason is longer than {MOST_REASON} characters")]
    LongReason,
    /// The time makes no sense.
    #[error("a hold of {seconds} s; expected 1 s to 1 year, or none for one without end")]
    BadTime {
        /// What was asked for.
        seconds: u64,
    },
}
