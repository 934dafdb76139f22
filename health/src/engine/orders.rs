//! What people order of the engine, and what it remembers of that.

use std::collections::BTreeMap;
use std::time::Duration;

use super::component::{Component, Rules};
use super::episodes::{FLAPPING, REPEAT};
use super::{Engine, held};
use crate::check::{self, Clearing, Finding, Settings};
use crate::facts::Kind;
use crate::operator::{Author, Done, HOST, Hold, Mode, Order, OrderError, Switch};
use crate::time::Moment;
use crate::verdict::{HealthState, Transition};

/// A hold that should last longer has no end, and says so.
const LONGEST_HOLD: u64 = 366 * 86_400;

/// Modes that were ordered at run time, by check.
#[derive(Clone, Debug, Default)]
pub(super) struct Modes {
    pub(super) switches: BTreeMap<String, Switch>,
}

impl Modes {
    /// The mode of a check: by order, else by configuration.
    pub(super) fn of(&self, check: &str, settings: &Settings) -> Mode {
        let ordered = self.switches.get(check).map(|switch| switch.mode);
        ordered
            .or_else(|| settings.modes.get(check).copied())
            .unwrap_or_default()
    }

    pub(super) fn why_off(&self, check: &str) -> String {
        match self.switches.get(check) {
            Some(switch) => format!("switched off by {}: {}", switch.author, switch.reason),
            None => "switched off by the configuration".to_owned(),
        }
    }
}

/// Names of all rules, of whatever kind of component.
#[must_use]
pub fn rules() -> Vec<&'static str> {
    let mut names = Vec::new();
    for kind in Kind::ALL {
        for check in check::for_kind(kind) {
            if !names.contains(&check.name()) {
                names.push(check.name());
            }
        }
    }
    names.extend([FLAPPING, REPEAT]);
    names
}

impl Engine {
    /// Does what somebody orders.
    ///
    /// # Errors
    /// [`OrderError`] when there is no such component or check, no reason, or the evidence is against it. Nothing is
    /// changed then.
    pub fn order(
        &mut self,
        at: Moment,
        author: &Author,
        order: Order,
    ) -> Result<(Done, Vec<Transition>), OrderError> {
        let at = self.clock.moment(at);
        let mut order = order.checked()?;
        let mut transitions = Vec::new();
        let outcome = match &mut order {
            Order::Hold {
                component,
                reason,
                seconds,
            } => {
                *component = self.address(component)?;
                self.hold(at, author, component, reason, *seconds)?
            }
            Order::Release { component, .. } => {
                // What is not listed any more can still be held.
                let known = self.holds.contains_key(component.as_str());
                if !known {
                    *component = self.address(component)?;
                }
                let held = self.holds.remove(component.as_str());
                let held = held.ok_or_else(|| OrderError::NotHeld {
                    component: component.clone(),
                })?;
                format!("released; it was {held}")
            }
            Order::Clear {
                component,
                check,
                reason,
            } => {
                *component = self.address(component)?;
                let why = format!("cleared by {author}: {reason}");
                let (outcome, changes) = self.clear(at, component, check.as_deref(), &why)?;
                transitions = changes;
                outcome
            }
            Order::Switch {
                check,
                mode,
                reason,
            } => self.switch(at, author, check, *mode, reason)?,
        };
        self.pardon(at, &order);
        self.remember(&transitions);
        let done = Done {
            at_unix_ms: at.unix_ms,
            author: Some(author.clone()),
            order,
            outcome,
        };
        self.record(&done);
        Ok((done, transitions))
    }

    /// Ends the holds whose time is over.
    pub fn expire(&mut self, now: Moment) -> Vec<Done> {
        let now = self.clock.moment(now);
        let over: Vec<Hold> = self
            .holds
            .values()
            .filter(|hold| hold.is_over(now))
            .cloned()
            .collect();
        let mut ended = Vec::new();
        for hold in over {
            self.holds.remove(&hold.component);
            let done = Done {
                at_unix_ms: now.unix_ms,
                author: None,
                outcome: format!("its time is over; it was {hold}"),
                order: Order::Release {
                    component: hold.component,
                    reason: None,
                },
            };
            self.record(&done);
            ended.push(done);
        }
        ended
    }

    /// The holds that stand.
    pub fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    /// The modes that were ordered at run time.
    pub fn switches(&self) -> impl Iterator<Item = &Switch> {
        self.modes.switches.values()
    }

    /// The address of a component that is named by address, serial number, slot or interface.
    pub(crate) fn address(&self, name: &str) -> Result<String, OrderError> {
        if name == HOST {
            return Ok(HOST.to_owned());
        }
        let found = self.components.values().find(|component| {
            let mut names = component.identity.names(&component.bdf);
            names.any(|known| known == name)
        });
        found
            .map(|component| component.bdf.clone())
            .ok_or_else(|| OrderError::UnknownComponent {
                found: name.to_owned(),
                known: self
                    .components
                    .values()
                    .map(|component| component.bdf.clone())
                    .collect(),
            })
    }

    fn hold(
        &mut self,
        at: Moment,
        author: &Author,
        component: &str,
        reason: &str,
        seconds: Option<u64>,
    ) -> Result<String, OrderError> {
        if let Some(seconds) = seconds
            && !(1..=LONGEST_HOLD).contains(&seconds)
        {
            return Err(OrderError::BadTime { seconds });
        }
        let hold = Hold {
            component: component.to_owned(),
            author: author.clone(),
            reason: reason.to_owned(),
            since: at,
            lasts: seconds.map(Duration::from_secs),
        };
        let mut outcome = match seconds {
            Some(seconds) => format!("{hold}; for {seconds} s"),
            None => format!("{hold}; until it is released"),
        };
        if let Some(former) = self.holds.insert(component.to_owned(), hold) {
            outcome.push_str(&format!("; before it was {former}"));
        }
        Ok(outcome)
    }

    fn switch(
        &mut self,
        at: Moment,
        author: &Author,
        check: &str,
        mode: Option<Mode>,
        reason: &str,
    ) -> Result<String, OrderError> {
        let known = rules();
        if !known.contains(&check) {
            return Err(OrderError::UnknownCheck {
                found: check.to_owned(),
                known: known.into_iter().map(str::to_owned).collect(),
            });
        }
        let before = self.modes.of(check, &self.settings);
        match mode {
            Some(mode) => {
                let switch = Switch {
                    check: check.to_owned(),
                    mode,
                    author: author.clone(),
                    reason: reason.to_owned(),
                    at_unix_ms: at.unix_ms,
                };
                self.modes.switches.insert(check.to_owned(), switch);
            }
            None => {
                self.modes.switches.remove(check);
            }
        }
        let after = self.modes.of(check, &self.settings);
        Ok(format!("{check} is {after}, it was {before}"))
    }

    fn clear(
        &mut self,
        at: Moment,
        address: &str,
        check: Option<&str>,
        why: &str,
    ) -> Result<(String, Vec<Transition>), OrderError> {
        let rules = Rules {
            settings: &self.settings,
            modes: &self.modes,
            hold: held(&self.holds, address),
            host: None,
        };
        let nothing = |what: &str| OrderError::NothingToClear {
            component: address.to_owned(),
            what: what.to_owned(),
        };
        let component = self
            .components
            .values_mut()
            .find(|component| component.bdf == address)
            .ok_or_else(|| nothing("name one component"))?;
        let (cleared, transitions) = component.clear(at, check, why, rules)?;
        if cleared.is_empty() {
            return Err(nothing("no check holds anything against it"));
        }
        Ok((format!("cleared: {}", cleared.join(", ")), transitions))
    }

    /// What follows an order at once is of its making.
    fn pardon(&mut self, at: Moment, order: &Order) {
        let component = match order {
            Order::Hold { component, .. }
            | Order::Release { component, .. }
            | Order::Clear { component, .. } => component,
            Order::Switch { .. } => HOST,
        };
        let all = component == HOST;
        for known in self.components.values_mut() {
            if all || known.bdf == *component {
                known.episodes.ordered(at);
            }
        }
    }
}

impl Component {
    /// Drops what is held against it; the names of the rules that held something.
    fn clear(
        &mut self,
        at: Moment,
        only: Option<&str>,
        why: &str,
        rules: Rules<'_>,
    ) -> Result<(Vec<String>, Vec<Transition>), OrderError> {
        if let Some(only) = only
            && !self.judged().any(|judged| judged.name == only)
        {
            return Err(OrderError::UnknownCheck {
                found: only.to_owned(),
                known: self.judged().map(|judged| judged.name.clone()).collect(),
            });
        }
        let meant = |name: &str| only.is_none_or(|only| only == name);
        let ill = |state: HealthState| state >= HealthState::Degraded;
        // All are asked before one is changed.
        for checked in &self.checks {
            let judged = &checked.judged;
            if meant(&judged.name)
                && ill(judged.finding.state)
                && let Clearing::Refused(reason) = checked.check.clearing()
            {
                return Err(OrderError::Refused {
                    component: self.bdf.clone(),
                    check: judged.name.clone(),
                    reason,
                });
            }
        }
        let mut cleared = Vec::new();
        let mut transitions = Vec::new();
        let kind = self.kind;
        let mut checks = std::mem::take(&mut self.checks);
        for checked in &mut checks {
            if !meant(&checked.judged.name) || !ill(checked.judged.finding.state) {
                continue;
            }
            match checked.check.clearing() {
                Clearing::ByCheck => checked.check.clear(why),
                _ => checked.start_anew(kind),
            }
            cleared.push(checked.judged.name.clone());
            let change = checked.judged.drop_finding(at, Finding::blind(why));
            if let Some(change) = change {
                transitions.push(self.change(at, &checked.judged, change));
            }
        }
        self.checks = checks;
        if meant(FLAPPING) && ill(self.flapping.finding.state) {
            self.episodes.forget_flaps();
            cleared.push(FLAPPING.to_owned());
        }
        if meant(REPEAT) && ill(self.repeat.finding.state) {
            self.episodes.forget_offences();
            cleared.push(REPEAT.to_owned());
        }
        transitions.extend(self.settle(at, rules));
        Ok((cleared, transitions))
    }
}
