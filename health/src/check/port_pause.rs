//! Pause frames: a port that the other end stops most of the time sends next to nothing, and so does what waits behind it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Latch, Limit, Sustained};
use super::{Check, Finding, View};
use crate::config::{Keys, Section};
use crate::facts::{Ethtool, FactKind, Query};
use crate::probe::ethtool::names::{self, Counts};
use crate::verdict::{Action, Confidence};

/// A pause frame stops the other end for 65,535 quanta of 512 bit times at most (IEEE 802.3, annex 31B; IEEE 802.1Qbb has the same
/// for a priority). So this many megabits pass in the time that one frame can stop: who is to stand still is sent one
/// frame in that time.
const MBIT_PER_FRAME: f64 = 65_535.0 * 512.0 / 1e6;

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    percent: u64,
    lasting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            percent: 50,
            lasting: Duration::from_secs(300),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "of the frames that would have the port stand still; a network that is merely full sends a few of them";
        keys.within("percent", &mut self.percent, 1..=100, why);
        let why = "a job that gathers its results stops its senders for seconds";
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        keys.within("lasting", &mut self.lasting, bounds, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortPause {
    counter: Counter,
    rate: Sustained,
    latch: Latch,
}

impl Check for PortPause {
    fn name(&self) -> &'static str {
        "port_pause"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Ethtool, FactKind::Port]
    }

    fn rebooted(&mut self) {
        self.counter = Counter::default();
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (ethtool, source) = view.ethtool(&[Query::Driver, Query::Counters])?;
        let (port, _) = view.port()?;
        let count = match by_priority(ethtool) {
            Some(count) => Some(count),
            None => {
                let (ethtool, _) = view.ethtool(&[Query::Pause])?;
                ethtool.pause.and_then(|pause| pause.received)
            }
        };
        let Some(count) = count else {
            return Ok(Finding::not_applicable(
                "the driver counts no pause frames that are known by name",
            ));
        };
        let now = view.now.uptime;
        let delta = self.counter.forward(now, count);
        let Some(speed) = port.speed_mbit else {
            return Ok(Finding::not_applicable("no speed without a carrier"));
        };
        let Some(delta) = delta else {
            return Ok(Finding::blind(
                "seen once so far: the rate is not known yet",
            ));
        };
        let limits = &view.settings.limits.port_pause;
        // Both are far below 2^53, and the result is a count of frames.
        let still = speed as f64 * 60.0 / MBIT_PER_FRAME;
        let most = Limit {
            each_minute: (still * limits.percent as f64 / 100.0).ceil() as u64,
            lasting: limits.lasting,
        };
        let (sum, bad) = self.rate.add(now, delta, most);
        if !self.latch.update(now, bad, bad, view.settings.clear_after) {
            return Ok(Finding::healthy(format!("{sum} in the last minute")));
        }
        let found = format!("+{sum} in 1 min, total {count}");
        let evidence = view.evidence("pause frames received", found, most, source);
        let reason = "the network stops the port most of the time: a pause storm";
        Ok(Finding::degraded(reason, Action::Watch)
            .with(evidence)
            .sure(Confidence::Medium))
    }
}

/// By the driver's own names, which have those of priorities too; where it has none the kernel's count of plain ones has to do.
fn by_priority(ethtool: &Ethtool) -> Option<u64> {
    let named = names::of(&ethtool.driver).iter();
    let paused = named.filter(|named| named.counts == Counts::Paused);
    let counts = paused.filter_map(|named| ethtool.counters.get(named.pattern));
    counts.fold(None, |sum: Option<u64>, count| {
        Some(sum.unwrap_or_default().saturating_add(*count))
    })
}
