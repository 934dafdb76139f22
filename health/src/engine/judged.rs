//! One check on one component: its last finding, made to stand and made into a verdict.

use crate::check::{Check, Finding, View};
use crate::time::Moment;
use crate::verdict::{HealthState, Recovery, Verdict};

/// A check and what it said.
pub(super) struct Judged {
    pub(super) check: Box<dyn Check>,
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
    /// A check that has not seen anything yet.
    pub(super) fn new(check: Box<dyn Check>, at: Moment) -> Self {
        Self {
            check,
            finding: Finding::blind("no data yet"),
            since: at,
            unseen: Some(at),
            ever_seen: false,
            stale: None,
            recovered: None,
        }
    }

    /// Judges a look; the change of state, if there is one.
    pub(super) fn judge(&mut self, view: &View<'_>) -> Option<(HealthState, HealthState)> {
        let finding = self.check.judge(view).unwrap_or_else(|finding| finding);
        let from = self.finding.state;
        let blind = finding.counts && finding.state == HealthState::Unobservable;
        if blind {
            self.unseen.get_or_insert(view.now);
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
        self.stale = None;
        let to = finding.state;
        self.finding = finding;
        if from == to {
            return None;
        }
        self.since = view.now;
        if to == HealthState::Healthy && from >= HealthState::Degraded {
            self.recovered = Some(Recovery {
                from,
                reason: self.finding.reason.clone(),
                at_unix_ms: view.now.unix_ms,
            });
        }
        Some((from, to))
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict {
            check: self.check.name().to_owned(),
            state: self.finding.state,
            since_unix_ms: self.since.unix_ms,
            reason: self.finding.reason.clone(),
            evidence: self.finding.evidence.clone(),
            action: self.finding.action,
            confidence: self.finding.confidence,
            counts: self.finding.counts,
            stale: self.stale.clone(),
            recovered: self.recovered.clone(),
        }
    }
}
