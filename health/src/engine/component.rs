//! A component: the worst of what its checks say, and whether a job may start on it.

use std::time::Duration;

use super::judged::Judged;
use crate::check::{self, Settings, View};
use crate::facts::{Aer, Facts, Holder, Identity, Kind, Link, Port};
use crate::probe::target::Sample;
use crate::status::{ComponentStatus, VitalsStatus};
use crate::time::{Moment, millis};
use crate::verdict::{Action, Admission, Admit, HealthState, Transition};

/// How long a component may go unseen before somebody is told: outlasts one reset.
pub const UNSEEN_ALERT: Duration = Duration::from_secs(90);
/// How long a component may go unseen and still be given jobs.
pub const UNSEEN_HOLD: Duration = Duration::from_secs(300);

pub(super) struct Component {
    bdf: String,
    kind: Kind,
    pub(super) identity: Identity,
    checks: Vec<Judged>,
    state: HealthState,
    since: Moment,
    /// Its state was told once: from then on only changes are.
    told: bool,
    admission: Admission,
    action: Action,
    holder: Option<Holder>,
    last_seen: Option<Moment>,
    probe_failures: u64,
    vitals: Option<VitalsStatus>,
    link: Option<Link>,
    aer: Option<Aer>,
    port: Option<Port>,
}

impl Component {
    pub(super) fn new(kind: Kind, bdf: String, at: Moment) -> Self {
        Self {
            bdf,
            kind,
            identity: Identity::default(),
            checks: check::for_kind(kind)
                .into_iter()
                .map(|check| Judged::new(check, at))
                .collect(),
            state: HealthState::Unobservable,
            since: at,
            told: false,
            admission: Admission {
                answer: Admit::Hold,
                reason: "no data yet".to_owned(),
            },
            action: Action::None,
            holder: None,
            last_seen: None,
            probe_failures: 0,
            vitals: None,
            link: None,
            aer: None,
            port: None,
        }
    }

    pub(super) fn observe(&mut self, settings: &Settings, sample: Sample) -> Vec<Transition> {
        let Sample {
            identity, facts, ..
        } = sample;
        let at = facts.at;
        self.identity.update(identity);
        self.keep(&facts);

        let view = View {
            now: at,
            bdf: &self.bdf,
            identity: &self.identity,
            facts: &facts,
            settings,
        };
        let mut transitions = Vec::new();
        for judged in &mut self.checks {
            if !facts.hold(judged.check.reads()) {
                continue;
            }
            if let Some((from, to)) = judged.judge(&view) {
                transitions.push(Transition {
                    at_unix_ms: at.unix_ms,
                    component: self.bdf.clone(),
                    serial: self.identity.serial.clone(),
                    check: Some(judged.check.name().to_owned()),
                    from: Some(from),
                    to,
                    reason: judged.finding.reason.clone(),
                    evidence: judged.finding.evidence.clone(),
                });
            }
        }
        let (state, reason, action) = self.worst(at);
        self.admission = self.admit(at, state, &reason);
        self.action = action;
        if state != self.state || !self.told {
            let evidence = self
                .checks
                .iter()
                .find(|judged| judged.finding.state == state)
                .map(|judged| judged.finding.evidence.clone())
                .unwrap_or_default();
            transitions.push(Transition {
                at_unix_ms: at.unix_ms,
                component: self.bdf.clone(),
                serial: self.identity.serial.clone(),
                check: None,
                from: self.told.then_some(self.state),
                to: state,
                reason,
                evidence,
            });
            self.state = state;
            self.since = at;
            self.told = true;
        }
        transitions
    }

    /// Remembers what was seen, for the status document.
    fn keep(&mut self, facts: &Facts) {
        self.probe_failures = self.probe_failures.saturating_add(facts.failures());
        if let Some(Ok(_)) = facts.presence {
            self.last_seen = Some(facts.at);
            self.holder.clone_from(&facts.holder);
        }
        if let Some(Ok(vitals)) = &facts.vitals {
            self.vitals = Some(vitals.into());
        }
        if let Some(Ok(link)) = facts.link {
            self.link = Some(link);
        }
        if let Some(Ok(aer)) = facts.aer {
            self.aer = aer;
        }
        if let Some(Ok(port)) = facts.port {
            self.port = port;
        }
    }

    /// The worst state of the checks that count, its reason, and the strongest action of all.
    fn worst(&self, at: Moment) -> (HealthState, String, Action) {
        let counting = || self.checks.iter().filter(|judged| judged.finding.counts);
        let worst = counting().rev().max_by_key(|judged| judged.finding.state);
        let (state, reason) = match worst {
            Some(judged) if judged.finding.state != HealthState::Healthy => (
                judged.finding.state,
                format!("{}: {}", judged.check.name(), judged.finding.reason),
            ),
            Some(_) => (HealthState::Healthy, self.last_recovery()),
            None => (
                HealthState::Unobservable,
                "no check has anything to judge".to_owned(),
            ),
        };
        let long_unseen = counting().any(|judged| {
            judged
                .unseen
                .is_some_and(|since| at.since(since) >= UNSEEN_ALERT)
        });
        let least = if long_unseen {
            Action::Watch
        } else {
            Action::None
        };
        let action = counting()
            .map(|judged| judged.finding.action)
            .fold(least, Ord::max);
        (state, reason, action)
    }

    fn last_recovery(&self) -> String {
        let latest = self
            .checks
            .iter()
            .filter_map(|judged| Some((judged.check.name(), judged.recovered.as_ref()?)))
            .max_by_key(|(_, recovery)| recovery.at_unix_ms);
        match latest {
            Some((check, recovery)) => format!("{check}: {}", recovery.reason),
            None => "all checks are healthy".to_owned(),
        }
    }

    fn admit(&self, at: Moment, state: HealthState, reason: &str) -> Admission {
        if state == HealthState::Unhealthy {
            return Admission {
                answer: Admit::No,
                reason: reason.to_owned(),
            };
        }
        let held = self.checks.iter().find_map(|judged| {
            let name = judged.check.name();
            let finding = &judged.finding;
            if finding.hold {
                return Some(format!("{name}: {}", finding.reason));
            }
            let unseen = judged.unseen.filter(|_| finding.counts)?;
            if !judged.ever_seen {
                return Some(format!("{name}: never seen so far: {}", finding.reason));
            }
            let age = at.since(unseen);
            (age >= UNSEEN_HOLD).then(|| {
                format!(
                    "{name}: not seen for {} s: {}",
                    age.as_secs(),
                    finding.reason
                )
            })
        });
        match held {
            Some(reason) => Admission {
                answer: Admit::Hold,
                reason,
            },
            None => Admission {
                answer: Admit::Yes,
                reason: reason.to_owned(),
            },
        }
    }

    pub(super) fn status(&self, now: Moment) -> ComponentStatus {
        ComponentStatus {
            bdf: self.bdf.clone(),
            kind: self.kind,
            identity: self.identity.clone(),
            state: self.state,
            since_unix_ms: self.since.unix_ms,
            admission: self.admission.clone(),
            action: self.action,
            holder: self.holder.clone(),
            sample_age_ms: self.last_seen.map(|seen| millis(now.since(seen))),
            probe_failures: self.probe_failures,
            vitals: self.vitals.clone(),
            link: self.link,
            aer: self.aer,
            port: self.port,
            verdicts: self.checks.iter().map(Judged::verdict).collect(),
        }
    }
}

impl Identity {
    /// Takes what is newly known; what can no longer be read stays known.
    fn update(&mut self, new: Self) {
        if !new.pci_id.is_empty() {
            self.pci_id = new.pci_id;
            self.interface = new.interface;
        }
        self.serial = new.serial.or_else(|| self.serial.take());
        self.slot = new.slot.or_else(|| self.slot.take());
        self.upstream = new.upstream.or_else(|| self.upstream.take());
    }
}
