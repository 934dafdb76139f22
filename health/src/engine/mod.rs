//! Judgement: facts and time go in, verdicts come out. Nothing here reads a file or a clock.

mod clock;
mod component;
mod episodes;
mod expected;
mod judged;
mod orders;
mod saved;

use std::collections::{BTreeMap, VecDeque};

use crate::check::Settings;
use crate::facts::{Class, FactKind, Facts, Kind, Port};
use crate::operator::{Done, HOST, Hold};
use crate::probe::ProbeError;
use crate::probe::target::Sample;
use crate::status::ComponentStatus;
use crate::time::Moment;
use crate::verdict::{HealthState, Transition};
use clock::Clock;
use component::{Component, Rules};
use episodes::Episodes;
use orders::Modes;

pub use expected::Missing;
pub use orders::rules;
pub use saved::{RestoreError, Saved};

/// Changes of state that are kept for the status document.
const TRANSITIONS: usize = 128;
/// Orders that are kept for it.
const ORDERS: usize = 64;
/// Cards that were taken out and whose past is kept, should they come back.
const BENCHED: usize = 256;

/// The judgement over all components of a host.
pub struct Engine {
    settings: Settings,
    components: BTreeMap<(Kind, String), Component>,
    recent: VecDeque<Transition>,
    orders: VecDeque<Done>,
    /// By component, or [`HOST`].
    holds: BTreeMap<String, Hold>,
    modes: Modes,
    /// The past of cards that were taken out, by kind and serial number.
    benched: BTreeMap<String, Episodes>,
    clock: Clock,
}

impl Engine {
    /// An engine that knows of nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            components: BTreeMap::new(),
            recent: VecDeque::new(),
            orders: VecDeque::new(),
            holds: BTreeMap::new(),
            modes: Modes::default(),
            benched: BTreeMap::new(),
            clock: Clock::default(),
        }
    }

    /// By what is judged.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Other settings from now on, as after a reload.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = self.clock.settings(settings);
    }

    /// Takes a look into account, and gives the changes of state that follow.
    pub fn observe(&mut self, mut sample: Sample) -> Vec<Transition> {
        sample.facts.at = self.clock.moment(sample.facts.at);
        let key = (sample.kind, sample.bdf.to_string());
        let at = sample.facts.at;
        let known = self
            .components
            .get(&key)
            .and_then(|component| component.identity.serial.clone());
        let seen = sample.identity.serial.clone();
        if known.is_some() && seen.is_some() && known != seen {
            // Another card in the same slot has no part in the verdicts of the former one.
            self.bench(&key);
        }
        let component = self
            .components
            .entry(key.clone())
            .or_insert_with_key(|(kind, bdf)| Component::new(*kind, bdf.clone(), at));
        if seen.is_some() && known != seen {
            component.identity.serial.clone_from(&seen);
            self.follow_card(&key, seen.as_deref().unwrap_or_default());
        }
        let rules = Rules {
            settings: &self.settings,
            modes: &self.modes,
            hold: held(&self.holds, &key.1),
            host: None,
        };
        let transitions = match self.components.get_mut(&key) {
            Some(component) => component.observe(rules, sample),
            None => Vec::new(),
        };
        self.remember(&transitions);
        transitions
    }

    /// Takes into account that a look at a component, which was to read what its class does, saw
    /// nothing.
    pub fn miss(
        &mut self,
        bdf: &str,
        kind: Kind,
        at: Moment,
        class: Class,
        error: &ProbeError,
    ) -> Vec<Transition> {
        let identity = self
            .components
            .get(&(kind, bdf.to_owned()))
            .map(|component| component.identity.clone())
            .unwrap_or_default();
        let facts = Facts::blind(at, &FactKind::read_by(class, kind), error);
        self.observe(Sample {
            bdf: bdf.into(),
            kind,
            identity,
            facts,
        })
    }

    /// Forgets a component in whose place something of another kind is now.
    pub fn forget(&mut self, bdf: &str, kind: Kind) {
        self.bench(&(kind, bdf.to_owned()));
    }

    /// Removes a component, and keeps of it what follows its card.
    fn bench(&mut self, key: &(Kind, String)) {
        let Some(component) = self.components.remove(key) else {
            return;
        };
        let Some(serial) = component.identity.serial else {
            return;
        };
        if component.episodes.is_clean() || self.benched.len() >= BENCHED {
            return;
        }
        self.benched
            .insert(card(key.0, &serial, &key.1), component.episodes);
    }

    /// Takes a card's past along when it is found in another place.
    fn follow_card(&mut self, key: &(Kind, String), serial: &str) {
        let identity = card(key.0, serial, &key.1);
        let left = self.components.iter().find(|(other, component)| {
            let its = component.identity.serial.as_deref();
            its.is_some_and(|its| card(other.0, its, &other.1) == identity)
                && *other != key
                && component.is_missing()
        });
        if let Some(left) = left.map(|(left, _)| left.clone()) {
            self.bench(&left);
        }
        if let Some(mut past) = self.benched.remove(&identity)
            && let Some(component) = self.components.get_mut(key)
        {
            component.episodes.inherit(&mut past);
        }
    }

    fn remember(&mut self, transitions: &[Transition]) {
        self.recent.extend(transitions.iter().cloned());
        let surplus = self.recent.len().saturating_sub(TRANSITIONS);
        self.recent.drain(..surplus);
    }

    /// The components, for the status document.
    #[must_use]
    pub fn components(&self, now: Moment) -> Vec<ComponentStatus> {
        let now = self.clock.moment(now);
        let host = self.components.get(&(Kind::Host, HOST.to_owned()));
        let host = host.and_then(Component::is_unfit);
        self.components
            .values()
            .map(|component| {
                let rules = Rules {
                    settings: &self.settings,
                    modes: &self.modes,
                    hold: held(&self.holds, &component.bdf),
                    host: host.as_deref(),
                };
                component.status(now, rules)
            })
            .collect()
    }

    /// The NICs, with the names of their interfaces and their ports as they were last seen.
    pub fn ports(&self) -> impl Iterator<Item = (&str, Option<&str>, Option<Port>)> {
        let nics = self.components.values();
        let nics = nics.filter(|component| component.kind == Kind::Nic);
        nics.map(|nic| {
            (
                nic.bdf.as_str(),
                nic.identity.interface.as_deref(),
                nic.port(),
            )
        })
    }

    /// How many components are how.
    #[must_use]
    pub fn states(&self) -> BTreeMap<HealthState, usize> {
        let mut states = BTreeMap::new();
        for component in self.components.values() {
            *states.entry(component.state).or_default() += 1;
        }
        states
    }

    fn record(&mut self, done: &Done) {
        if self.orders.len() == ORDERS {
            self.orders.pop_front();
        }
        self.orders.push_back(done.clone());
    }

    /// What was ordered lately, oldest first.
    pub fn orders(&self) -> impl Iterator<Item = &Done> {
        self.orders.iter()
    }

    /// The last changes of state, oldest first.
    pub fn transitions(&self) -> impl Iterator<Item = &Transition> {
        self.recent.iter()
    }
}

/// The hold on a component, or on its host.
fn held<'a>(holds: &'a BTreeMap<String, Hold>, bdf: &str) -> Option<&'a Hold> {
    holds.get(bdf).or_else(|| holds.get(HOST))
}

/// A card's function: those of one card share its serial number.
fn card(kind: Kind, serial: &str, bdf: &str) -> String {
    let function = bdf.rsplit_once('.').map_or("0", |(_, function)| function);
    format!("{} {serial}.{function}", kind.name())
}
