//! Carrier flaps, by the kernel's count of times that the carrier went: polling misses most.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Growth, Latch, Window};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::Action;

/// A few in a row are somebody at the cable; more in a short time are not.
const DEGRADED: (u64, Duration) = (3, Duration::from_secs(600));
/// A port like this slows the whole job that depends on it.
const UNHEALTHY: (u64, Duration) = (10, Duration::from_secs(3600));
/// `ip link set down` counts as well.
const AFTER_ADMIN: Duration = Duration::from_secs(10);

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
        let (port, source) = view.port()?;
        let Some(downs) = port.carrier_down else {
            return Ok(Finding::not_applicable(
                "the kernel does not count them here",
            ));
        };
        let now = view.now.uptime;
        let admin_up = port.admin_up.unwrap_or(port.carrier.is_some());
        let changed = match self.admin {
            Some((before, changed)) if before == admin_up => changed,
            Some(_) => Some(now),
            None => None,
        };
        self.admin = Some((admin_up, changed));
        let Some(delta) = self.counter.step(now, downs) else {
            return Ok(Finding::blind(
                "seen once so far: what is new is not known yet",
            ));
        };
        let by_admin = changed.is_some_and(|changed| now.saturating_sub(changed) < AFTER_ADMIN);
        let counted = if by_admin || view.in_boot_grace() {
            Growth::now(false)
        } else {
            delta
        };
        let short = self.short.add(now, DEGRADED.1, counted);
        let long = self.long.add(now, UNHEALTHY.1, counted);
        let bad = short >= DEGRADED.0;
        let latched = self.latch.update(now, bad, bad, view.settings.clear_after);

        let evidence = |found: u64, (limit, span): (u64, Duration)| {
            let minutes = span.as_secs() / 60;
            view.evidence(
                "carrier_down_count",
                format!("+{found} in {minutes} min, total {downs}"),
                format!("fewer than {limit} in {minutes} min"),
                source,
            )
        };
        if long >= UNHEALTHY.0 {
            let reason = format!("the carrier went {long} times in an hour");
            return Ok(Finding::unhealthy(reason, Action::Drain).with(evidence(long, UNHEALTHY)));
        }
        if latched {
            let reason = "the carrier comes and goes";
            return Ok(Finding::degraded(reason, Action::Watch).with(evidence(short, DEGRADED)));
        }
        Ok(Finding::healthy(format!("{long} in the last hour")))
    }
}
