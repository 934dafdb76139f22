//! Counters of a driver's own, by what they count (`probe/ethtool/names.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Limit, Sustained};
use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::{FactKind, Query};
use crate::probe::ethtool::names::{self, Counts};
use crate::verdict::{Action, Confidence};

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    damage: u64,
    discards: u64,
    lasting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            damage: 10,
            discards: 10_000,
            lasting: Duration::from_secs(300),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why =
            "after forward error correction a good port has none for hours, even at full load";
        keys.within("damage_per_minute", &mut self.damage, 1..=1_000_000, why);
        let why = "a full buffer is load; when it never empties the port cannot follow";
        let bounds = 1..=1_000_000_000;
        keys.within("discards_per_minute", &mut self.discards, bounds, why);
        let why = "a retrain and a full queue make bursts";
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        keys.within("lasting", &mut self.lasting, bounds, why);
    }
}

impl Limits {
    /// What is too much, and what it is then; `None` for what another rule judges.
    fn of(&self, counts: Counts) -> Option<(Limit, &'static str)> {
        let lasting = |each_minute| Limit {
            each_minute,
            lasting: self.lasting,
        };
        // One is one too many.
        let at_once = Limit {
            each_minute: 1,
            lasting: Duration::ZERO,
        };
        Some(match counts {
            Counts::Damage => (
                lasting(self.damage),
                "what comes in is damaged all the time",
            ),
            Counts::Discards => (
                lasting(self.discards),
                "the port throws packets away all the time",
            ),
            Counts::PauseStorm => (
                at_once,
                "the port was stopped for so long, or stopped the network for so long, that the card stepped in",
            ),
            Counts::Reset => (at_once, "a queue of the card hung and was set up anew"),
            Counts::Memory => (at_once, "the card's memory has an uncorrectable error"),
            Counts::Paused => return None,
        })
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortCounterRates {
    /// By pattern.
    rates: BTreeMap<String, Rate>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Rate {
    counter: Counter,
    rate: Sustained,
    latch: Latch,
    recent: u64,
}

impl Check for PortCounterRates {
    fn name(&self) -> &'static str {
        "port_counters"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Ethtool]
    }

    fn rebooted(&mut self) {
        for rate in self.rates.values_mut() {
            rate.counter = Counter::default();
        }
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (ethtool, source) = view.ethtool(&[Query::Driver, Query::Counters])?;
        let now = view.now.uptime;
        let named = names::of(&ethtool.driver);
        let limits = &view.settings.limits.port_counters;
        let (mut seen, mut deltas) = (false, 0);
        let mut worst: Option<Finding> = None;
        let mut rates = std::mem::take(&mut self.rates);
        for named in named {
            let Some((&count, (most, what))) = ethtool
                .counters
                .get(named.pattern)
                .zip(limits.of(named.counts))
            else {
                continue;
            };
            seen = true;
            let mut rate = rates.remove(named.pattern).unwrap_or_default();
            if let Some(delta) = rate.counter.forward(now, count) {
                deltas += 1;
                if delta.count > 0 {
                    rate.recent = delta.count;
                }
                let (sum, bad) = rate.rate.add(now, delta, most);
                if rate.latch.update(now, bad, bad, view.settings.clear_after) {
                    let recent = rate.recent;
                    let found = format!("+{sum} in 1 min, +{recent} lately, total {count}");
                    let evidence = view.evidence(named.pattern, found, most, source);
                    let finding = worst.take().unwrap_or_else(|| {
                        Finding::degraded(what, Action::Watch).sure(Confidence::Medium)
                    });
                    worst = Some(finding.with(evidence));
                }
            }
            self.rates.insert(named.pattern.to_owned(), rate);
        }
        Ok(match (worst, seen, deltas) {
            (Some(worst), ..) => worst,
            (None, false, _) => Finding::not_applicable(format!(
                "no counter of the driver {} is judged by its name",
                ethtool.driver
            )),
            (None, true, 0) => Finding::blind("seen once so far: the rates are not known yet"),
            _ => Finding::healthy("nothing that lasts"),
        })
    }
}
