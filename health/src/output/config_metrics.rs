//! Metrics of the configuration.

use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::metrics::{Float, Labels};
use crate::status::AgentStatus;

/// Which configuration is in force, and whether the last try to read it went well.
pub(super) fn register(registry: &mut Registry, agent: &AgentStatus) {
    let info = Family::<Labels, Float>::default();
    let labels = vec![("hash", agent.config.hash.clone())];
    info.get_or_create(&labels).set(1.0);
    let help = "The configuration in force by the digest of its values, always 1";
    registry.register("auk_agent_config_info", help, info);

    let reload = agent.config.reload.as_ref();
    // Without a good one there would be no agent.
    let good = reload.is_none_or(|reload| reload.problems.is_empty());
    let successful = Float::default();
    successful.set(if good { 1.0 } else { 0.0 });
    registry.register(
        "auk_agent_config_last_reload_successful",
        "0 when the files could not be used when they were read last, and older ones are in force",
        successful,
    );
    let at = reload.map_or(agent.config.since_unix_ms, |reload| reload.at_unix_ms);
    let time = Float::default();
    // Milliseconds since 1970 are far below 2^53.
    time.set(at as f64 / 1000.0);
    registry.register(
        "auk_agent_config_last_reload_timestamp_seconds",
        "When the files were read last, at start or at a reload",
        time,
    );
}
