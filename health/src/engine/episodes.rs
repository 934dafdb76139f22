//! What a component's past says of it: states that come and go, and trouble that comes back for days.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::check::over_time::{Growth, Latch, Window};
use crate::check::{Finding, Settings};
use crate::time::Moment;
use crate::verdict::{Action, Confidence, Evidence, HealthState};

/// Name of the rule on states that come and go.
pub(super) const FLAPPING: &str = "flapping";
/// Name of the rule on trouble that comes back.
pub(super) const REPEAT: &str = "repeat_offender";

/// How evidence of the agent's own memory names its source.
const SOURCE: &str = "the agent's own record";
/// More offences than any rule asks for need not be remembered.
const MOST: usize = 64;

/// A component's past.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Episodes {
    state: HealthState,
    short: Window,
    long: Window,
    latch: Latch,
    /// When it became unhealthy, within the span of the rule.
    offences: VecDeque<Moment>,
    /// Too many of them: from then on only a person's word ends it.
    convicted: bool,
    /// When somebody last ordered something here.
    ordered: Option<Moment>,
}

impl Episodes {
    pub(super) fn new() -> Self {
        Self {
            state: HealthState::Unobservable,
            short: Window::default(),
            long: Window::default(),
            latch: Latch::default(),
            offences: VecDeque::new(),
            convicted: false,
            ordered: None,
        }
    }

    /// Somebody does something here: what follows at once is of their making.
    pub(super) fn ordered(&mut self, at: Moment) {
        self.ordered = Some(at);
    }

    pub(super) fn forget_flaps(&mut self) {
        self.short = Window::default();
        self.long = Window::default();
        self.latch = Latch::default();
    }

    pub(super) fn forget_offences(&mut self) {
        self.offences.clear();
        self.convicted = false;
    }

    /// Takes over what a card did in another place.
    pub(super) fn inherit(&mut self, other: &mut Self) {
        self.offences.append(&mut other.offences);
        self.offences.make_contiguous().sort_unstable();
        self.convicted |= std::mem::take(&mut other.convicted);
    }

    /// Whether anything is remembered that would follow the card.
    pub(super) fn is_clean(&self) -> bool {
        self.offences.is_empty() && !self.convicted
    }

    /// Takes the state that the checks give; what the two rules say. `excused` is trouble that is not the
    /// component's own: the port above is gone, or somebody works on it.
    pub(super) fn update(
        &mut self,
        now: Moment,
        state: HealthState,
        excused: bool,
        settings: &Settings,
    ) -> (Finding, Finding) {
        let before = std::mem::replace(&mut self.state, state);
        let by_hand = self
            .ordered
            .is_some_and(|ordered| now.since(ordered) < settings.flaps_pardon);
        let into = |least: HealthState| before < least && state >= least && !excused;
        let flap = into(HealthState::Degraded) && !by_hand;
        if into(HealthState::Unhealthy) {
            self.offences.push_back(now);
        }
        let (limit, span) = settings.repeat;
        while self.offences.len() > MOST
            || self
                .offences
                .front()
                .is_some_and(|offence| now.since(*offence) >= span)
        {
            self.offences.pop_front();
        }
        self.convicted |= self.offences.len() as u64 >= limit;
        (
            self.flapping(now, Growth::now(flap), settings),
            self.repeat(now, settings),
        )
    }

    fn flapping(&mut self, now: Moment, flaps: Growth, settings: &Settings) -> Finding {
        let short = self.short.add(now.uptime, settings.flaps_degraded.1, flaps);
        let long = self.long.add(now.uptime, settings.flaps_unhealthy.1, flaps);
        let bad = short >= settings.flaps_degraded.0;
        let latched = self
            .latch
            .update(now.uptime, bad, bad, settings.clear_after);
        let evidence = |count: u64, (limit, span): (u64, std::time::Duration)| {
            let minutes = span.as_secs() / 60;
            Evidence {
                what: "changes into trouble".to_owned(),
                found: format!("{count} in {minutes} min"),
                limit: format!("fewer than {limit} in {minutes} min"),
                source: SOURCE.to_owned(),
                at_unix_ms: now.unix_ms,
            }
        };
        if long >= settings.flaps_unhealthy.0 {
            let reason = format!("it went from well to ill {long} times in an hour");
            return Finding::unhealthy(reason, Action::Drain)
                .with(evidence(long, settings.flaps_unhealthy))
                .sure(Confidence::Medium);
        }
        if latched {
            return Finding::degraded("it goes from well to ill and back", Action::Watch)
                .with(evidence(short, settings.flaps_degraded))
                .sure(Confidence::Medium);
        }
        Finding::healthy("its state is steady")
    }

    fn repeat(&self, now: Moment, settings: &Settings) -> Finding {
        let (limit, span) = settings.repeat;
        let days = span.as_secs() / 86_400;
        let count = self.offences.len();
        if !self.convicted {
            return Finding::healthy(format!("unhealthy {count} times in {days} days"));
        }
        let reason = format!(
            "it was unhealthy {limit} times within {days} days: it does not clear by itself any more"
        );
        Finding::unhealthy(reason, Action::Replace)
            .with(Evidence {
                what: "times unhealthy".to_owned(),
                found: format!("{count} in {days} days"),
                limit: format!("fewer than {limit} in {days} days, or `auk clear`"),
                source: SOURCE.to_owned(),
                at_unix_ms: now.unix_ms,
            })
            .sure(Confidence::Medium)
    }
}
