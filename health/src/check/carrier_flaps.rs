//! Carrier flaps, by the kernel's count of times that the carrier went: polling misses most.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Growth, Latch, Window};
use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::FactKind;
use crate::verdict::Action;

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    degraded: (u64, Duration),
    unhealthy: (u64, Duration),
    after_admin: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            degraded: (3, Duration::from_secs(600)),
            unhealthy: (10, Duration::from_secs(3600)),
            after_admin: Duration::from_secs(10),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let spans = Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);
        let why = "one is somebody at the cable; more in a short time are not";
        keys.within("degraded_count", &mut self.degraded.0, 1..=10_000, why);
        let why = "the time in which degraded_count is too many";
        keys.within("degraded_window", &mut self.degraded.1, spans.clone(), why);
        let why = "a port like this slows the whole job that depends on it";
        keys.within("unhealthy_count", &mut self.unhealthy.0, 1..=10_000, why);
        let why = "the time in which unhealthy_count is too many";
        keys.within("unhealthy_window", &mut self.unhealthy.1, spans, why);
        let why = "ip link set down counts as well";
        let bounds = Duration::ZERO..=Duration::from_secs(600);
        keys.within("pardon_after_admin", &mut self.after_admin, bounds, why);
        let names = ["unhealthy_count", "degraded_count"];
        keys.require(self.degraded.0 < self.unhealthy.0, &names, || {
            format!("more than degraded_count, which is {}", self.degraded.0)
        });
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CarrierFlaps {
    counter: Counter,
    short: Window,
    long: Window,
    latch: Latch,
    /// Whether an administrator had it up, and when that last changed.
    admin: Option<(bool, Option<Duration>)>,
}

impl Check for CarrierFlaps {
    fn name(&self) -> &'static str {
        "carrier_flaps"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Port]
    }

    fn rebooted(&mut self) {
        self.counter = Counter::default();
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let now = view.now.uptime;
        if view.facts.port == Some(Ok(None))
            && let Some((_, changed)) = &mut self.admin
        {
            // Whoever moves it to another namespace and back is an administrator too.
            *changed = Some(now);
        }
        let (port, source) = view.port()?;
        let Some(downs) = port.carrier_down else {
            return Ok(Finding::not_applicable(
                "the kernel does not count them here",
            ));
        };
        let limits = &view.settings.limits.carrier_flaps;
        let admin_up = port.admin_up.unwrap_or(port.carrier.is_some());
        let changed = match self.admin {
            Some((before, changed)) if before == admin_up => changed,
            Some(_) => Some(now),
            None => None,
        };
        // Down and up again between two looks is seen in neither.
        let heard = view.facts.port_heard.map(|heard| {
            let ago = Duration::from_millis(heard.admin_changed_ms_ago);
            now.saturating_sub(ago)
        });
        let changed = changed.max(heard);
        self.admin = Some((admin_up, changed));
        let Some(delta) = self.counter.step(now, downs) else {
            return Ok(Finding::blind(
                "seen once so far: what is new is not known yet",
            ));
        };
        // Of what happened since the last look some may be from before the change; it cannot be told apart.
        let pardon = limits.after_admin.max(delta.over());
        let by_admin = limits.after_admin > Duration::ZERO
            && changed.is_some_and(|changed| now.saturating_sub(changed) < pardon);
        let counted = if by_admin || view.in_boot_grace() {
            Growth::now(false)
        } else {
            delta
        };
        let short = self.short.add(now, limits.degraded.1, counted);
        let long = self.long.add(now, limits.unhealthy.1, counted);
        let bad = short >= limits.degraded.0;
        let latched = self.latch.update(now, bad, bad, view.settings.clear_after);

        let evidence = |found: u64, (limit, span): (u64, Duration)| {
            let span = config::duration(span);
            view.evidence(
                "carrier_down_count",
                format!("+{found} in {span}, total {downs}"),
                format!("fewer than {limit} in {span}"),
                source,
            )
        };
        if long >= limits.unhealthy.0 {
            let span = config::duration(limits.unhealthy.1);
            let reason = format!("the carrier went {long} times in {span}");
            let evidence = evidence(long, limits.unhealthy);
            return Ok(Finding::unhealthy(reason, Action::Drain).with(evidence));
        }
        if latched {
            let reason = "the carrier comes and goes";
            let evidence = evidence(short, limits.degraded);
            return Ok(Finding::degraded(reason, Action::Watch).with(evidence));
        }
        let span = config::duration(limits.unhealthy.1);
        Ok(Finding::healthy(format!("{long} in the last {span}")))
    }
}
