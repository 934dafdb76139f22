//! Packets that a port drops, by their share: a few are load, one in a hundred over minutes is a port that cannot follow.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Counter, Held, Latch, Window};
use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::{FactKind, PortDrops};
use crate::verdict::{Action, Confidence};

/// Limits.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    each_minute: u64,
    percent: f64,
    lasting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            each_minute: 1000,
            percent: 1.0,
            lasting: Duration::from_secs(300),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "the kernel counts what nobody listens to as dropped: an idle port drops what a switch announces";
        let bounds = 1..=1_000_000_000;
        keys.within("drops_per_minute", &mut self.each_minute, bounds, why);
        let why =
            "of all packets that came or went in that minute; TCP halves its rate at far less";
        keys.within("percent", &mut self.percent, 0.001..=100.0, why);
        let why = "a burst fills a queue";
        let bounds = Duration::ZERO..=Duration::from_secs(3600);
        keys.within("lasting", &mut self.lasting, bounds, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PortDropRates {
    received: Direction,
    sent: Direction,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Direction {
    packets: Counter,
    passed: Window,
    drops: Counter,
    dropped: Window,
    held: Held,
    latch: Latch,
}

/// Drops and packets of the last minute, and whether they are too many for too long.
type Share = (u64, u64, bool);

impl Direction {
    fn step(&mut self, view: &View<'_>, packets: u64, drops: u64) -> Option<Share> {
        const MINUTE: Duration = Duration::from_secs(60);
        let limits = &view.settings.limits.port_drops;
        let now = view.now.uptime;
        let (packets, drops) = (
            self.packets.forward(now, packets),
            self.drops.forward(now, drops),
        );
        let passed = self.passed.add(now, MINUTE, packets?);
        let dropped = self.dropped.add(now, MINUTE, drops?);
        let all = passed.saturating_add(dropped);
        // Both are far below 2^53.
        let share = dropped as f64 >= all as f64 * limits.percent / 100.0;
        let held = self
            .held
            .update(now, share && dropped >= limits.each_minute);
        let bad = held.is_some_and(|held| held >= limits.lasting);
        let latched = self.latch.update(now, bad, bad, view.settings.clear_after);
        Some((dropped, all, latched))
    }
}

impl Check for PortDropRates {
    fn name(&self) -> &'static str {
        "port_drops"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Port]
    }

    fn rebooted(&mut self) {
        for direction in [&mut self.received, &mut self.sent] {
            direction.packets = Counter::default();
            direction.drops = Counter::default();
        }
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let (port, source) = view.port()?;
        let PortDrops {
            rx_packets,
            rx,
            rx_missed,
            tx_packets,
            tx,
        } = port.drops;
        let rx = sum(rx, rx_missed);
        let (received, sent) = (rx_packets.zip(rx), tx_packets.zip(tx));
        if received.is_none() && sent.is_none() {
            return Ok(Finding::not_applicable("the driver counts no drops"));
        }
        let directions = [
            (
                &mut self.received,
                received,
                "rx_dropped, rx_missed_errors",
                "receives",
            ),
            (&mut self.sent, sent, "tx_dropped", "sends"),
        ];
        let limits = &view.settings.limits.port_drops;
        let mut seen = false;
        let mut worst = None;
        for (direction, counts, what, does) in directions {
            let Some((packets, drops)) = counts else {
                continue;
            };
            let Some((dropped, all, bad)) = direction.step(view, packets, drops) else {
                continue;
            };
            seen = true;
            if bad && worst.is_none() {
                let limit = format!(
                    "less than {} % and {} a minute for {}",
                    limits.percent,
                    limits.each_minute,
                    config::duration(limits.lasting)
                );
                let found = format!("+{dropped} of {all} in 1 min, total {drops}");
                worst = Some((does, view.evidence(what, found, limit, source)));
            }
        }
        Ok(match (worst, seen) {
            (Some((does, evidence)), _) => {
                let reason = format!("the port drops a part of what it {does} all the time");
                Finding::degraded(reason, Action::Watch)
                    .with(evidence)
                    .sure(Confidence::Medium)
            }
            (None, false) => Finding::blind("seen once so far: the rates are not known yet"),
            (None, true) => Finding::healthy("drops little or nothing"),
        })
    }
}

/// The kernel leaves what the card missed out of `rx_dropped` (`struct rtnl_link_stats64`, include/uapi/linux/if_link.h).
fn sum(dropped: Option<u64>, missed: Option<u64>) -> Option<u64> {
    match (dropped, missed) {
        (None, None) => None,
        (dropped, missed) => Some(
            dropped
                .unwrap_or_default()
                .saturating_add(missed.unwrap_or_default()),
        ),
    }
}
