//! The lines of a recording.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::Settings;
use crate::engine::{Engine, Saved};
use crate::facts::{Class, FactKind, Kind};
use crate::operator::{Author, Order};
use crate::probe::ProbeError;
use crate::probe::target::Sample;
use crate::time::Moment;

/// Of which boot a recorded memory is: of the one in which it goes on.
pub(super) const THIS_BOOT: &str = "recorded";

/// Where an engine begins.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// When.
    pub at: Moment,
    /// The host's boot on the clock of [`Moment::uptime`]; `None` when it was long ago.
    pub booted: Option<Duration>,
    /// What it is judged by, as TOML: what differs from the defaults.
    #[serde(default)]
    pub config: String,
    /// What the engine remembered already.
    #[serde(default)]
    pub memory: Option<Box<Saved>>,
}

impl Start {
    /// Where an engine begins that remembers what it does, and judges by these settings.
    #[must_use]
    pub fn of(engine: &Engine, settings: &Settings, at: Moment) -> Self {
        let knows = engine.known().next().is_some() || engine.holds().next().is_some();
        let memory = match knows {
            true => engine.saved(at, Some(THIS_BOOT)).map_err(|error| {
                tracing::error!(%error, "the recording begins without what the agent remembers");
            }),
            false => Err(()),
        };
        Self {
            memory: memory.ok().map(Box::new),
            ..Self::without_memory(settings, at)
        }
    }

    /// The same for settings alone.
    #[must_use]
    pub fn without_memory(settings: &Settings, at: Moment) -> Self {
        Self {
            at,
            booted: settings.booted,
            config: settings.to_toml(),
            memory: None,
        }
    }
}

/// One thing that an engine is fed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// An agent starts.
    Start(Box<Start>),
    /// A look.
    Look(Box<Sample>),
    /// A look that saw nothing.
    Miss {
        /// Address of the component.
        bdf: String,
        /// What it is.
        kind: Kind,
        /// When.
        at: Moment,
        /// What was to be read.
        class: Class,
        /// Why it was not.
        error: ProbeError,
    },
    /// What somebody ordered.
    Order {
        /// When.
        at: Moment,
        /// Who.
        author: Author,
        /// What.
        order: Order,
    },
    /// The time of a hold is over.
    Expire(Moment),
    /// A component is another now.
    Forget {
        /// Its address.
        bdf: String,
        /// What it was.
        kind: Kind,
    },
    /// Another configuration.
    Settings(Box<Start>),
}

/// A look, as what has changed since the last of its like. Every other entry is written as it is.
#[derive(Serialize, Deserialize)]
pub(super) struct Again {
    pub(super) bdf: String,
    pub(super) kind: Kind,
    pub(super) class: Class,
    pub(super) changes: Value,
}

/// Its key in a line.
pub(super) const AGAIN: &str = "again";
/// The key of a look in full.
pub(super) const LOOK: &str = "look";

/// What looks are compared with: the last of the same component that read the same.
pub(super) type Like = (Kind, String, Class);

/// What a look is like.
pub(super) fn like(sample: &Sample) -> Like {
    let kinds = |class| FactKind::read_by(class, sample.kind);
    // A kind of component of which a class reads no more than the one below has no looks of its own in it.
    let holds = |(class, below): &(Class, Class)| {
        let (own, below) = (kinds(*class), kinds(*below));
        own.len() > below.len() && sample.facts.hold(&own)
    };
    let classes = [(Class::Rare, Class::Slow), (Class::Slow, Class::Fast)];
    let class = classes.into_iter().find(holds);
    let class = class.map_or(Class::Fast, |(class, _)| class);
    (sample.kind, sample.bdf.to_string(), class)
}
