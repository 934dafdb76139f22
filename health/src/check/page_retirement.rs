//! Pages of device memory that were taken out of use, by their rate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Window};
use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// Retirement is rare: a bad row takes a few in a day, a bad bank goes on.
const SPAN: Duration = Duration::from_secs(86_400);

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    degraded: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { degraded: 8 }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "more than a lone bad row; a placeholder until silicon says";
        keys.within("degraded_per_day", &mut self.degraded, 1..=1_000_000, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PageRetirement {
    counter: Counter,
    day: Window,
    latch: Latch,
}

impl Check for PageRetirement {
    fn name(&self) -> &'static str {
        "page_retirement"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Vitals]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (vitals, source) = view.vitals()?;
        let now = view.now.uptime;
        let Some(delta) = self.counter.step(now, u64::from(vitals.retired_pages)) else {
            return Ok(Finding::blind(
                "seen once so far: the rate is not known yet",
            ));
        };
        let sum = self.day.add(now, SPAN, delta);
        let limit = view.settings.limits.page_retirement.degraded;
        let bad = sum >= limit;
        if !self.latch.update(now, bad, bad, view.settings.clear_after) {
            return Ok(Finding::healthy(format!("{sum} in the last day")));
        }
        let found = format!("+{sum} in 1 d, total {}", vitals.retired_pages);
        let evidence = view.evidence("retired_pages", found, format!("{limit} in 1 d"), source);
        let reason = format!("{sum} pages of its memory were retired in a day");
        Ok(Finding::degraded(reason, Action::Replace)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}
