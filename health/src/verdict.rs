//! Verdicts: what is sick, why it is said, since when, and what to do.

use serde::{Deserialize, Serialize};

use crate::operator::Mode;

/// The four states. The order is the order of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// Seen to be well.
    Healthy,
    /// Not seen: no data yet, too late, no permission, nonsense. Neither well nor ill.
    Unobservable,
    /// Works, with less than it should have.
    Degraded,
    /// Must not be given work.
    Unhealthy,
}

impl HealthState {
    /// Every state.
    pub const ALL: [Self; 4] = [
        Self::Healthy,
        Self::Unobservable,
        Self::Degraded,
        Self::Unhealthy,
    ];

    /// The name in metrics and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unobservable => "unobservable",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl std::fmt::Display for HealthState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// May a new job start here?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admit {
    /// Yes.
    Yes,
    /// No: a verdict stands against it.
    No,
    /// Not now: it is not known, or it is about to be.
    Hold,
}

impl Admit {
    /// Every answer.
    pub const ALL: [Self; 3] = [Self::Yes, Self::No, Self::Hold];

    /// The name in metrics and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Hold => "hold",
        }
    }
}

impl std::fmt::Display for Admit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The answer to a scheduler, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The answer.
    pub answer: Admit,
    /// Why.
    pub reason: String,
}

/// What somebody should do. The agent itself does none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing.
    None,
    /// Keep an eye on it.
    Watch,
    /// Reset the component, restart its firmware and run its self-test.
    Reset,
    /// Take the jobs off it.
    Drain,
    /// Restart the host.
    Reboot,
    /// Take it out.
    Replace,
}

impl Action {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Watch => "watch",
            Self::Reset => "reset",
            Self::Drain => "drain",
            Self::Reboot => "reboot",
            Self::Replace => "replace",
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// How sure the verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// A guess that wants a second look.
    Low,
    /// One indirect sign.
    Medium,
    /// The component or the kernel says so itself.
    High,
}

/// What was read, from where, and what it was held against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The counter or field, by the name that its file or specification gives it.
    pub what: String,
    /// What it held: a value, or a change.
    pub found: String,
    /// The limit that it was held against.
    pub limit: String,
    /// The file.
    pub source: String,
    /// Unix time in milliseconds of the reading.
    pub at_unix_ms: u64,
}

impl std::fmt::Display for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} (limit: {}; {})",
            self.what, self.found, self.limit, self.source
        )
    }
}

/// Why a check that was degraded or unhealthy is so no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// What it was.
    pub from: HealthState,
    /// What proves that it is over.
    pub reason: String,
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
}

/// What one check says of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Name of the check.
    pub check: String,
    /// Its state.
    pub state: HealthState,
    /// Unix time in milliseconds since which it is in that state.
    pub since_unix_ms: u64,
    /// Why, in a sentence.
    pub reason: String,
    /// What the reason rests on.
    pub evidence: Vec<Evidence>,
    /// What to do.
    pub action: Action,
    /// How sure it is.
    pub confidence: Confidence,
    /// False for a check that has no say at the moment (a port that was never up, a sleeping
    /// chip's heartbeat): it is shown as unobservable and leaves the component's state alone.
    pub counts: bool,
    /// Set when the state stands from an earlier reading and the present one failed.
    pub stale: Option<String>,
    /// The last recovery, if there was one.
    pub recovered: Option<Recovery>,
    /// Whether the check has a say. In shadow mode the state is what it would be.
    #[serde(default)]
    pub mode: Mode,
    /// Address of the port above that explains this, if one does.
    #[serde(default)]
    pub blamed_on: Option<String>,
}

/// A change of state, of a check or of a whole component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// Address of the component.
    pub component: String,
    /// Its serial number.
    pub serial: Option<String>,
    /// The check; `None` when it is the component as a whole.
    pub check: Option<String>,
    /// State before; `None` at first sight.
    pub from: Option<HealthState>,
    /// State after.
    pub to: HealthState,
    /// Why.
    pub reason: String,
    /// What the reason rests on.
    pub evidence: Vec<Evidence>,
    /// Of a check in shadow mode: for the record, and nobody is to be woken.
    #[serde(default)]
    pub shadow: bool,
    /// Address of the port above that explains it, if one does.
    #[serde(default)]
    pub blamed_on: Option<String>,
}
