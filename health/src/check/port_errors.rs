//! Error counters of a port, by their rates. Dropped packets are not among them: a full queue
//! drops, and that is load.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Limit, Sustained};
use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// The counters that are judged.
const FILES: [&str; 3] = [DAMAGED, "rx_errors", "tx_errors"];
/// The one of them that damaged frames alone raise. The others sum up what drivers take for an error, and load and the other end
/// raise them too: mlx5's `tx_errors` has the packets in it that were discarded on their way out (`if_out_discards`,
/// drivers/net/ethernet/mellanox/mlx5/core/en_main.c). No number of those says that no job gets on.
const DAMAGED: &str = "rx_crc_errors";

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    each_minute: u64,
    storm: u64,
    lasting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            each_minute: 10,
            storm: 1000,
            lasting: Duration::from_secs(300),
        }
    }
}

impl Limits {
    fn degraded(&self) -> Limit {
        Limit {
            each_minute: self.each_minute,
            lasting: self.lasting,
        }
    }

    fn unhealthy(&self) -> Limit {
        Limit {
            each_minute: self.storm,
            lasting: self.lasting,
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why =
            "after forward error correction a good port has none for hours, even at full load";
        keys.within(
            "errors_per_minute",
            &mut self.each_minute,
            1..=1_000_000,
            why,
        );
        let why = "of rx_crc_errors alone: each is a lost packet, for which RDMA sends everything after it again: no job gets on beside so many";
        let bounds = 1..=1_000_000_000;
        keys.within("unhealthy_per_minute", &mut self.storm, bounds, why);
        let why = "a retrain makes a burst";
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        keys.within("lasting", &mut self.lasting, bounds, why);
        let names = ["unhealthy_per_minute", "errors_per_minute"];
        keys.require(self.each_minute < self.storm, &names, || {
            format!("more than errors_per_minute, which is {}", self.each_minute)
        });
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortErrorRates {
    rates: [ErrorRate; 3],
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct ErrorRate {
    counter: Counter,
    rate: Sustained,
    latch: Latch,
    #[serde(default)]
    storm: Sustained,
    #[serde(default)]
    storms: Latch,
}

impl Check for PortErrorRates {
    fn name(&self) -> &'static str {
        "port_errors"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Port]
    }

    fn rebooted(&mut self) {
        for rate in &mut self.rates {
            rate.counter = Counter::default();
        }
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (port, source) = view.port()?;
        let counts = [port.errors.rx_crc, port.errors.rx, port.errors.tx];
        let now = view.now.uptime;
        let limits = &view.settings.limits.port_errors;
        let (most, storm) = (limits.degraded(), limits.unhealthy());
        let clear = view.settings.clear_after;
        let mut seen = false;
        let mut stormy = false;
        let mut deltas = 0;
        let mut evidence = Vec::new();
        for ((rate, count), file) in self.rates.iter_mut().zip(counts).zip(FILES) {
            let Some(count) = count else { continue };
            seen = true;
            let Some(delta) = rate.counter.step(now, count) else {
                continue;
            };
            deltas += 1;
            let (sum, bad) = rate.rate.add(now, delta, most);
            let (_, many) = rate.storm.add(now, delta, storm);
            let many = many && file == DAMAGED;
            let storms = rate.storms.update(now, many, many, clear);
            stormy |= storms;
            if rate.latch.update(now, bad, bad, clear) || storms {
                let found = format!("+{sum} in 1 min, total {count}");
                let limit = if storms { storm } else { most };
                evidence.push(view.evidence(file, found, limit, source));
            }
        }
        if !evidence.is_empty() {
            let finding = match stormy {
                true => {
                    Finding::unhealthy("the port errs so much that no job gets on", Action::Drain)
                }
                false => Finding::degraded("the port errs all the time", Action::Watch)
                    .sure(Confidence::Medium),
            };
            return Ok(Finding {
                evidence,
                ..finding
            });
        }
        Ok(match (seen, deltas) {
            (false, _) => Finding::not_applicable("the driver keeps no error counters"),
            (true, 0) => Finding::blind("seen once so far: the rates are not known yet"),
            _ => Finding::healthy("no lasting errors"),
        })
    }
}
