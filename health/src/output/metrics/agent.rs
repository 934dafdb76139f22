//! Metrics of the agent itself: how it is, and what it costs.

use super::exposition::{Exposition, Kind, labels};
use super::{flag, seconds};
use crate::Status;
use crate::status::AgentStatus;
use crate::store::StoreStatus;

pub(super) fn write(out: &mut Exposition, status: &Status) {
    let agent = &status.agent;
    out.metric("auk_agent_info", Kind::Gauge, "The agent, always 1")
        .sample(&[&labels(&[("version", &agent.version)])], 1);
    out.metric(
        "auk_agent_start_time_seconds",
        Kind::Gauge,
        "When the agent started, in seconds since 1970",
    )
    .sample(&[], seconds(agent.started_unix_ms));
    rounds(out, status);
    readers(out, agent);
    config(out, agent);
    if let Some(store) = &status.store {
        self::store(out, store);
    }
    out.metric(
        "process_cpu_seconds",
        Kind::Counter,
        "CPU time of the agent's process",
    )
    .sample(&[], agent.cpu_seconds);
    out.metric(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory of the agent's process",
    )
    .sample(&[], agent.resident_bytes);
}

fn rounds(out: &mut Exposition, status: &Status) {
    let agent = &status.agent;
    let help = "Rounds of looks that ended";
    out.metric("auk_agent_rounds", Kind::Counter, help)
        .sample(&[], agent.rounds);
    let help = "How long rounds took, from the first question to the last answer or the deadline";
    out.metric("auk_agent_round_duration_seconds", Kind::Summary, help)
        .summary(agent.round_seconds, agent.rounds);
    let help = "Time between two rounds";
    out.metric("auk_agent_interval_seconds", Kind::Gauge, help)
        .sample(&[], seconds(agent.interval_ms));
    let help = "1 while the host's devices cannot be listed";
    out.metric("auk_agent_discovery_failed", Kind::Gauge, help)
        .sample(&[], flag(status.discovery_error.is_some()));
}

fn readers(out: &mut Exposition, agent: &AgentStatus) {
    let readers = &agent.readers;
    let help = "Processes that read for the agent; held ones hang in a read that does not end";
    let mut metric = out.metric("auk_agent_readers", Kind::Gauge, help);
    for (state, count) in [("serving", readers.serving), ("held", readers.held)] {
        metric.sample(&[&labels(&[("state", state)])], count);
    }
    out.metric(
        "auk_agent_readers_started",
        Kind::Counter,
        "Readers started",
    )
    .sample(&[], readers.started);
    let help =
        "CPU time of the processes that the agent started: readers, and hooks that have ended";
    out.metric("auk_agent_children_cpu_seconds", Kind::Counter, help)
        .sample(&[], readers.cpu_seconds);
    let help =
        "Resident memory of the processes that read for the agent, what they share counted in each";
    out.metric("auk_agent_readers_resident_memory_bytes", Kind::Gauge, help)
        .sample(&[], readers.resident_bytes);
    let help = "Dwords of config space that were asked for, each a transaction on the bus";
    out.metric("auk_agent_config_dwords", Kind::Counter, help)
        .sample(&[], agent.config_dwords);
    let help = "Accelerators by how their config space is read beyond 64 bytes";
    let mut metric = out.metric("auk_agent_config_access", Kind::Gauge, help);
    let access = &agent.config_access;
    for (way, count) in [
        ("direct", access.direct),
        ("opener", access.opener),
        ("none", access.none),
    ] {
        metric.sample(&[&labels(&[("way", way)])], count);
    }
}

fn config(out: &mut Exposition, agent: &AgentStatus) {
    let help = "The configuration in force by the digest of its values, always 1";
    out.metric("auk_agent_config_info", Kind::Gauge, help)
        .sample(&[&labels(&[("hash", &agent.config.hash)])], 1);
    let reload = agent.config.reload.as_ref();
    // Without a good one there would be no agent.
    let good = reload.is_none_or(|reload| reload.problems.is_empty());
    let help =
        "0 when the files could not be used when they were read last, and older ones are in force";
    let name = "auk_agent_config_last_reload_successful";
    out.metric(name, Kind::Gauge, help).sample(&[], flag(good));
    let at = reload.map_or(agent.config.since_unix_ms, |reload| reload.at_unix_ms);
    let help = "When the files were read last, at start or at a reload";
    let name = "auk_agent_config_last_reload_timestamp_seconds";
    out.metric(name, Kind::Gauge, help).sample(&[], seconds(at));
}

fn store(out: &mut Exposition, store: &StoreStatus) {
    let help = "1 while what must survive the agent can be written";
    out.metric("auk_store_writable", Kind::Gauge, help)
        .sample(&[], flag(store.writable));
    let help = "Events that wait in memory to be written";
    out.metric("auk_store_unwritten_events", Kind::Gauge, help)
        .sample(&[], store.unwritten);
    let help = "Bytes in use in the store's file";
    out.metric("auk_store_size_bytes", Kind::Gauge, help)
        .sample(&[], store.bytes);
    let help = "The greatest id that was given to an event";
    out.metric("auk_store_last_event_id", Kind::Gauge, help)
        .sample(&[], store.last_event_id);
    let help = "Events dropped unwritten since the agent started, as too many waited";
    out.metric("auk_store_lost_events", Kind::Counter, help)
        .sample(&[], store.lost);
}
