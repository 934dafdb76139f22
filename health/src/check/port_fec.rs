//! Forward error correction of a port: the mode that the manifest wants, and what it could not correct. What it corrected is no
//! trouble: a link of 50 Gbit/s a lane corrects all the time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Limit, Sustained};
use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::{FactKind, Query};
use crate::verdict::{Action, Confidence};

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits(Limit);

impl Default for Limits {
    fn default() -> Self {
        Self(Limit {
            each_minute: 10,
            lasting: Duration::from_secs(300),
        })
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "each is a lost frame or several; a good link has none for hours";
        let bounds = 1..=1_000_000;
        keys.within(
            "uncorrectable_per_minute",
            &mut self.0.each_minute,
            bounds,
            why,
        );
        let why = "a link that trains counts some";
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        keys.within("lasting", &mut self.0.lasting, bounds, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortFec {
    counter: Counter,
    rate: Sustained,
    latch: Latch,
}

impl Check for PortFec {
    fn name(&self) -> &'static str {
        "port_fec"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Ethtool]
    }

    fn rebooted(&mut self) {
        self.counter = Counter::default();
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (ethtool, source) = view.ethtool(&[Query::Fec])?;
        let wanted = view.wanted().port.fec;
        let Some(fec) = &ethtool.fec else {
            return Ok(match wanted {
                Some(wanted) => Finding::degraded(
                    format!(
                        "the driver knows of no error correction, and the manifest wants {wanted}"
                    ),
                    Action::Watch,
                )
                .with(view.evidence("FEC", "none", wanted, source)),
                None => Finding::not_applicable("the port has no error correction"),
            });
        };
        let now = view.now.uptime;
        let most = view.settings.limits.port_fec.0;
        let growth = fec
            .uncorrectable
            .and_then(|count| self.counter.forward(now, count));
        if let Some(growth) = growth {
            let (sum, bad) = self.rate.add(now, growth, most);
            if self.latch.update(now, bad, bad, view.settings.clear_after) {
                let total = fec.uncorrectable.unwrap_or_default();
                let found = format!("+{sum} in 1 min, total {total}");
                let evidence = view.evidence("uncorrectable FEC blocks", found, most, source);
                let reason = "the port's link errs beyond what can be corrected";
                return Ok(Finding::degraded(reason, Action::Watch)
                    .with(evidence)
                    .sure(Confidence::Medium));
            }
        }
        let Some(active) = &fec.active else {
            return Ok(Finding::not_applicable(
                "nothing is corrected without a carrier",
            ));
        };
        if let Some(wanted) = wanted.filter(|wanted| wanted != active) {
            let reason = format!("error correction {active}, and the manifest wants {wanted}");
            let evidence = view.evidence("FEC", active, wanted, source);
            return Ok(Finding::degraded(reason, Action::Watch).with(evidence));
        }
        let corrected = fec
            .corrected
            .map(|count| format!(", {count} blocks corrected in all"));
        Ok(Finding::healthy(format!(
            "{active}{}",
            corrected.unwrap_or_default()
        )))
    }
}
