//! Die temperature, held against the points that the chip advertises.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Held, Latch};
use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::FactKind;
use crate::status::celsius;
use crate::verdict::Action;

/// Tenths of a degree that a die can have: beyond what one may be stored at (JESD22-A119 and A103), a sensor talks nonsense.
const POSSIBLE: RangeInclusive<i16> = -650..=1500;

/// Limits. The throttle and shutdown points themselves are the chip's.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    throttling: Duration,
    near_shutdown: Duration,
    margin_celsius: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            throttling: Duration::from_secs(60),
            near_shutdown: Duration::from_secs(10),
            margin_celsius: 5,
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        let why = "a chip that touches its throttle point under a burst of work is as it should be";
        keys.within("throttling_for", &mut self.throttling, bounds.clone(), why);
        let why = "so near to the shutdown point there is no time to wait";
        keys.within("near_shutdown_for", &mut self.near_shutdown, bounds, why);
        let why = "how near to the shutdown point is too near";
        keys.within(
            "shutdown_margin_celsius",
            &mut self.margin_celsius,
            0..=100,
            why,
        );
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Temperature {
    hot: Held,
    near: Held,
    latch: Latch,
}

impl Check for Temperature {
    fn name(&self) -> &'static str {
        "temperature"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let (throttle, shutdown) = (vitals.throttle_point, vitals.shutdown_point);
        if throttle <= 0 || shutdown <= throttle {
            return Ok(Finding::not_applicable(format!(
                "the chip advertises no usable limits: throttle point {} C, shutdown point {} C",
                celsius(throttle),
                celsius(shutdown)
            )));
        }
        let now = view.now.uptime;
        let die = vitals.die_temperature;
        // By whole numbers: this is made in each look, and a fraction in binary costs many times as much.
        let (sign, tenths) = (if die < 0 { "-" } else { "" }, die.unsigned_abs());
        let found = format!("{sign}{}.{} C", tenths / 10, tenths % 10);
        if !POSSIBLE.contains(&die) {
            return Ok(Finding::blind(format!(
                "the sensor says {found}, which no die has"
            )));
        }
        let limits = &view.settings.limits.temperature;
        let tenths = i16::try_from(limits.margin_celsius * 10).unwrap_or(i16::MAX);
        let edge = shutdown.saturating_sub(tenths);
        let near = self.near.update(now, die >= edge);
        let hot = self.hot.update(now, die >= throttle);
        let too_long = hot.is_some_and(|held| held >= limits.throttling);
        let latched = self
            .latch
            .update(now, too_long, die >= throttle, view.settings.clear_after);
        let evidence = |limit: i16, held: Duration| {
            let limit = format!(
                "below {:.1} C, or above for less than {}",
                celsius(limit),
                config::duration(held)
            );
            view.evidence("die_temperature", &found, limit, source)
        };
        if near.is_some_and(|held| held >= limits.near_shutdown) {
            let reason = format!("{found}: about to shut down at {:.1} C", celsius(shutdown));
            let evidence = evidence(edge, limits.near_shutdown);
            return Ok(Finding::unhealthy(reason, Action::Drain).with(evidence));
        }
        if latched {
            let reason = format!(
                "{found}: too long at the throttle point, {:.1} C",
                celsius(throttle)
            );
            let evidence = evidence(throttle, limits.throttling);
            return Ok(Finding::degraded(reason, Action::Watch).with(evidence));
        }
        Ok(Finding::healthy(found))
    }
}
