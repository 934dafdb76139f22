//! `/metrics`: the status document as `OpenMetrics` text, in base units.

use std::fmt;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::facts::LinkRate;
use crate::status::{ComponentStatus, Status};
use crate::verdict::{Admit, HealthState};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) type Labels = Vec<(&'static str, String)>;
pub(super) type Float = Gauge<f64, std::sync::atomic::AtomicU64>;

/// The text for a status.
///
/// # Errors
/// When a metric cannot be formatted.
pub fn encode(status: &Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    components(&mut registry, status);
    accelerators(&mut registry, status);
    links(&mut registry, status);
    ports(&mut registry, status);
    agent(&mut registry, status);
    super::config_metrics::register(&mut registry, &status.agent);
    if let Some(store) = &status.store {
        super::store_metrics::register(&mut registry, store);
    }
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// One metric over all components.
struct Table<'a> {
    registry: &'a mut Registry,
    components: &'a [ComponentStatus],
}

impl Table<'_> {
    /// A gauge of those components that have the value.
    fn gauge(&mut self, name: &str, help: &str, value: impl Fn(&ComponentStatus) -> Option<f64>) {
        self.gauges(name, help, |component| {
            value(component)
                .map(|value| (Vec::new(), value))
                .into_iter()
                .collect()
        });
    }

    /// A gauge with labels of its own.
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        values: impl Fn(&ComponentStatus) -> Vec<(Labels, f64)>,
    ) {
        let family = Family::<Labels, Float>::default();
        for component in self.components {
            for (labels, value) in values(component) {
                family
                    .get_or_create(&labels_of(component, labels))
                    .set(value);
            }
        }
        self.registry.register(name, help, family);
    }

    /// A counter with labels of its own; the encoder appends `_total`.
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl Fn(&ComponentStatus) -> Vec<(Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter>::default();
        for component in self.components {
            for (labels, value) in values(component) {
                family
                    .get_or_create(&labels_of(component, labels))
                    .inc_by(value);
            }
        }
        self.registry.register(name, help, family);
    }

    /// A counter of those components that have the value.
    fn counter(&mut self, name: &str, help: &str, value: impl Fn(&ComponentStatus) -> Option<u64>) {
        self.counters(name, help, |component| {
            value(component)
                .map(|value| (Vec::new(), value))
                .into_iter()
                .collect()
        });
    }
}

fn labels_of(component: &ComponentStatus, more: Labels) -> Labels {
    let mut labels = vec![
        ("component", component.bdf.clone()),
        ("kind", component.kind.name().to_owned()),
    ];
    labels.extend(more);
    labels
}

fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

fn components(registry: &mut Registry, status: &Status) {
    let mut table = Table {
        registry,
        components: &status.components,
    };
    table.gauges(
        "auk_component_info",
        "Who a component is, always 1",
        |component| {
            let identity = &component.identity;
            let known = |value: &Option<String>| value.clone().unwrap_or_default();
            let labels = vec![
                ("serial", known(&identity.serial)),
                ("slot", known(&identity.slot)),
                ("interface", known(&identity.interface)),
                ("pci_id", identity.pci_id.clone()),
            ];
            vec![(labels, 1.0)]
        },
    );
    table.gauges(
        "auk_component_state",
        "1 for the state that a component is in",
        |component| {
            let one = |state: HealthState| {
                (
                    vec![("state", state.name().to_owned())],
                    flag(component.state == state),
                )
            };
            HealthState::ALL.map(one).to_vec()
        },
    );
    table.gauges(
        "auk_component_admission",
        "1 for the answer to whether a new job may start on a component",
        |component| {
            let one = |answer: Admit| {
                let labels = vec![("answer", answer.name().to_owned())];
                (labels, flag(component.admission.answer == answer))
            };
            Admit::ALL.map(one).to_vec()
        },
    );
    table.gauge(
        "auk_component_sample_age_seconds",
        "Time since the last look at a component that saw anything",
        |component| component.sample_age_ms.map(seconds),
    );
    table.counter(
        "auk_component_probe_failures",
        "Readings of a component that failed",
        |component| Some(component.probe_failures),
    );
}

fn accelerators(registry: &mut Registry, status: &Status) {
    let mut table = Table {
        registry,
        components: &status.components,
    };
    table.gauges(
        "auk_accelerator_temperature_celsius",
        "Temperatures",
        |component| {
            let Some(vitals) = &component.vitals else {
                return Vec::new();
            };
            let at = |sensor: &str, value| (vec![("sensor", sensor.to_owned())], value);
            vec![
                at("die", vitals.die_celsius),
                at("memory", vitals.memory_celsius),
            ]
        },
    );
    table.gauge("auk_accelerator_power_watts", "Board power", |component| {
        component.vitals.as_ref().map(|vitals| vitals.power_watts)
    });
    table.gauge(
        "auk_accelerator_throttled",
        "1 while the chip gives a reason to run slower",
        |component| {
            component
                .vitals
                .as_ref()
                .map(|vitals| flag(!vitals.throttle.is_empty()))
        },
    );
    table.gauge(
        "auk_accelerator_generation",
        "Starts of the firmware since power-on",
        |component| {
            component
                .vitals
                .as_ref()
                .map(|vitals| f64::from(vitals.generation))
        },
    );
    table.counters(
        "auk_accelerator_ecc_errors",
        "Memory errors, lifetime",
        |component| {
            let Some(vitals) = &component.vitals else {
                return Vec::new();
            };
            let of =
                |severity: &str, value| (vec![("severity", severity.to_owned())], u64::from(value));
            vec![
                of("correctable", vitals.ecc_ce),
                of("uncorrectable", vitals.ecc_ue),
            ]
        },
    );
    table.counter(
        "auk_accelerator_retired_pages",
        "Pages of device memory taken out of use, lifetime",
        |component| {
            component
                .vitals
                .as_ref()
                .map(|vitals| u64::from(vitals.retired_pages))
        },
    );
    table.counter(
        "auk_accelerator_pcie_replays",
        "PCIe replays since power-on",
        |component| {
            component
                .vitals
                .as_ref()
                .map(|vitals| u64::from(vitals.pcie_replays))
        },
    );
}

fn links(registry: &mut Registry, status: &Status) {
    let mut table = Table {
        registry,
        components: &status.components,
    };
    let rates = |component: &ComponentStatus, value: fn(LinkRate) -> f64| {
        let Some(link) = component.link else {
            return Vec::new();
        };
        [("current", link.current), ("max", link.max)]
            .into_iter()
            .filter_map(|(which, rate)| Some((vec![("which", which.to_owned())], value(rate?))))
            .collect()
    };
    table.gauges("auk_link_width_lanes", "PCIe link width", |component| {
        rates(component, |rate| f64::from(rate.width))
    });
    table.gauges(
        "auk_link_transfers_per_second",
        "PCIe link speed: transfers a second and lane",
        |component| rates(component, |rate| f64::from(rate.megatransfers) * 1e6),
    );
    table.counters(
        "auk_aer_errors",
        "PCIe errors that the kernel counted",
        |component| {
            let Some(aer) = component.aer else {
                return Vec::new();
            };
            let of = |severity: &str, value| (vec![("severity", severity.to_owned())], value);
            vec![
                of("correctable", aer.correctable),
                of("nonfatal", aer.nonfatal),
                of("fatal", aer.fatal),
            ]
        },
    );
}

fn ports(registry: &mut Registry, status: &Status) {
    let mut table = Table {
        registry,
        components: &status.components,
    };
    table.gauge(
        "auk_port_carrier",
        "1 while a port has a carrier",
        |component| component.port?.carrier.map(flag),
    );
    table.gauge(
        "auk_port_speed_bits_per_second",
        "Negotiated speed of a port",
        |component| {
            // Speeds are far below 2^53.
            component.port?.speed_mbit.map(|mbit| mbit as f64 * 1e6)
        },
    );
    table.counter(
        "auk_port_carrier_downs",
        "Times that the carrier went",
        |component| component.port?.carrier_down,
    );
    table.counters(
        "auk_port_errors",
        "Errors that a port's driver counted",
        |component| {
            let Some(port) = component.port else {
                return Vec::new();
            };
            let counts = [
                ("rx_errors", port.errors.rx),
                ("tx_errors", port.errors.tx),
                ("rx_crc_errors", port.errors.rx_crc),
            ];
            let one = |(counter, value): (&str, Option<u64>)| {
                Some((vec![("counter", counter.to_owned())], value?))
            };
            counts.into_iter().filter_map(one).collect()
        },
    );
}

fn agent(registry: &mut Registry, status: &Status) {
    let agent = &status.agent;
    let rounds = Counter::<u64>::default();
    rounds.inc_by(agent.rounds);
    registry.register("auk_agent_rounds", "Rounds of looks that ended", rounds);
    let failed = Float::default();
    failed.set(flag(status.discovery_error.is_some()));
    let help = "1 while the host's devices cannot be listed";
    registry.register("auk_agent_discovery_failed", help, failed);
    let readers = Family::<Labels, Float>::default();
    for (state, count) in [
        ("serving", agent.readers.serving),
        ("held", agent.readers.held),
    ] {
        let labels = vec![("state", state.to_owned())];
        readers.get_or_create(&labels).set(count as f64);
    }
    let help = "Processes that read for the agent; held ones hang in a read that does not end";
    registry.register("auk_agent_readers", help, readers);
    let started = Counter::<u64>::default();
    started.inc_by(agent.readers.started);
    registry.register("auk_agent_readers_started", "Readers started", started);
    let access = Family::<Labels, Float>::default();
    for (way, count) in [
        ("direct", agent.config_access.direct),
        ("opener", agent.config_access.opener),
        ("none", agent.config_access.none),
    ] {
        let labels = vec![("way", way.to_owned())];
        access.get_or_create(&labels).set(count as f64);
    }
    let help = "Accelerators by how their config space is read beyond 64 bytes";
    registry.register("auk_agent_config_access", help, access);
    let cpu = Counter::<f64, std::sync::atomic::AtomicU64>::default();
    cpu.inc_by(agent.cpu_seconds);
    registry.register(
        "process_cpu_seconds",
        "CPU time of the agent's process",
        cpu,
    );
    let memory = Float::default();
    memory.set(agent.resident_bytes as f64);
    registry.register(
        "process_resident_memory_bytes",
        "Resident memory of the agent's process",
        memory,
    );
}

fn seconds(millis: u64) -> f64 {
    // Ages are far below 2^53 ms.
    millis as f64 / 1000.0
}
