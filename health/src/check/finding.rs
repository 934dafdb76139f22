//! What a check says of one look.

use serde::{Deserialize, Serialize};

use crate::verdict::{Action, Confidence, Evidence, HealthState};

/// A state with its reason. [`Engine`](crate::Engine) makes verdicts of findings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The state.
    pub state: HealthState,
    /// Why, in a sentence.
    pub reason: String,
    /// What the reason rests on.
    pub evidence: Vec<Evidence>,
    /// What to do.
    pub action: Action,
    /// How sure it is.
    pub confidence: Confidence,
    /// Whether it bears on the component's state.
    pub counts: bool,
    /// Whether no job should start until it has passed, whatever the state.
    pub hold: bool,
    /// Address of the port above that explains it.
    #[serde(default)]
    pub blamed_on: Option<String>,
}

impl Finding {
    fn new(state: HealthState, reason: impl Into<String>, action: Action) -> Self {
        Self {
            state,
            reason: reason.into(),
            evidence: Vec::new(),
            action,
            confidence: Confidence::High,
            counts: true,
            hold: false,
            blamed_on: None,
        }
    }

    /// Seen to be well.
    #[must_use]
    pub fn healthy(reason: impl Into<String>) -> Self {
        Self::new(HealthState::Healthy, reason, Action::None)
    }

    /// Works with less than it should have.
    #[must_use]
    pub fn degraded(reason: impl Into<String>, action: Action) -> Self {
        Self::new(HealthState::Degraded, reason, action)
    }

    /// Must not be given work.
    #[must_use]
    pub fn unhealthy(reason: impl Into<String>, action: Action) -> Self {
        Self::new(HealthState::Unhealthy, reason, action)
    }

    /// Should have been seen, and was not.
    #[must_use]
    pub fn blind(reason: impl Into<String>) -> Self {
        let finding = Self::new(HealthState::Unobservable, reason, Action::None);
        Self {
            confidence: Confidence::Low,
            ..finding
        }
    }

    /// Seen, and too early to judge; no job should start until it is.
    #[must_use]
    pub fn pending(reason: impl Into<String>) -> Self {
        Self {
            hold: true,
            ..Self::blind(reason)
        }
    }

    /// There is nothing to see here at the moment, and that is no fault.
    #[must_use]
    pub fn not_applicable(reason: impl Into<String>) -> Self {
        Self {
            counts: false,
            ..Self::blind(reason)
        }
    }

    /// With a piece of evidence more.
    #[must_use]
    pub fn with(mut self, evidence: Evidence) -> Self {
        self.evidence.push(evidence);
        self
    }

    /// With another confidence.
    #[must_use]
    pub fn sure(self, confidence: Confidence) -> Self {
        Self { confidence, ..self }
    }
}
