//! Error counters of RDMA ports, by their rates.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Limit, Sustained};
use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::FactKind;
use crate::verdict::{Action, Confidence};

/// So many a minute, lasting, are too many; and what such errors are.
struct Judged {
    counter: &'static str,
    each_minute: u64,
    what: &'static str,
}

const fn judged(counter: &'static str, each_minute: u64, what: &'static str) -> Judged {
    Judged {
        counter,
        each_minute,
        what,
    }
}

/// What is judged. Bits that are wrong are none on a good port; link recoveries are none either, and each stops the port
/// for a while; what a full network loses is load, and in a storm of it no job runs.
const JUDGED: &[Judged] = &[
    judged("counters/symbol_error", 10, "the link gets symbols wrong"),
    judged(
        "counters/link_error_recovery",
        1,
        "the link trains anew and anew",
    ),
    judged("counters/link_downed", 1, "the link goes again and again"),
    judged("counters/port_rcv_errors", 10, "packets come in damaged"),
    judged(
        "counters/port_rcv_remote_physical_errors",
        10,
        "packets come marked as damaged farther away",
    ),
    judged(
        "counters/local_link_integrity_errors",
        1,
        "the link errs above its own threshold",
    ),
    judged(
        "counters/excessive_buffer_overrun_errors",
        1,
        "the other end sends more than it may",
    ),
    judged(
        "counters/port_xmit_discards",
        1000,
        "the port discards what it should send",
    ),
    judged(
        "hw_counters/out_of_sequence",
        10_000,
        "the network loses packets",
    ),
    judged(
        "hw_counters/packet_seq_err",
        10_000,
        "the network loses packets",
    ),
    judged(
        "hw_counters/local_ack_timeout_err",
        1000,
        "peers do not answer in time",
    ),
    judged(
        "hw_counters/rx_icrc_encapsulated",
        10,
        "packets come in damaged",
    ),
    judged(
        "hw_counters/max_retry_exceeded",
        10,
        "connections are given up",
    ),
    judged(
        "hw_counters/retry_exceeded_err",
        10,
        "connections are given up",
    ),
    judged(
        "hw_counters/link_downed",
        1,
        "the link goes again and again",
    ),
];

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    lasting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lasting: Duration::from_secs(300),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "a retrain, or a job that ends badly, makes a burst";
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        keys.within("lasting", &mut self.lasting, bounds, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RdmaErrorRates {
    /// By port and counter.
    rates: BTreeMap<String, ErrorRate>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct ErrorRate {
    counter: Counter,
    rate: Sustained,
    latch: Latch,
}

impl Check for RdmaErrorRates {
    fn name(&self) -> &'static str {
        "rdma_errors"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Rdma]
    }

    fn rebooted(&mut self) {
        for rate in self.rates.values_mut() {
            rate.counter = Counter::default();
        }
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let ports = super::known(&view.facts.rdma)?;
        if ports.is_empty() {
            self.rates.clear();
            return Ok(Finding::not_applicable("it has no RDMA device"));
        }
        let now = view.now.uptime;
        let lasting = view.settings.limits.rdma_errors.lasting;
        let (mut seen, mut deltas) = (false, 0);
        let mut worst: Option<Finding> = None;
        let mut rates = std::mem::take(&mut self.rates);
        for port in ports {
            for judged in JUDGED {
                let Some(&count) = port.counters.get(judged.counter) else {
                    continue;
                };
                seen = true;
                let key = format!("{} {}", port.name(), judged.counter);
                let mut rate = rates.remove(&key).unwrap_or_default();
                if let Some(delta) = rate.counter.forward(now, count) {
                    deltas += 1;
                    let most = Limit {
                        each_minute: judged.each_minute,
                        lasting,
                    };
                    let (sum, bad) = rate.rate.add(now, delta, most);
                    if rate.latch.update(now, bad, bad, view.settings.clear_after) {
                        let found = format!("+{sum} in 1 min, total {count}");
                        let evidence = view.evidence(&key, found, most, FactKind::Rdma);
                        let finding = worst.take().unwrap_or_else(|| {
                            let reason = format!("{}: {}", port.name(), judged.what);
                            Finding::degraded(reason, Action::Watch).sure(Confidence::Medium)
                        });
                        worst = Some(finding.with(evidence));
                    }
                }
                // What is not there any more is not kept.
                self.rates.insert(key, rate);
            }
        }
        Ok(match (worst, seen, deltas) {
            (Some(worst), ..) => worst,
            (None, false, _) => Finding::not_applicable("the driver keeps no error counters"),
            (None, true, 0) => Finding::blind("seen once so far: the rates are not known yet"),
            _ => Finding::healthy("no lasting errors"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::rdma::COUNTERS;

    #[test]
    fn what_is_judged_is_what_is_read() {
        let judged: Vec<&str> = JUDGED.iter().map(|judged| judged.counter).collect();
        assert_eq!(judged, COUNTERS);
    }
}
