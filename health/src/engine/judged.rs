//! What one rule says of one component: its last finding, made to stand and made into a verdict.

use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::operator::Mode;
use crate::time::Moment;
use crate::verdict::{HealthState, Recovery, Verdict};

/// A change of state.
pub(super) type Change = (HealthState, HealthState);

/// The last finding of a rule, and what is remembered of those before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Judged {
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) finding: Finding,
    since: Moment,
    /// Since when it has not been seen; `None` while it is.
    pub(super) unseen: Option<Moment>,
    /// Whether it has ever been seen.
    pub(super) ever_seen: bool,
    stale: Option<String>,
    pub(super) recovered: Option<Recovery>,
}

impl Judged {
    /// A rule that has not seen anything yet.
    pub(super) fn new(name: &str, at: Moment) -> Self {
        Self::beginning(name, at, Finding::blind("no data yet"))
    }

    /// A rule that has not seen anything yet, and what it says until then.
    pub(super) fn beginning(name: &str, at: Moment, finding: Finding) -> Self {
        Self {
            name: name.to_owned(),
            mode: Mode::On,
            since: at,
            unseen: finding.counts.then_some(at),
            ever_seen: !finding.counts,
            finding,
            stale: None,
            recovered: None,
        }
    }

    /// Whether it bears on the component's state.
    pub(super) fn counts(&self) -> bool {
        self.mode == Mode::On && self.finding.counts
    }

    /// Takes a finding; the change of state, if there is one.
    pub(super) fn take(&mut self, now: Moment, finding: Finding) -> Option<Change> {
        let from = self.finding.state;
        let blind = finding.counts && finding.state == HealthState::Unobservable;
        if blind {
            self.unseen.get_or_insert(now);
        } else {
            // That there is nothing to see was seen.
            self.unseen = None;
            self.ever_seen = true;
        }
        // Trouble that was seen stands until something better is; not seeing is nothing better.
        if blind && from >= HealthState::Degraded {
            self.finding.hold |= finding.hold;
            self.stale = Some(finding.reason);
            return None;
        }
        self.put(now, finding)
    }

    /// Drops what it held against the component, by somebody's word.
    pub(super) fn drop_finding(&mut self, now: Moment, finding: Finding) -> Option<Change> {
        let from = self.finding.state;
        let reason = finding.reason.clone();
        let change = self.put(now, finding);
        if from >= HealthState::Degraded {
            self.recovered = Some(Recovery {
                from,
                reason,
                at_unix_ms: now.unix_ms,
            });
        }
        change
    }

    fn put(&mut self, now: Moment, finding: Finding) -> Option<Change> {
        let from = self.finding.state;
        self.stale = None;
        let to = finding.state;
        self.finding = finding;
        if from == to {
            return None;
        }
        self.since = now;
        if to == HealthState::Healthy && from >= HealthState::Degraded {
            self.recovered = Some(Recovery {
                from,
                reason: self.finding.reason.clone(),
                at_unix_ms: now.unix_ms,
            });
        }
        Some((from, to))
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict {
            check: self.name.clone(),
            state: self.finding.state,
            since_unix_ms: self.since.unix_ms,
            reason: self.finding.reason.clone(),
            evidence: self.finding.evidence.clone(),
            action: self.finding.action,
            confidence: self.finding.confidence,
            counts: self.counts(),
            stale: self.stale.clone(),
            recovered: self.recovered.clone(),
            mode: self.mode,
            blamed_on: self.finding.blamed_on.clone(),
        }
    }
}
