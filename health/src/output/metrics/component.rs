//! Metrics of components.

use super::exposition::{Exposition, Kind, Metric, labels};
use super::{flag, seconds};
use crate::facts::{LinkRate, RdmaState};
use crate::status::{ComponentStatus, VitalsStatus};
use crate::verdict::{Admit, HealthState};

/// Components, each with the labels that all its samples have.
struct Table<'a> {
    exposition: &'a mut Exposition,
    components: Vec<(String, &'a ComponentStatus)>,
}

impl Table<'_> {
    /// A metric of which a component may have many samples.
    fn each(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl Fn(&ComponentStatus, &mut Samples<'_, '_>),
    ) {
        let mut metric = self.exposition.metric(name, kind, help);
        for (labels, component) in &self.components {
            let mut out = Samples {
                metric: &mut metric,
                labels,
            };
            samples(component, &mut out);
        }
    }

    /// A gauge of those components that have the value.
    fn gauge(&mut self, name: &str, help: &str, value: impl Fn(&ComponentStatus) -> Option<f64>) {
        self.each(name, Kind::Gauge, help, |component, out| {
            if let Some(value) = value(component) {
                out.sample("", value);
            }
        });
    }

    /// A counter of those components that have the value.
    fn counter(&mut self, name: &str, help: &str, value: impl Fn(&ComponentStatus) -> Option<u64>) {
        self.each(name, Kind::Counter, help, |component, out| {
            if let Some(value) = value(component) {
                out.sample("", value);
            }
        });
    }
}

/// Where the samples of one component go.
struct Samples<'a, 'b> {
    metric: &'a mut Metric<'b>,
    labels: &'a str,
}

impl Samples<'_, '_> {
    fn sample(&mut self, more: &str, value: impl std::fmt::Display) {
        self.metric.sample(&[self.labels, more], value);
    }
}

pub(super) fn write(exposition: &mut Exposition, components: &[ComponentStatus]) {
    let labelled = components.iter().map(|component| {
        let kind = component.kind.name();
        let labels = labels(&[("component", &component.bdf), ("kind", kind)]);
        (labels, component)
    });
    let mut table = Table {
        exposition,
        components: labelled.collect(),
    };
    judgement(&mut table);
    looks(&mut table);
    accelerators(&mut table);
    links(&mut table);
    ports(&mut table);
}

fn judgement(table: &mut Table<'_>) {
    let help = "Who a component is, always 1";
    table.each("auk_component_info", Kind::Gauge, help, |component, out| {
        let identity = &component.identity;
        let known = |value: &Option<String>| value.clone().unwrap_or_default();
        let more = labels(&[
            ("serial", &known(&identity.serial)),
            ("slot", &known(&identity.slot)),
            ("interface", &known(&identity.interface)),
            ("pci_id", &identity.pci_id),
        ]);
        out.sample(&more, 1);
    });
    let states = HealthState::ALL.map(|state| (state, labels(&[("state", state.name())])));
    let help = "1 for the state that a component is in";
    table.each(
        "auk_component_state",
        Kind::Gauge,
        help,
        |component, out| {
            for (state, label) in &states {
                out.sample(label, flag(component.state == *state));
            }
        },
    );
    let answers = Admit::ALL.map(|answer| (answer, labels(&[("answer", answer.name())])));
    let help = "1 for the answer to whether a new job may start on a component";
    let name = "auk_component_admission";
    table.each(name, Kind::Gauge, help, |component, out| {
        for (answer, label) in &answers {
            out.sample(label, flag(component.admission.answer == *answer));
        }
    });
    let help = "What to do about a component, always 1";
    let name = "auk_component_action_info";
    table.each(name, Kind::Gauge, help, |component, out| {
        out.sample(&labels(&[("action", component.action.name())]), 1);
    });
    let help = "1 for a check that makes a component degraded or unhealthy";
    let name = "auk_component_check_failing";
    table.each(name, Kind::Gauge, help, |component, out| {
        let failing = component.verdicts.iter();
        let failing =
            failing.filter(|verdict| verdict.counts && verdict.state >= HealthState::Degraded);
        for verdict in failing {
            let state = verdict.state.name();
            out.sample(&labels(&[("check", &verdict.check), ("state", state)]), 1);
        }
    });
    table.gauge(
        "auk_component_held",
        "1 while a person holds a component",
        |component| Some(flag(component.hold.is_some()).into()),
    );
}

fn looks(table: &mut Table<'_>) {
    table.gauge(
        "auk_component_sample_age_seconds",
        "Time since the last look at a component that saw anything",
        |component| component.sample_age_ms.map(seconds),
    );
    let help = "Time since a fact was last read well";
    let name = "auk_component_fact_age_seconds";
    table.each(name, Kind::Gauge, help, |component, out| {
        for (fact, age) in &component.facts_age_ms {
            out.sample(&labels(&[("fact", fact.name())]), seconds(*age));
        }
    });
    table.counter(
        "auk_component_probe_failures",
        "Readings of a component that failed",
        |component| Some(component.probe_failures),
    );
}

fn accelerators(table: &mut Table<'_>) {
    let sensors = ["die", "memory"].map(|sensor| labels(&[("sensor", sensor)]));
    let help = "Temperatures of an accelerator";
    let name = "auk_accelerator_temperature_celsius";
    table.each(name, Kind::Gauge, help, |component, out| {
        if let Some(vitals) = &component.vitals {
            let values = [vitals.die_celsius, vitals.memory_celsius];
            for (label, value) in sensors.iter().zip(values) {
                out.sample(label, value);
            }
        }
    });
    let vital = |value: fn(&VitalsStatus) -> f64| {
        move |component: &ComponentStatus| component.vitals.as_ref().map(value)
    };
    table.gauge(
        "auk_accelerator_power_watts",
        "Board power",
        vital(|vitals| vitals.power_watts),
    );
    table.gauge(
        "auk_accelerator_throttled",
        "1 while the chip gives a reason to run slower",
        vital(|vitals| flag(!vitals.throttle.is_empty()).into()),
    );
    table.gauge(
        "auk_accelerator_generation",
        "Starts of the firmware since power-on",
        vital(|vitals| vitals.generation.into()),
    );
    let severities = ["correctable", "uncorrectable"];
    let severities = severities.map(|severity| labels(&[("severity", severity)]));
    let help = "Memory errors, lifetime";
    let name = "auk_accelerator_ecc_errors";
    table.each(name, Kind::Counter, help, |component, out| {
        if let Some(vitals) = &component.vitals {
            for (label, value) in severities.iter().zip([vitals.ecc_ce, vitals.ecc_ue]) {
                out.sample(label, value);
            }
        }
    });
    let count = |value: fn(&VitalsStatus) -> u32| {
        move |component: &ComponentStatus| {
            let vitals = component.vitals.as_ref();
            vitals.map(|vitals| value(vitals).into())
        }
    };
    table.counter(
        "auk_accelerator_retired_pages",
        "Pages of device memory taken out of use, lifetime",
        count(|vitals| vitals.retired_pages),
    );
    table.counter(
        "auk_accelerator_pcie_replays",
        "PCIe replays since power-on",
        count(|vitals| vitals.pcie_replays),
    );
}

fn links(table: &mut Table<'_>) {
    let ends = ["current", "max"].map(|which| labels(&[("which", which)]));
    let mut rates = |name: &str, help: &str, value: fn(LinkRate) -> f64| {
        table.each(name, Kind::Gauge, help, |component, out| {
            let link = component.link.map(|link| [link.current, link.max]);
            for (label, rate) in ends.iter().zip(link.into_iter().flatten()) {
                if let Some(rate) = rate {
                    out.sample(label, value(rate));
                }
            }
        });
    };
    rates("auk_link_width_lanes", "PCIe link width", |rate| {
        rate.width.into()
    });
    rates(
        "auk_link_transfers_per_second",
        "PCIe link speed: transfers a second and lane",
        |rate| f64::from(rate.megatransfers) * 1e6,
    );
    let severities = ["correctable", "nonfatal", "fatal"];
    let severities = severities.map(|severity| labels(&[("severity", severity)]));
    let help = "PCIe errors that the kernel counted";
    table.each("auk_aer_errors", Kind::Counter, help, |component, out| {
        let counts = component
            .aer
            .map(|aer| [aer.correctable, aer.nonfatal, aer.fatal]);
        for (label, count) in severities.iter().zip(counts.into_iter().flatten()) {
            out.sample(label, count);
        }
    });
}

fn ports(table: &mut Table<'_>) {
    table.gauge(
        "auk_port_carrier",
        "1 while a port has a carrier",
        |component| Some(flag(component.port?.carrier?).into()),
    );
    table.gauge(
        "auk_port_speed_bytes_per_second",
        "Negotiated speed of a port",
        |component| {
            // 10^6 bits are 125,000 bytes; speeds are far below 2^53.
            let mbit = component.port?.speed_mbit?;
            Some(mbit as f64 * 125_000.0)
        },
    );
    table.counter(
        "auk_port_carrier_downs",
        "Times that the carrier went",
        |component| component.port?.carrier_down,
    );
    let counters = ["rx_errors", "tx_errors", "rx_crc_errors"];
    let counters = counters.map(|counter| labels(&[("counter", counter)]));
    let help = "Errors that a port's driver counted";
    table.each("auk_port_errors", Kind::Counter, help, |component, out| {
        let errors = component.port.map(|port| port.errors);
        let counts = errors.map(|errors| [errors.rx, errors.tx, errors.rx_crc]);
        for (label, count) in counters.iter().zip(counts.into_iter().flatten()) {
            if let Some(count) = count {
                out.sample(label, count);
            }
        }
    });
    let counters = ["rx_dropped", "rx_missed_errors", "tx_dropped"];
    let counters = counters.map(|counter| labels(&[("counter", counter)]));
    let help = "Packets that a port dropped";
    table.each("auk_port_drops", Kind::Counter, help, |component, out| {
        let drops = component.port.map(|port| port.drops);
        let counts = drops.map(|drops| [drops.rx, drops.rx_missed, drops.tx]);
        for (label, count) in counters.iter().zip(counts.into_iter().flatten()) {
            if let Some(count) = count {
                out.sample(label, count);
            }
        }
    });
    let help = "1 while an RDMA port is active";
    table.each(
        "auk_rdma_port_active",
        Kind::Gauge,
        help,
        |component, out| {
            for port in &component.rdma {
                let active = matches!(port.state, RdmaState::Active | RdmaState::ActiveDefer);
                out.sample(&labels(&[("port", &port.name())]), flag(active));
            }
        },
    );
}
