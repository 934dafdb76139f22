//! The engine's memory, as it outlives the agent and the boot.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clock::{Boot, Clock};
use super::component::{Checked, Component};
use super::episodes::Episodes;
use super::judged::Judged;
use super::{Engine, ORDERS, TRANSITIONS};
use crate::check::{Finding, PRESENCE, Settings};
use crate::facts::{Identity, Kind};
use crate::operator::{Done, Hold, Switch};
use crate::probe::discover::is_bdf;
use crate::time::Moment;
use crate::verdict::{HealthState, Transition};

/// Version of [`Saved`].
const VERSION: u32 = 1;

/// Names of [`Saved`]'s parts: what begins with this is of a component.
const COMPONENT: &str = "component";
/// The part that is of no component.
const HOST: &str = "host";

/// All that an engine remembers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    boot_id: Option<String>,
    /// When it was saved, on the engine's clock.
    at: Moment,
    clock: Clock,
    #[serde(default)]
    components: Vec<SavedComponent>,
    holds: BTreeMap<String, Hold>,
    switches: BTreeMap<String, Switch>,
    benched: BTreeMap<String, Episodes>,
    transitions: Vec<Transition>,
    orders: Vec<Done>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedComponent {
    bdf: String,
    kind: Kind,
    identity: Identity,
    checks: Vec<SavedCheck>,
    flapping: Judged,
    repeat: Judged,
    episodes: Episodes,
    state: HealthState,
    since: Moment,
    told: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedCheck {
    judged: Judged,
    memory: Value,
}

/// Why what was saved is of no use.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Another version of the agent wrote it.
    #[error(
        "the agent's memory is of version {found}, this agent reads version {VERSION}: what it knew of the past is \
         lost, and what the chips remember themselves is not"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// It cannot be put into JSON.
    #[error("what {what} remembers cannot be saved: {source}")]
    Unsaved {
        /// A check, or a part.
        what: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// It is no JSON of the form that is known.
    #[error(
        "the agent's memory of {part} makes no sense ({source}): what it knew of the past is lost"
    )]
    Part {
        /// Name of the part.
        part: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Saved {
    /// With the last changes of state, oldest first, from wherever they are kept.
    #[must_use]
    pub fn with_transitions(mut self, transitions: Vec<Transition>) -> Self {
        self.transitions = transitions;
        self
    }

    /// The memory that the parts are of; `None` when there is none. A component that makes no sense is left out, and
    /// begins anew.
    ///
    /// # Errors
    /// When what is not of a component makes no sense.
    pub fn from_parts(parts: &BTreeMap<String, String>) -> Result<Option<Self>, RestoreError> {
        let Some(host) = parts.get(HOST) else {
            return Ok(None);
        };
        let mut saved: Self = serde_json::from_str(host).map_err(|source| RestoreError::Part {
            part: HOST.to_owned(),
            source,
        })?;
        let components = parts.iter().filter(|(part, _)| part.starts_with(COMPONENT));
        for (part, text) in components {
            match serde_json::from_str(text) {
                Ok(component) => saved.components.push(component),
                Err(error) => {
                    tracing::warn!(part, %error, "a component begins anew: its memory makes no sense");
                }
            }
        }
        Ok(Some(saved))
    }
}

fn to_text(part: &str, value: &impl Serialize) -> Result<String, RestoreError> {
    serde_json::to_string(value).map_err(|source| RestoreError::Unsaved {
        what: part.to_owned(),
        source,
    })
}

impl Engine {
    /// What it remembers now, in the boot of that ID.
    ///
    /// # Errors
    /// When a check's memory cannot be put into JSON.
    pub fn saved(&self, now: Moment, boot_id: Option<&str>) -> Result<Saved, RestoreError> {
        // One that only the manifest names has no past.
        let components = self.components.values();
        let components = components
            .filter(|component| is_bdf(&component.bdf) || component.kind == Kind::Host)
            .map(SavedComponent::of);
        Ok(Saved {
            components: components.collect::<Result<_, _>>()?,
            transitions: self.recent.iter().cloned().collect(),
            ..self.saved_host(now, boot_id)
        })
    }

    /// The memory as texts under names, one of each component that is asked for and one of what is of none: so that
    /// only what has changed needs to be written. The last changes of state are not among it.
    ///
    /// # Errors
    /// As [`saved`](Self::saved).
    pub fn saved_parts(
        &self,
        now: Moment,
        boot_id: Option<&str>,
        of: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, String>, RestoreError> {
        let host = self.saved_host(now, boot_id);
        let mut parts = BTreeMap::from([(HOST.to_owned(), to_text(HOST, &host)?)]);
        for component in self.components.values().filter(|known| of(&known.bdf)) {
            let part = format!("{COMPONENT} {} {}", component.kind.name(), component.bdf);
            let text = to_text(&part, &SavedComponent::of(component)?)?;
            parts.insert(part, text);
        }
        Ok(parts)
    }

    fn saved_host(&self, now: Moment, boot_id: Option<&str>) -> Saved {
        Saved {
            version: VERSION,
            boot_id: boot_id.map(str::to_owned),
            at: self.clock.moment(now),
            clock: self.clock,
            components: Vec::new(),
            holds: self.holds.clone(),
            switches: self.modes.switches.clone(),
            benched: self.benched.clone(),
            transitions: Vec::new(),
            orders: self.orders.iter().cloned().collect(),
        }
    }

    /// An engine that goes on where another stopped.
    ///
    /// # Errors
    /// When another version of the agent saved it.
    pub fn restored(
        settings: Settings,
        saved: Saved,
        now: Moment,
        boot_id: Option<&str>,
    ) -> Result<Self, RestoreError> {
        if saved.version != VERSION {
            return Err(RestoreError::Version {
                found: saved.version,
            });
        }
        let same_boot = boot_id.is_some() && saved.boot_id.as_deref() == boot_id;
        let boot = match same_boot {
            true => Boot::Same,
            false => Boot::Another {
                host_up: settings
                    .booted
                    .map_or(Duration::ZERO, |booted| now.uptime.saturating_sub(booted)),
            },
        };
        let clock = saved.clock.resumed(saved.at, now, boot);
        let mut engine = Self::new(clock.settings(settings));
        engine.clock = clock;
        engine.holds = saved.holds;
        engine.modes.switches = saved.switches;
        engine.benched = saved.benched;
        let surplus = saved.transitions.len().saturating_sub(TRANSITIONS);
        engine.recent = saved.transitions.into_iter().skip(surplus).collect();
        engine.orders = saved.orders.into_iter().take(ORDERS).collect();
        for saved in saved.components {
            let key = (saved.kind, saved.bdf.clone());
            let component = saved.component(clock.moment(now), same_boot);
            engine.components.insert(key, component);
        }
        Ok(engine)
    }

    /// Address, kind and identity of the components that it knows, whether the host still lists them or not: one that
    /// went while no agent ran must be looked at, to be missed.
    pub fn known(&self) -> impl Iterator<Item = (&str, Kind, &Identity)> {
        let components = self.components.values();
        components.map(|component| (component.bdf.as_str(), component.kind, &component.identity))
    }
}

impl SavedComponent {
    fn of(component: &Component) -> Result<Self, RestoreError> {
        let checks = component.checks.iter().map(|checked| {
            let memory = checked
                .check
                .save()
                .map_err(|source| RestoreError::Unsaved {
                    what: checked.judged.name.clone(),
                    source,
                })?;
            Ok(SavedCheck {
                judged: checked.judged.clone(),
                memory,
            })
        });
        Ok(Self {
            bdf: component.bdf.clone(),
            kind: component.kind,
            identity: component.identity.clone(),
            checks: checks.collect::<Result<_, _>>()?,
            flapping: component.flapping.clone(),
            repeat: component.repeat.clone(),
            episodes: component.episodes.clone(),
            state: component.state,
            since: component.since,
            told: component.told,
        })
    }

    fn component(self, now: Moment, same_boot: bool) -> Component {
        let mut component = Component::new(self.kind, self.bdf, now);
        component.identity = self.identity;
        component.flapping = self.flapping;
        component.repeat = self.repeat;
        component.episodes = self.episodes;
        component.state = self.state;
        component.since = self.since;
        component.told = self.told;
        for saved in self.checks {
            // A check that this version does not have any more has nothing to say.
            let named = |checked: &&mut Checked| checked.judged.name == saved.judged.name;
            let Some(checked) = component.checks.iter_mut().find(named) else {
                continue;
            };
            if let Err(error) = checked.check.restore(saved.memory) {
                // Its finding stands until it has seen something better.
                tracing::warn!(check = saved.judged.name, %error, "a check begins anew");
            }
            checked.judged = saved.judged;
            if !same_boot {
                checked.check.rebooted();
                if checked.judged.name == PRESENCE
                    && checked.judged.finding.state == HealthState::Healthy
                {
                    let reason = "not seen yet since the host was booted";
                    checked.judged.drop_finding(now, Finding::blind(reason));
                }
            }
        }
        component
    }
}
