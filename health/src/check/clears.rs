//! What ends the trouble that a rule found, for people.

/// What ends it.
#[must_use]
pub fn clears(check: &str) -> &'static str {
    match check {
        "presence" => "it answers three looks in a row",
        "ecc_ue" => {
            "its firmware is restarted and a self-test passes in that new life; time proves nothing"
        }
        "aer_uncorrectable" => {
            "a fatal error: a new life with a passed self-test, of a NIC `auk clear`; a non-fatal one: nothing new for \
             the clean time (10 min by default)"
        }
        "firmware_state" => "the firmware runs",
        "heartbeat" => "it beats for 3 s",
        "self_test" => "a self-test passes",
        "repeat_offender" => "`auk clear`, by somebody who has looked at it; nothing else",
        check if crate::host::TOPICS.iter().any(|topic| topic.name == check) => {
            "it is as the manifest says, or the manifest says otherwise"
        }
        "identity" | "driver" | "iommu_group" | "numa_node" | "firmware_version"
        | "nic_version" => "it is as the manifest says, or the manifest says otherwise",
        "reset_failures" | "logged_pcie_errors" => {
            "after what is unhealthy: a new life with a passed self-test, of a NIC `auk clear` or a boot; else nothing new for \
             the clean time (10 min by default)"
        }
        "machine_checks" => {
            "lost data: a boot, or `auk clear`; else nothing new for the clean time (10 min by default)"
        }
        "kernel_log" => "the log can be read",
        "carrier" => "the carrier is back",
        "rdma_port" => "the port is active, at its rate and with its addresses",
        _ => "nothing bad is seen for the clean time (10 min by default), or `auk clear`",
    }
}
