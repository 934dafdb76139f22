//! What befell one interface, and what of that is still to be told.

use std::time::Duration;

use serde_json::{Value, json};

use super::book::Owner;
use crate::probe::rtnetlink::LinkMessage;
use crate::store::Record;
use crate::time::Moment;

/// [`Record::kind`] of a carrier that came or went.
const CARRIER: &str = "carrier";
/// [`Record::kind`] of what else befell an interface.
const INTERFACE: &str = "interface";
/// What comes within this time of what was told last is told together. All is to be told within 100 ms.
const TOGETHER: Duration = Duration::from_millis(20);
/// Of one interface so many are told at once, and then one in so long, with all that came together since: a port that flaps for
/// nights must not push everything else out of the store.
const AT_ONCE: u32 = 2500;
const THEN_EACH: Duration = Duration::from_secs(10);

/// An interface of a component.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) bdf: String,
    pub(super) name: String,
    pub(super) gone: bool,
    admin_up: Option<bool>,
    pub(super) admin_changed: Option<Moment>,
    pub(super) carrier: Option<bool>,
    ups: u32,
    pub(super) downs: u32,
    untold: Untold,
    told: Option<Moment>,
    allowance: Allowance,
}

const SET_UP: &str = "was set up";
const SET_DOWN: &str = "was set down";

/// What was not told yet.
#[derive(Debug, Default)]
struct Untold {
    since: Option<Moment>,
    ups: u32,
    downs: u32,
    said: Vec<String>,
}

/// How many more may be told at once.
#[derive(Debug)]
struct Allowance {
    left: u32,
    filled: Duration,
}

impl Untold {
    fn say(&mut self, now: Moment, what: String) {
        /// Of an interface that is renamed or set up and down without end the first will do.
        const MOST: usize = 8;
        self.since.get_or_insert(now);
        if self.said.len() < MOST {
            self.said.push(what);
        }
    }

    /// Grows with whatever is new.
    fn size(&self) -> (u32, u32, usize) {
        (self.ups, self.downs, self.said.len())
    }
}

impl Allowance {
    fn fill(&mut self, now: Moment) {
        let passed = now.uptime.saturating_sub(self.filled);
        let more = passed.as_millis() / THEN_EACH.as_millis();
        let more = u32::try_from(more).unwrap_or(AT_ONCE);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(AT_ONCE);
            self.filled = self.filled.saturating_add(THEN_EACH.saturating_mul(more));
        }
    }

    fn wait(&self, now: Moment) -> Duration {
        match self.left {
            0 => (self.filled + THEN_EACH).saturating_sub(now.uptime),
            _ => Duration::ZERO,
        }
    }

    fn take(&mut self, now: Moment) {
        self.fill(now);
        self.left = self.left.saturating_sub(1);
    }
}

impl Interface {
    /// One of which the last look at its component is the base line, else what is said now.
    pub(super) fn new(now: Moment, message: &LinkMessage, owner: &Owner) -> Self {
        let port = owner.port.filter(|port| port.index == Some(message.index));
        let narrow = |count: Option<u64>| count.and_then(|count| u32::try_from(count).ok());
        let seen = |look: Option<u64>, said: Option<u32>| narrow(look).or(said).unwrap_or_default();
        Self {
            bdf: owner.bdf.clone(),
            name: message.name.clone().unwrap_or_default(),
            gone: false,
            admin_up: port.and_then(|port| port.admin_up),
            admin_changed: None,
            carrier: port.and_then(|port| port.carrier),
            ups: seen(port.and_then(|port| port.carrier_up), message.carrier_up),
            downs: seen(
                port.and_then(|port| port.carrier_down),
                message.carrier_down,
            ),
            untold: Untold::default(),
            told: None,
            allowance: Allowance {
                left: AT_ONCE,
                filled: now.uptime,
            },
        }
    }

    /// Whether it said anything new.
    pub(super) fn hear(&mut self, now: Moment, message: &LinkMessage) -> bool {
        let before = self.untold.size();
        if let Some(name) = message.name.as_ref().filter(|name| **name != self.name) {
            if !self.name.is_empty() {
                self.untold.say(now, format!("is called {name} now"));
            }
            self.name.clone_from(name);
        }
        if message.gone {
            // That it is taken down before is part of it.
            self.untold.said.retain(|said| said != SET_DOWN);
            self.untold.say(
                now,
                "is gone: deleted, or in another network namespace".to_owned(),
            );
            self.gone = true;
            self.admin_up = None;
            self.carrier = None;
            self.admin_changed = Some(now);
            return true;
        }
        if std::mem::take(&mut self.gone) {
            self.untold.say(now, "is here again".to_owned());
            self.admin_changed = Some(now);
        }
        if self.admin_up.is_some_and(|up| up != message.admin_up) {
            let said = if message.admin_up { SET_UP } else { SET_DOWN };
            self.untold.say(now, said.to_owned());
            self.admin_changed = Some(now);
        }
        self.admin_up = Some(message.admin_up);
        self.carrier = message.carrier.or(self.carrier);
        self.count(now, message.carrier_up, message.carrier_down);
        self.untold.size() != before
    }

    /// Takes counts as they are now. Those of an older message are below what is known.
    pub(super) fn count(&mut self, now: Moment, ups: Option<u32>, downs: Option<u32>) {
        /// More than this cannot have happened since; the kernel's counts have 32 bits.
        const AHEAD: u32 = u32::MAX / 2;
        let grown = |known: &mut u32, count: Option<u32>| {
            let grown = count.map_or(0, |count| count.wrapping_sub(*known));
            if grown > AHEAD {
                return 0;
            }
            *known = known.wrapping_add(grown);
            grown
        };
        let (ups, downs) = (grown(&mut self.ups, ups), grown(&mut self.downs, downs));
        if ups > 0 || downs > 0 {
            self.untold.since.get_or_insert(now);
            self.untold.ups = self.untold.ups.saturating_add(ups);
            self.untold.downs = self.untold.downs.saturating_add(downs);
        }
    }

    pub(super) fn wait(&self, now: Moment) -> Option<Duration> {
        self.untold.since?;
        let together = self
            .told
            .map(|told| TOGETHER.saturating_sub(now.since(told)));
        let together = together.unwrap_or_default();
        Some(together.max(self.allowance.wait(now)))
    }

    pub(super) fn due(&mut self, now: Moment, index: u32) -> Option<Record> {
        if self.wait(now)? > Duration::ZERO {
            return None;
        }
        self.allowance.take(now);
        self.told = Some(now);
        let untold = std::mem::take(&mut self.untold);
        Some(self.record(untold, now, index))
    }

    /// Whether there is something that was not told yet.
    pub(super) fn has_news(&self) -> bool {
        self.untold.since.is_some()
    }

    fn record(&self, untold: Untold, now: Moment, index: u32) -> Record {
        let Untold {
            since,
            ups,
            downs,
            mut said,
        } = untold;
        let times = |count: u32| match count {
            1 => String::new(),
            count => format!(" {count} times"),
        };
        let mut carrier = Vec::new();
        if downs > 0 {
            carrier.push(format!("went{}", times(downs)));
        }
        if ups > 0 {
            carrier.push(format!("came{}", times(ups)));
        }
        if !carrier.is_empty() {
            let is = match self.carrier {
                Some(true) => "is there",
                Some(false) => "is not there",
                None => "cannot be told",
            };
            let carrier = carrier.join(" and ");
            said.push(format!(
                "the carrier {carrier}, and {is} now; it went {} and came {} times in all",
                self.downs, self.ups
            ));
        }
        Record {
            at_unix_ms: since.unwrap_or(now).unix_ms,
            kind: if ups + downs > 0 { CARRIER } else { INTERFACE }.to_owned(),
            component: Some(self.bdf.clone()),
            summary: format!("{}: {}", self.name, said.join("; ")),
            details: self.details(ups, downs, index),
        }
    }

    fn details(&self, ups: u32, downs: u32, index: u32) -> Value {
        json!({
            "interface": self.name,
            "index": index,
            "admin_up": self.admin_up,
            "carrier": self.carrier,
            "ups": ups,
            "downs": downs,
            "carrier_up_count": self.ups,
            "carrier_down_count": self.downs,
        })
    }
}
