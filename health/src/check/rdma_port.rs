//! RDMA ports: one that was active is active, at its rate, and has an address.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::over_time::{Held, Latch, Majority, Samples};
use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::{FactKind, LinkLayer, Port, RdmaPort, RdmaState};
use crate::verdict::Action;

/// `phys_state` of a port that somebody has disabled (`phys_state_to_str`, drivers/infiniband/core/sysfs.c).
const DISABLED: &str = "3: Disabled";

/// Why nothing is judged of a port whose interface is not shown.
const ELSEWHERE: &str = "its interface is not here: in another network namespace";

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
            down_for: Duration::from_secs(30),
        }
    }
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        self.samples.keys(keys);
        let why = "a port that trains, or that a subnet manager sets up anew, is back by then";
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        keys.within("down_for", &mut self.down_for, bounds, why);
    }
}

/// The rule.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RdmaPorts {
    /// By name.
    ports: BTreeMap<String, Past>,
    none: Held,
    /// Whether it ever had an interface: InfiniBand needs none.
    #[serde(default)]
    had_interface: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Past {
    was_active: bool,
    down: Held,
    had_gids: bool,
    no_gids: Held,
    best: u64,
    samples: Majority,
    slow: Latch,
}

impl Check for RdmaPorts {
    fn name(&self) -> &'static str {
        "rdma_port"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Rdma, FactKind::Port]
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let ports = super::known(&view.facts.rdma)?;
        // Without it there is no telling whose making the port's state is.
        let interface = super::known(&view.facts.port)?.as_ref();
        self.had_interface |= interface.is_some();
        if ports.is_empty() {
            // Whoever moved the interface may have moved the device with it; a device of InfiniBand without one went by itself.
            if interface.is_none() && (self.had_interface || !self.was_active()) {
                self.none.update(view.now.uptime, false);
                return Ok(Finding::not_applicable(ELSEWHERE));
            }
            return Ok(self.none_left(view));
        }
        self.none.update(view.now.uptime, false);
        self.ports
            .retain(|name, _| ports.iter().any(|port| port.name() == *name));
        let mut worst = None;
        for port in ports {
            let finding = match is_own(port, ports, view.identity.interface.as_deref()) {
                true => {
                    let past = self.ports.entry(port.name()).or_default();
                    past.judge(view, port, interface)
                }
                false => Finding::not_applicable(format!(
                    "{} is the port of another interface",
                    port.name()
                )),
            };
            // A port of which there is nothing to say says nothing against another.
            let weight = |finding: &Finding| {
                let weight = (finding.state, finding.hold);
                finding.counts.then_some(weight)
            };
            if worst
                .as_ref()
                .is_none_or(|worst| weight(&finding) > weight(worst))
            {
                worst = Some(finding);
            }
        }
        Ok(worst.unwrap_or_else(|| Finding::not_applicable("it has no RDMA port")))
    }
}

impl RdmaPorts {
    fn was_active(&self) -> bool {
        self.ports.values().any(|past| past.was_active)
    }

    /// There is no RDMA device, or none any more.
    fn none_left(&mut self, view: &View<'_>) -> Finding {
        let limits = &view.settings.limits.rdma_port;
        let wanted = view.wanted().port.rdma_mbit;
        let had = self.was_active();
        if !had && wanted.is_none() {
            return Finding::not_applicable("it has no RDMA device");
        }
        let gone = self.none.update(view.now.uptime, true).unwrap_or_default();
        if view.in_boot_grace() || gone < limits.down_for {
            return Finding::pending("it has no RDMA device at the moment");
        }
        let limit = match wanted {
            Some(mbit) => format!("one at {mbit} Mbit/s, as the manifest wants"),
            None => "one, as before".to_owned(),
        };
        let found = format!("none for {} s", gone.as_secs());
        let evidence = view.evidence("RDMA devices", found, limit, FactKind::Rdma);
        let reason = "it has no RDMA device: its driver's RDMA part is not loaded, or failed";
        Finding {
            hold: true,
            ..Finding::degraded(reason, Action::Watch).with(evidence)
        }
    }
}

impl Past {
    fn judge(&mut self, view: &View<'_>, port: &RdmaPort, interface: Option<&Port>) -> Finding {
        let limits = &view.settings.limits.rdma_port;
        let now = view.now.uptime;
        let name = port.name();
        let active = matches!(port.state, RdmaState::Active | RdmaState::ActiveDefer);
        self.was_active |= active;
        let follows = follows(port, interface);
        let down = self.down.update(now, !active && follows.is_none());
        let wanted = view.wanted().port.rdma_mbit;
        if !active {
            self.no_gids.update(now, false);
            if let Some(why) = follows {
                return Finding::not_applicable(format!("{name}: {why}"));
            }
            if !self.was_active && wanted.is_none() {
                return Finding::not_applicable(format!("{name} was never active: no cable?"));
            }
            let down = down.unwrap_or_default();
            if view.in_boot_grace() {
                let reason = format!("{name} is not active, and the host has only just booted");
                return Finding::pending(reason);
            }
            if down < limits.down_for {
                let reason = format!("{name} is not active in this sample, not judged yet");
                return Finding {
                    hold: true,
                    ..Finding::healthy(reason)
                };
            }
            let found = format!(
                "{:?}, phys_state {} for {} s",
                port.state,
                port.phys_state,
                down.as_secs()
            );
            let limit = format!("ACTIVE within {}", config::duration(limits.down_for));
            let evidence = view.evidence(&format!("{name} state"), found, limit, FactKind::Rdma);
            let reason = match interface.and_then(|port| port.carrier) {
                Some(true) => format!("{name} is not active, though its interface has a carrier"),
                _ => format!("{name} was active and is not any more"),
            };
            return Finding::unhealthy(reason, Action::Drain).with(evidence);
        }
        self.without_address(view, port, interface)
            .or_else(|| self.too_slow(view, port, wanted))
            .unwrap_or_else(|| {
                let rate = port.rate_mbit.map(|mbit| format!(" at {mbit} Mbit/s"));
                Finding::healthy(format!("{name} is active{}", rate.unwrap_or_default()))
            })
    }

    /// An active port over Ethernet that lost its addresses: no job can name it.
    fn without_address(
        &mut self,
        view: &View<'_>,
        port: &RdmaPort,
        interface: Option<&Port>,
    ) -> Option<Finding> {
        let limits = &view.settings.limits.rdma_port;
        self.had_gids |= port.gids > 0;
        // Those of an interface in another namespace are not shown here.
        let judged = self.had_gids && interface.is_some() && follows(port, interface).is_none();
        let without = self
            .no_gids
            .update(view.now.uptime, judged && port.gids == 0)?;
        if without < limits.down_for {
            return None;
        }
        let name = port.name();
        let limit = format!("some within {}", config::duration(limits.down_for));
        let found = format!("none for {} s", without.as_secs());
        let evidence = view.evidence(&format!("{name} gids"), found, limit, FactKind::Rdma);
        let reason = format!("{name} is active and has no address any more");
        Some(Finding {
            hold: true,
            ..Finding::degraded(reason, Action::Watch).with(evidence)
        })
    }

    fn too_slow(
        &mut self,
        view: &View<'_>,
        port: &RdmaPort,
        wanted: Option<u64>,
    ) -> Option<Finding> {
        let samples = view.settings.limits.rdma_port.samples;
        let rate = port.rate_mbit?;
        self.best = self.best.max(rate);
        let least = wanted.unwrap_or(self.best);
        let bad = rate < least;
        let trigger = self.samples.push(bad, samples);
        let clear = view.settings.clear_after;
        if !self.slow.update(view.now.uptime, trigger, bad, clear) {
            return None;
        }
        let name = port.name();
        let limit = match wanted {
            Some(_) => format!("{least} Mbit/s, as the manifest wants, {samples}"),
            None => format!("{least} Mbit/s as before, {samples}"),
        };
        let found = format!("{rate} Mbit/s");
        let evidence = view.evidence(&format!("{name} rate"), found, limit, FactKind::Rdma);
        let reason = format!("{name} is slower than it should be: {rate} of {least} Mbit/s");
        Some(Finding::degraded(reason, Action::Drain).with(evidence))
    }
}

/// Whether a port is that of the function's interface. A device over Ethernet may have ports of other interfaces too: those of
/// representors (drivers/infiniband/hw/mlx5/ib_rep.c), or the second of a card with two ports (mlx4). That of the interface
/// names it by its first address; where none does, as over a bond, it is the first.
fn is_own(port: &RdmaPort, ports: &[RdmaPort], interface: Option<&str>) -> bool {
    if port.link_layer == LinkLayer::InfiniBand {
        return true;
    }
    let names_it =
        |port: &RdmaPort| port.interface.is_some() && port.interface.as_deref() == interface;
    let of_device = || ports.iter().filter(|other| other.device == port.device);
    match of_device().any(names_it) {
        true => names_it(port),
        false => of_device().map(|other| other.port).min() == Some(port.port),
    }
}

/// Why a port's state is none of its own: it follows what is judged elsewhere, or what somebody has set.
fn follows(port: &RdmaPort, interface: Option<&Port>) -> Option<&'static str> {
    if port.phys_state == DISABLED && port.link_layer == LinkLayer::InfiniBand {
        return Some("somebody has disabled it");
    }
    if port.link_layer == LinkLayer::InfiniBand {
        return None;
    }
    match interface {
        None => Some(ELSEWHERE),
        Some(interface) if interface.admin_up == Some(false) || interface.carrier.is_none() => {
            Some("its interface is set down")
        }
        Some(interface) if interface.carrier == Some(false) => {
            Some("its interface has no carrier, which carrier judges")
        }
        Some(_) => None,
    }
}
