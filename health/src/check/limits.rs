//! The limits of all rules, which a configuration may change. Each rule keeps its own beside its code.

use super::over_time::Samples;
use super::{
    aer_correctable, carrier, carrier_flaps, ecc_ce, firmware_state, heartbeat, kernel_log,
    page_retirement, port_counters, port_drops, port_errors, port_fec, port_pause, power_state,
    presence, rdma_errors, rdma_port, temperature,
};
use crate::config::Section;

/// Limits, by rule. A rule that is not among them has none to change.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    pub(super) aer_above: aer_correctable::Limits,
    pub(super) aer_correctable: aer_correctable::Limits,
    pub(super) carrier: carrier::Limits,
    pub(super) carrier_flaps: carrier_flaps::Limits,
    pub(super) ecc_ce: ecc_ce::Limits,
    pub(super) firmware_state: firmware_state::Limits,
    pub(super) heartbeat: heartbeat::Limits,
    pub(super) kernel_log: kernel_log::AllLimits,
    pub(super) link: Samples,
    pub(super) driver: Samples,
    pub(super) page_retirement: page_retirement::Limits,
    pub(super) pcie_replays: aer_correctable::Limits,
    pub(super) port_counters: port_counters::Limits,
    pub(super) port_drops: port_drops::Limits,
    pub(super) port_errors: port_errors::Limits,
    pub(super) port_fec: port_fec::Limits,
    pub(super) port_lanes: Samples,
    pub(super) port_pause: port_pause::Limits,
    pub(super) port_speed: Samples,
    pub(super) power_state: power_state::Limits,
    pub(super) presence: presence::Limits,
    pub(super) rdma_errors: rdma_errors::Limits,
    pub(super) rdma_port: rdma_port::Limits,
    pub(super) temperature: temperature::Limits,
    pub(super) throttle: Samples,
}

impl Limits {
    /// The limits of the rule of a name, if it has any.
    pub(crate) fn of(&mut self, check: &str) -> Option<&mut dyn Section> {
        Some(match check {
            "aer_above" => &mut self.aer_above,
            "aer_correctable" => &mut self.aer_correctable,
            "carrier" => &mut self.carrier,
            "carrier_flaps" => &mut self.carrier_flaps,
            "ecc_ce" => &mut self.ecc_ce,
            "firmware_state" => &mut self.firmware_state,
            "heartbeat" => &mut self.heartbeat,
            "link" => &mut self.link,
            "driver" => &mut self.driver,
            "page_retirement" => &mut self.page_retirement,
            "pcie_replays" => &mut self.pcie_replays,
            "port_counters" => &mut self.port_counters,
            "port_drops" => &mut self.port_drops,
            "port_errors" => &mut self.port_errors,
            "port_fec" => &mut self.port_fec,
            "port_lanes" => &mut self.port_lanes,
            "port_pause" => &mut self.port_pause,
            "port_speed" => &mut self.port_speed,
            "power_state" => &mut self.power_state,
            "presence" => &mut self.presence,
            "rdma_errors" => &mut self.rdma_errors,
            "rdma_port" => &mut self.rdma_port,
            "temperature" => &mut self.temperature,
            "throttle" => &mut self.throttle,
            _ => {
                return self
                    .kernel_log
                    .of(check)
                    .map(|limits| limits as &mut dyn Section);
            }
        })
    }
}
