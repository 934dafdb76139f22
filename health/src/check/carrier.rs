//! Carrier: a port that was up is up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Held, Majority, Samples};
use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::FactKind;
use crate::verdict::Action;

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    samples: Samples,
    down_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            samples: Samples::default(),
            down_for: Duration::from_secs(10),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        self.samples.keys(keys);
        let why = "a link that retrains is back by then; a port that is not is out of use";
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        keys.within("down_for", &mut self.down_for, bounds, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Carrier {
    was_up: bool,
    down: Held,
    samples: Majority,
}

impl Check for Carrier {
    fn name(&self) -> &'static str {
        "carrier"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Port]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (port, source) = view.port()?;
        let now = view.now.uptime;
        let limits = &view.settings.limits.carrier;
        if port.admin_up == Some(false) || port.carrier.is_none() {
            self.down.update(now, false);
            return Ok(Finding::not_applicable("the interface is set down"));
        }
        self.was_up |= port.carrier == Some(true) || port.carrier_up.is_some_and(|ups| ups > 0);
        let no_carrier = port.carrier == Some(false);
        let lasts = self.samples.push(no_carrier, limits.samples);
        let Some(down) = self.down.update(now, no_carrier) else {
            return Ok(Finding::healthy("up"));
        };
        if !self.was_up {
            return Ok(Finding::not_applicable(
                "never up since the driver was loaded: no cable?",
            ));
        }
        if view.in_boot_grace() {
            return Ok(Finding::pending(
                "no carrier, and the host has only just booted",
            ));
        }
        if !lasts && down < limits.down_for {
            // A lone sample may be a retrain, which the flap rule counts; it is no time to start a job.
            let finding = Finding::healthy("no carrier in this sample, not judged yet");
            return Ok(Finding {
                hold: true,
                ..finding
            });
        }
        let found = format!("0 for {} s", down.as_secs());
        let within = config::duration(limits.down_for);
        let limit = format!("1 within {within}, as it was up before");
        let evidence = view.evidence("carrier", found, limit, source);
        let finding = match down >= limits.down_for {
            true => Finding::unhealthy("the port was up and has no carrier", Action::Drain),
            false => Finding::degraded("the port has lost its carrier", Action::Watch),
        };
        Ok(finding.with(evidence))
    }
}
