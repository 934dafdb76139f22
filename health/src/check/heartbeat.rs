//! Heartbeat: a firmware that hangs cannot say so, its heartbeat can.

use std::time::Duration;

use auk_asic::State;
use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::{FactKind, PowerState};
use crate::verdict::Action;

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    still: Duration,
    looks: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            still: Duration::from_secs(3),
            looks: 3,
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "it counts at 10 Hz, so 3 s are thirty missed beats";
        let bounds = Duration::from_secs(1)..=Duration::from_secs(300);
        keys.within("still_for", &mut self.still, bounds, why);
        let why = "as many looks must agree: an agent that was itself stopped blames nobody";
        keys.within("looks", &mut self.looks, 1..=100, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Heartbeat {
    /// The last count, when it came, and how often it was seen again.
    last: Option<(u32, Duration, u32)>,
    /// Since when it beats.
    beating: Option<Duration>,
    hung: bool,
}

impl Check for Heartbeat {
    fn name(&self) -> &'static str {
        "heartbeat"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals, FactKind::PowerState]
    }

    fn rebooted(&mut self) {
        self.last = None;
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let now = view.now.uptime;
        let limits = &view.settings.limits.heartbeat;
        let power = *super::known(&view.facts.power_state)?;
        if power != PowerState::D0 || vitals.state != State::Running {
            self.last = None;
            self.beating = None;
            let reason = match power {
                PowerState::D0 => format!("no heartbeat in firmware state {}", vitals.state),
                _ => "no heartbeat outside D0".to_owned(),
            };
            // Asleep or restarting says nothing about the hang that was; the next beats do.
            return Ok(match self.hung {
                true => Finding::blind(reason),
                false => Finding::not_applicable(reason),
            });
        }
        let Some((count, since, looks)) = &mut self.last else {
            self.last = Some((vitals.heartbeat, now, 0));
            return Ok(Finding::blind(
                "seen once so far: whether it beats is not known yet",
            ));
        };
        if *count != vitals.heartbeat {
            self.last = Some((vitals.heartbeat, now, 0));
            return Ok(self.beat(now, limits));
        }
        *looks = looks.saturating_add(1);
        let still = now.saturating_sub(*since);
        if *looks >= limits.looks && still >= limits.still {
            self.hung = true;
            self.beating = None;
            let found = format!("{count} unchanged for {:.1} s", still.as_secs_f64());
            let within = config::duration(limits.still);
            let limit = format!("a change within {within} in D0 and Running");
            let evidence = view.evidence("heartbeat", found, limit, source);
            let reason = "the firmware hangs: its heartbeat stands still";
            return Ok(Finding::unhealthy(reason, Action::Reset).with(evidence));
        }
        if self.hung || self.beating.is_none() {
            return Ok(Finding::blind("no beat seen yet"));
        }
        Ok(Finding::healthy(format!(
            "no beat for {:.1} s",
            still.as_secs_f64()
        )))
    }
}

impl Heartbeat {
    fn beat(&mut self, now: Duration, limits: &Limits) -> Finding {
        let beating = now.saturating_sub(*self.beating.get_or_insert(now));
        if self.hung && beating < limits.still {
            return Finding::pending("it beats again, not long enough to trust it");
        }
        self.hung = false;
        Finding::healthy("it beats")
    }
}
