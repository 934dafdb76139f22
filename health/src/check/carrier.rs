//! Carrier: a port that was up is up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Held, Majority};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::Action;

/// A link that retrains is back within this; a port without carrier for longer is out of use.
const DOWN: Duration = Duration::from_secs(10);

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
        if port.admin_up == Some(false) || port.carrier.is_none() {
            self.down.update(now, false);
            return Ok(Finding::not_applicable("the interface is set down"));
        }
        self.was_up |= port.carrier == Some(true) || port.carrier_up.is_some_and(|ups| ups > 0);
        let no_carrier = port.carrier == Some(false);
        let lasts = self.samples.push(no_carrier);
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
        if !lasts && down < DOWN {
            // A lone sample may be a retrain, which the flap rule counts; it is no time to start a job.
            let finding = Finding::healthy("no carrier in this sample, not judged yet");
            return Ok(Finding {
                hold: true,
                ..finding
            });
        }
        let found = format!("0 for {} s", down.as_secs());
        let limit = format!("1 within {} s, as it was up before", DOWN.as_secs());
        let evidence = view.evidence("carrier", found, limit, source);
        let finding = match down >= DOWN {
            true => Finding::unhealthy("the port was up and has no carrier", Action::Drain),
            false => Finding::degraded("the port has lost its carrier", Action::Watch),
        };
        Ok(finding.with(evidence))
    }
}
