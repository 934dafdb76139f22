//! How the store is, as metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::store::StoreStatus;

pub(super) fn register(registry: &mut Registry, store: &StoreStatus) {
    let mut gauge = |name: &str, help: &str, value: f64| {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let writable = if store.writable { 1.0 } else { 0.0 };
    let help = "1 while what must survive the agent can be written";
    gauge("auk_store_writable", help, writable);
    let help = "Events that wait in memory to be written";
    gauge("auk_store_unwritten_events", help, store.unwritten as f64);
    let help = "Bytes in use in the store's file";
    gauge("auk_store_size_bytes", help, store.bytes as f64);
    let help = "The greatest id that was given to an event";
    gauge("auk_store_last_event_id", help, store.last_event_id as f64);
    let lost = Counter::<u64>::default();
    lost.inc_by(store.lost);
    let help = "Events dropped unwritten since the agent started, as too many waited";
    registry.register("auk_store_lost_events", help, lost);
}
