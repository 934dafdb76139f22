//! Die temperature, held against the points that the chip advertises.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Held, Latch};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::status::celsius;
use crate::verdict::Action;

/// A chip that touches its throttle point under a burst of work is as it should be.
const THROTTLING: Duration = Duration::from_secs(60);
/// So near to the shutdown point there is no time to wait.
const NEAR_SHUTDOWN: Duration = Duration::from_secs(10);
/// How near, in tenths of a degree.
const MARGIN: i16 = 50;

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
        let edge = shutdown.saturating_sub(MARGIN);
        let near = self.near.update(now, die >= edge);
        let hot = self.hot.update(now, die >= throttle);
        let too_long = hot.is_some_and(|held| held >= THROTTLING);
        let latched = self
            .latch
            .update(now, too_long, die >= throttle, view.settings.clear_after);

        let found = format!("{:.1} C", celsius(die));
        let evidence = |limit: i16, held: Duration| {
            let limit = format!(
                "below {:.1} C, or above for less than {} s",
                celsius(limit),
                held.as_secs()
            );
            view.evidence("die_temperature", &found, limit, source)
        };
        if near.is_some_and(|held| held >= NEAR_SHUTDOWN) {
            let reason = format!("{found}: about to shut down at {:.1} C", celsius(shutdown));
            return Ok(
                Finding::unhealthy(reason, Action::Drain).with(evidence(edge, NEAR_SHUTDOWN))
            );
        }
        if latched {
            let reason = format!(
                "{found}: too long at the throttle point, {:.1} C",
                celsius(throttle)
            );
            return Ok(
                Finding::degraded(reason, Action::Watch).with(evidence(throttle, THROTTLING))
            );
        }
        Ok(Finding::healthy(found))
    }
}
