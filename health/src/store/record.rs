//! What is kept: events, and records of the kernel log.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operator::{Done, HOST, Order};
use crate::verdict::{HealthState, Transition};

/// Version of the events document; a new field does not change it, a changed meaning does.
pub const SCHEMA: u32 = 1;

/// [`Record::kind`] of a change of state.
pub const TRANSITION: &str = "transition";
/// [`Record::kind`] of something that was ordered.
pub const ORDER: &str = "order";

/// Something to be kept and told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// What kind of thing it is. A reader that does not know one still has the summary.
    pub kind: String,
    /// Address of the component; `None` for the host and for the agent itself.
    pub component: Option<String>,
    /// All of it, in a sentence.
    pub summary: String,
    /// The same for programs, in the form that the kind has.
    #[serde(default)]
    pub details: Value,
}

impl Record {
    /// A record on the agent itself.
    #[must_use]
    pub fn of_agent(at_unix_ms: u64, kind: &str, summary: impl Into<String>) -> Self {
        Self {
            at_unix_ms,
            kind: kind.to_owned(),
            component: None,
            summary: summary.into(),
            details: Value::Null,
        }
    }
}

impl From<&Transition> for Record {
    fn from(transition: &Transition) -> Self {
        let what = transition.check.as_deref().unwrap_or("component");
        let to = transition.to;
        let change = match transition.from {
            Some(from) => format!("{from} -> {to}"),
            None => to.to_string(),
        };
        Self {
            at_unix_ms: transition.at_unix_ms,
            kind: TRANSITION.to_owned(),
            component: Some(transition.component.clone()),
            summary: format!("{what}: {change}: {}", transition.reason),
            // Its keys are strings, so it is always JSON; without details the summary remains.
            details: serde_json::to_value(transition).unwrap_or_default(),
        }
    }
}

impl From<&Done> for Record {
    fn from(done: &Done) -> Self {
        let (component, what) = match &done.order {
            Order::Hold { component, .. } => (Some(component), "hold"),
            Order::Release { component, .. } => (Some(component), "release"),
            Order::Clear { component, .. } => (Some(component), "clear"),
            Order::Switch { .. } => (None, "switch"),
        };
        let author = match &done.author {
            Some(author) => author.to_string(),
            None => "the agent".to_owned(),
        };
        Self {
            at_unix_ms: done.at_unix_ms,
            kind: ORDER.to_owned(),
            component: component.filter(|name| *name != HOST).cloned(),
            summary: format!("{what} by {author}: {}", done.outcome),
            details: serde_json::to_value(done).unwrap_or_default(),
        }
    }
}

/// A record that has its place among all others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Grows with each event, over all restarts. Some numbers may be missing.
    pub id: u64,
    /// The boot in which it happened.
    pub boot_id: String,
    /// Whether it is on disk. One that is not, because the disk is full or failing, is lost if the
    /// agent ends before it could be written, and its id may then be given again.
    pub stored: bool,
    /// What happened.
    #[serde(flatten)]
    pub record: Record,
}

impl Event {
    /// The change of state that it tells, if it tells one.
    #[must_use]
    pub fn transition(&self) -> Option<Transition> {
        if self.record.kind != TRANSITION {
            return None;
        }
        serde_json::from_value(self.record.details.clone()).ok()
    }

    /// Whether somebody who looks for trouble wants to know of it. That a check was found well for the first time, or has
    /// nothing to say, is none.
    #[must_use]
    pub fn is_news(&self) -> bool {
        let ill = |state: HealthState| state >= HealthState::Degraded;
        self.transition().is_none_or(|change| {
            change.check.is_none() || ill(change.to) || change.from.is_some_and(ill)
        })
    }

    /// The order that it tells, if it tells one.
    #[must_use]
    pub fn order(&self) -> Option<Done> {
        if self.record.kind != ORDER {
            return None;
        }
        serde_json::from_value(self.record.details.clone()).ok()
    }
}

/// A record of the kernel log. Boot and sequence number are its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRecord {
    /// The kernel's sequence number.
    pub sequence: u64,
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// Syslog priority, 0 to 7.
    pub priority: u8,
    /// The text.
    pub text: String,
}

/// What was read of the kernel log in one go: kept all or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelBatch {
    /// Records that are kept, each once, and the events that they give rise to.
    pub records: Vec<(KernelRecord, Option<Record>)>,
    /// What else is to be told, as that some were lost.
    pub events: Vec<Record>,
    /// The sequence number up to which the log has been read.
    pub seen: Option<u64>,
}

impl KernelBatch {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.events.is_empty()
    }
}

impl From<Vec<(KernelRecord, Option<Record>)>> for KernelBatch {
    fn from(records: Vec<(KernelRecord, Option<Record>)>) -> Self {
        Self {
            records,
            ..Self::default()
        }
    }
}

/// Which events are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Those with a greater id.
    #[serde(default)]
    pub after: u64,
    /// Those at or after this Unix time in milliseconds.
    #[serde(default)]
    pub since: Option<u64>,
    /// Those of one component.
    #[serde(default)]
    pub component: Option<String>,
    /// At most so many, the oldest of them; [`MOST`] when it is more.
    #[serde(default)]
    pub limit: Option<usize>,
    /// The newest of them instead.
    #[serde(default)]
    pub newest: bool,
    /// Without what is no news: that a check was found well for the first time, or has nothing to say.
    #[serde(default)]
    pub news: bool,
}

/// Events in one answer, at most.
pub const MOST: usize = 1000;

impl Query {
    /// The limit in force.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(MOST).min(MOST)
    }

    /// Whether an event is asked for.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        event.id > self.after
            && self.takes(event)
            && self
                .since
                .is_none_or(|since| event.record.at_unix_ms >= since)
            && self
                .component
                .as_ref()
                .is_none_or(|component| event.record.component.as_ref() == Some(component))
    }
}

impl Query {
    /// Cuts what was found down to the limit; whether there was more.
    pub(super) fn cut(&self, events: &mut Vec<Event>) -> bool {
        let surplus = events.len().saturating_sub(self.limit());
        match self.newest {
            true => drop(events.drain(..surplus)),
            false => events.truncate(self.limit()),
        }
        surplus > 0
    }

    /// Whether an event is news enough.
    pub(super) fn takes(&self, event: &Event) -> bool {
        !self.news || event.is_news()
    }
}

/// Events in the order of their ids: what `/v1/events` serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The events.
    pub events: Vec<Event>,
    /// Whether there are more that match: newer ones, to be asked for after the last of these; or older ones, when the
    /// newest were asked for.
    pub more: bool,
    /// The greatest id that was given to any event.
    pub last_id: u64,
    /// Events up to this id are kept no more.
    pub forgotten_through: u64,
}
