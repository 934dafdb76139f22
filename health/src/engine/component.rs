//! A component: the worst of what its checks say, and whether a job may start on it.

use std::collections::BTreeMap;

use super::episodes::{Episodes, FLAPPING, REPEAT};
use super::judged::{Change, Judged};
use super::orders::Modes;
use crate::check::{self, Check, Finding, Settings, View};
use crate::facts::{Aer, Ethtool, FactKind, Facts, Holder, Identity, Kind, Link, Port, RdmaPort};
use crate::operator::{Hold, Mode};
use crate::probe::target::Sample;
use crate::status::{ComponentStatus, VitalsStatus};
use crate::time::{Moment, millis};
use crate::verdict::{Action, Admission, Admit, HealthState, Transition};

/// What a component is judged by, beside its facts.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) settings: &'a Settings,
    pub(super) modes: &'a Modes,
    /// The hold on this component or on the host.
    pub(super) hold: Option<&'a Hold>,
    /// Why no job may start on the host, whatever the component is like.
    pub(super) host: Option<&'a str>,
}

/// A check and what it said.
pub(super) struct Checked {
    pub(super) check: Box<dyn Check>,
    pub(super) judged: Judged,
}

pub(super) struct Component {
    pub(super) bdf: String,
    pub(super) kind: Kind,
    pub(super) identity: Identity,
    pub(super) checks: Vec<Checked>,
    pub(super) flapping: Judged,
    pub(super) repeat: Judged,
    pub(super) episodes: Episodes,
    pub(super) state: HealthState,
    pub(super) since: Moment,
    /// Its state was told once: from then on only changes are.
    pub(super) told: bool,
    holder: Option<Holder>,
    last_seen: Option<Moment>,
    /// When each fact was last read well.
    read: BTreeMap<FactKind, Moment>,
    probe_failures: u64,
    vitals: Option<VitalsStatus>,
    link: Option<Link>,
    aer: Option<Aer>,
    port: Option<Port>,
    rdma: Vec<RdmaPort>,
    ethtool: Option<Ethtool>,
}

impl Component {
    pub(super) fn new(kind: Kind, bdf: String, at: Moment) -> Self {
        let checks = check::for_kind(kind).into_iter().map(|check| Checked {
            judged: Judged::beginning(check.name(), at, check.at_first()),
            check,
        });
        Self {
            bdf,
            kind,
            identity: Identity::default(),
            checks: checks.collect(),
            flapping: Judged::new(FLAPPING, at),
            repeat: Judged::new(REPEAT, at),
            episodes: Episodes::new(),
            state: HealthState::Unobservable,
            since: at,
            told: false,
            holder: None,
            last_seen: None,
            read: BTreeMap::new(),
            probe_failures: 0,
            vitals: None,
            link: None,
            aer: None,
            port: None,
            rdma: Vec::new(),
            ethtool: None,
        }
    }

    pub(super) fn observe(&mut self, rules: Rules<'_>, sample: Sample) -> Vec<Transition> {
        let Sample {
            identity, facts, ..
        } = sample;
        let at = facts.at;
        self.identity.update(identity);
        self.keep(&facts);

        let view = View {
            now: at,
            kind: self.kind,
            bdf: &self.bdf,
            identity: &self.identity,
            facts: &facts,
            settings: rules.settings,
            held: rules.hold,
        };
        let mut transitions = Vec::new();
        let mut checks = std::mem::take(&mut self.checks);
        for checked in &mut checks {
            if let Some(change) = checked.look(&view, rules.modes, self.kind) {
                transitions.push(self.change(at, &checked.judged, change));
            }
        }
        self.checks = checks;
        transitions.extend(self.settle(at, rules));
        transitions
    }

    /// Makes the component's state of its checks' and of its past.
    pub(super) fn settle(&mut self, at: Moment, rules: Rules<'_>) -> Vec<Transition> {
        let mut transitions = Vec::new();
        let (state, excused) = self.by_checks(rules.hold);
        let (flapping, repeat) = match self.kind {
            // A setting that is changed to and fro is as bad as it is now, and no card to be taken out.
            Kind::Host => {
                let nothing = Finding::not_applicable("not judged of a host");
                (nothing.clone(), nothing)
            }
            _ => self.episodes.update(at, state, excused, rules.settings),
        };
        self.flapping.mode = rules.modes.of(FLAPPING, rules.settings);
        self.repeat.mode = rules.modes.of(REPEAT, rules.settings);
        if let Some(change) = self.flapping.take(at, flapping) {
            transitions.push(self.change(at, &self.flapping, change));
        }
        if let Some(change) = self.repeat.take(at, repeat) {
            transitions.push(self.change(at, &self.repeat, change));
        }

        let (state, reason, worst) = self.worst();
        if state == self.state && self.told {
            return transitions;
        }
        transitions.push(Transition {
            at_unix_ms: at.unix_ms,
            component: self.bdf.clone(),
            serial: self.identity.serial.clone(),
            check: None,
            from: self.told.then_some(self.state),
            to: state,
            reason,
            evidence: worst.map_or_else(Vec::new, |worst| worst.finding.evidence.clone()),
            shadow: false,
            blamed_on: worst.and_then(|worst| worst.finding.blamed_on.clone()),
        });
        self.state = state;
        self.since = at;
        self.told = true;
        transitions
    }

    pub(super) fn change(&self, at: Moment, judged: &Judged, (from, to): Change) -> Transition {
        Transition {
            at_unix_ms: at.unix_ms,
            component: self.bdf.clone(),
            serial: self.identity.serial.clone(),
            check: Some(judged.name.clone()),
            from: Some(from),
            to,
            reason: judged.finding.reason.clone(),
            evidence: judged.finding.evidence.clone(),
            shadow: judged.mode == Mode::Shadow,
            blamed_on: judged.finding.blamed_on.clone(),
        }
    }

    /// Remembers what was seen, for the status document.
    fn keep(&mut self, facts: &Facts) {
        self.probe_failures = self.probe_failures.saturating_add(facts.failures());
        for kind in FactKind::ALL {
            if let Some(Ok(())) = facts.outcome(*kind) {
                self.read.insert(*kind, facts.at);
            }
        }
        if let (Kind::Host, Some(Ok(_))) = (self.kind, &facts.kernel_log) {
            self.last_seen = Some(facts.at);
        }
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
        if let Some(Ok(rdma)) = &facts.rdma {
            self.rdma.clone_from(rdma);
        }
        if let Some(Ok(ethtool)) = &facts.ethtool {
            self.ethtool.clone_from(ethtool);
        }
    }

    /// Its port, as it was last seen.
    pub(super) const fn port(&self) -> Option<Port> {
        self.port
    }

    /// Whether it does not answer where it was.
    pub(super) fn is_missing(&self) -> bool {
        let presence = self
            .judged()
            .find(|judged| judged.name == check::PRESENCE)
            .map(|judged| judged.finding.state);
        presence != Some(HealthState::Healthy)
    }

    /// All rules, the ones on the past last.
    pub(super) fn judged(&self) -> impl Iterator<Item = &Judged> {
        let checks = self.checks.iter().map(|checked| &checked.judged);
        checks.chain([&self.flapping, &self.repeat])
    }

    fn counting(&self) -> impl Iterator<Item = &Judged> {
        self.judged().filter(|judged| judged.counts())
    }

    /// The worst state of the checks alone, and whether somebody or something else is to blame for it.
    fn by_checks(&self, hold: Option<&Hold>) -> (HealthState, bool) {
        let checks = || {
            let judged = self.checks.iter().map(|checked| &checked.judged);
            judged.filter(|judged| judged.counts())
        };
        let state = checks().map(|judged| judged.finding.state).max();
        let state = state.unwrap_or(HealthState::Unobservable);
        let mut worst = checks().filter(|judged| judged.finding.state == state);
        let explained = worst.all(|judged| judged.finding.blamed_on.is_some());
        (state, explained || hold.is_some())
    }

    /// The worst state of the rules that count, its reason and the rule that says it.
    fn worst(&self) -> (HealthState, String, Option<&Judged>) {
        // Of the equally bad the first, as the checks are in the order of what explains what.
        let worst = self
            .counting()
            .fold(None::<&Judged>, |worst, judged| match worst {
                Some(worst) if worst.finding.state >= judged.finding.state => Some(worst),
                _ => Some(judged),
            });
        let of_checks = self.checks.iter().any(|checked| checked.judged.counts());
        match worst {
            Some(judged) if judged.finding.state > HealthState::Unobservable => (
                judged.finding.state,
                format!("{}: {}", judged.name, judged.finding.reason),
                Some(judged),
            ),
            _ if !of_checks => (
                HealthState::Unobservable,
                "no check has anything to judge".to_owned(),
                None,
            ),
            Some(judged) if judged.finding.state == HealthState::Unobservable => (
                HealthState::Unobservable,
                format!("{}: {}", judged.name, judged.finding.reason),
                Some(judged),
            ),
            _ => (HealthState::Healthy, self.last_recovery(), None),
        }
    }

    /// Why it must not be given work, if it must not.
    pub(super) fn is_unfit(&self) -> Option<String> {
        let (state, reason, _) = self.worst();
        (state == HealthState::Unhealthy).then_some(reason)
    }

    /// The strongest action of all; at least to watch when something was not seen for long.
    fn action(&self, at: Moment, settings: &Settings) -> Action {
        let long_unseen = self.counting().any(|judged| {
            judged
                .unseen
                .is_some_and(|since| at.since(since) >= settings.unseen_alert)
        });
        let least = match long_unseen {
            true => Action::Watch,
            false => Action::None,
        };
        let actions = self.counting().map(|judged| judged.finding.action);
        actions.fold(least, Ord::max)
    }

    fn last_recovery(&self) -> String {
        let latest = self
            .judged()
            .filter_map(|judged| Some((&judged.name, judged.recovered.as_ref()?)))
            .max_by_key(|(_, recovery)| recovery.at_unix_ms);
        match latest {
            Some((check, recovery)) => format!("{check}: {}", recovery.reason),
            None => "all checks are healthy".to_owned(),
        }
    }

    fn admission(&self, at: Moment, rules: Rules<'_>) -> Admission {
        let (state, reason, _) = self.worst();
        if !self.told {
            return Admission {
                answer: Admit::Hold,
                reason: "no data yet".to_owned(),
            };
        }
        if state == HealthState::Unhealthy {
            let answer = Admit::No;
            return Admission { answer, reason };
        }
        if let Some(host) = rules.host.filter(|_| self.kind != Kind::Host) {
            return Admission {
                answer: Admit::No,
                reason: format!("the host: {host}"),
            };
        }
        let held = rules.hold.map(ToString::to_string);
        let held = held.or_else(|| self.judged().find_map(|judged| waits(judged, at, rules)));
        match held {
            Some(reason) => Admission {
                answer: Admit::Hold,
                reason,
            },
            None => Admission {
                answer: Admit::Yes,
                reason,
            },
        }
    }

    pub(super) fn status(&self, now: Moment, rules: Rules<'_>) -> ComponentStatus {
        ComponentStatus {
            bdf: self.bdf.clone(),
            kind: self.kind,
            identity: self.identity.clone(),
            state: self.state,
            since_unix_ms: self.since.unix_ms,
            reason: self.worst().1,
            admission: self.admission(now, rules),
            action: self.action(now, rules.settings),
            hold: rules.hold.map(Into::into),
            holder: self.holder.clone(),
            sample_age_ms: self.last_seen.map(|seen| millis(now.since(seen))),
            facts_age_ms: self
                .read
                .iter()
                .map(|(kind, at)| (*kind, millis(now.since(*at))))
                .collect(),
            probe_failures: self.probe_failures,
            vitals: self.vitals.clone(),
            link: self.link,
            aer: self.aer,
            port: self.port,
            rdma: self.rdma.clone(),
            ethtool: self.ethtool.clone(),
            verdicts: self.judged().map(Judged::verdict).collect(),
        }
    }
}

/// Why no job should start because of this rule, though it has not found trouble.
fn waits(judged: &Judged, at: Moment, rules: Rules<'_>) -> Option<String> {
    let Judged { name, finding, .. } = judged;
    if judged.mode != Mode::On {
        return None;
    }
    if finding.hold {
        return Some(format!("{name}: {}", finding.reason));
    }
    let unseen = judged.unseen.filter(|_| finding.counts)?;
    if !judged.ever_seen {
        return Some(format!("{name}: never seen so far: {}", finding.reason));
    }
    let age = at.since(unseen);
    (age >= rules.settings.unseen_hold).then(|| {
        format!(
            "{name}: not seen for {} s: {}",
            age.as_secs(),
            finding.reason
        )
    })
}

impl Checked {
    /// Takes a look, if the check is switched on.
    fn look(&mut self, view: &View<'_>, modes: &Modes, kind: Kind) -> Option<Change> {
        let mode = modes.of(&self.judged.name, view.settings);
        let before = std::mem::replace(&mut self.judged.mode, mode);
        if mode == Mode::Off {
            if before == Mode::Off {
                return None;
            }
            self.start_anew(kind);
            let finding = Finding::not_applicable(modes.why_off(&self.judged.name));
            return self.judged.drop_finding(view.now, finding);
        }
        if !view.facts.hold(self.check.reads()) {
            return None;
        }
        let finding = self.check.judge(view).unwrap_or_else(|finding| finding);
        self.judged.take(view.now, finding)
    }

    /// A check that knows nothing of the past.
    pub(super) fn start_anew(&mut self, kind: Kind) {
        let mut fresh = check::for_kind(kind).into_iter();
        if let Some(check) = fresh.find(|check| check.name() == self.judged.name) {
            self.check = check;
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
