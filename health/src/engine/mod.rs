//! Judgement: facts and time go in, verdicts come out. Nothing here reads a file or a clock.

mod component;
mod judged;

use std::collections::{BTreeMap, VecDeque};

use crate::check::Settings;
use crate::facts::{Class, FactKind, Facts, Kind};
use crate::probe::ProbeError;
use crate::probe::target::Sample;
use crate::status::ComponentStatus;
use crate::time::Moment;
use crate::verdict::Transition;
use component::Component;

pub use component::{UNSEEN_ALERT, UNSEEN_HOLD};

/// Changes of state that are kept for the status document.
const TRANSITIONS: usize = 128;

/// The judgement over all components of a host.
pub struct Engine {
    settings: Settings,
    components: BTreeMap<(Kind, String), Component>,
    recent: VecDeque<Transition>,
}

impl Engine {
    /// An engine that knows of nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            components: BTreeMap::new(),
            recent: VecDeque::new(),
        }
    }

    /// Takes a look into account, and gives the changes of state that follow.
    pub fn observe(&mut self, sample: Sample) -> Vec<Transition> {
        let key = (sample.kind, sample.bdf.to_string());
        let at = sample.facts.at;
        let replaced = self.components.get(&key).is_some_and(|component| {
            let (old, new) = (&component.identity.serial, &sample.identity.serial);
            matches!((old, new), (Some(old), Some(new)) if old != new)
        });
        if replaced {
            // Another card in the same slot has no part in the verdicts of the former one.
            self.components.remove(&key);
        }
        let component = self
            .components
            .entry(key)
            .or_insert_with_key(|(kind, bdf)| Component::new(*kind, bdf.clone(), at));
        let transitions = component.observe(&self.settings, sample);
        for transition in &transitions {
            if self.recent.len() == TRANSITIONS {
                self.recent.pop_front();
            }
            self.recent.push_back(transition.clone());
        }
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
        self.components.remove(&(kind, bdf.to_owned()));
    }

    /// The components, for the status document.
    #[must_use]
    pub fn components(&self, now: Moment) -> Vec<ComponentStatus> {
        self.components
            .values()
            .map(|component| component.status(now))
            .collect()
    }

    /// The last changes of state, oldest first.
    pub fn transitions(&self) -> impl Iterator<Item = &Transition> {
        self.recent.iter()
    }
}
