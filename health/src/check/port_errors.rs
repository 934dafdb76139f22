//! Error counters of a port, by their rates. Dropped packets are not among them: a full queue
//! drops, and that is load.

use super::over_time::{Counter, Latch, Sustained};
use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// After forward error correction a good port has none for hours, even at full load.
const EACH_MINUTE: u64 = 10;
/// A retrain makes a burst.
const MINUTES: u32 = 5;

/// The rule.
#[derive(Debug)]
pub(super) struct PortErrorRates {
    rates: [Rate; 3],
}

#[derive(Debug)]
struct Rate {
    file: &'static str,
    counter: Counter,
    rate: Sustained,
    latch: Latch,
}

impl Default for PortErrorRates {
    fn default() -> Self {
        let rates = ["rx_crc_errors", "rx_errors", "tx_errors"].map(|file| Rate {
            file,
            counter: Counter::default(),
            rate: Sustained::new(EACH_MINUTE, MINUTES),
            latch: Latch::default(),
        });
        Self { rates }
    }
}

impl Check for PortErrorRates {
    fn name(&self) -> &'static str {
        "port_errors"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Port]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (port, source) = view.port()?;
        let counts = [port.errors.rx_crc, port.errors.rx, port.errors.tx];
        let now = view.now.uptime;
        let mut seen = false;
        let mut deltas = 0;
        let mut evidence = Vec::new();
        for (rate, count) in self.rates.iter_mut().zip(counts) {
            let Some(count) = count else { continue };
            seen = true;
            let Some(delta) = rate.counter.step(count) else {
                continue;
            };
            deltas += 1;
            let (sum, bad) = rate.rate.add(now, delta);
            if rate.latch.update(now, bad, bad, view.settings.clear_after) {
                let found = format!("+{sum} in 1 min, total {count}");
                evidence.push(view.evidence(rate.file, found, rate.rate.rule(), source));
            }
        }
        if !evidence.is_empty() {
            let finding = Finding::degraded("the port errs all the time", Action::Watch)
                .sure(Confidence::Medium);
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
