//! What drivers call the counters of their own that are judged (`ethtool -S`). There is no rule to these names, so each driver has
//! its list; of a driver that has none here nothing is read by name.

/// What a counter counts, and thereby what it is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counts {
    /// Frames or symbols that came in damaged.
    Damage,
    /// What the port itself throws away for want of room.
    Discards,
    /// Pause frames that stop this end.
    Paused,
    /// Times that this end stopped the other for so long that the card gave up.
    PauseStorm,
    /// Times that a queue hung and was set up anew.
    Reset,
    /// Errors in the card's memory that could not be corrected.
    Memory,
}

/// A pattern of names, in which `#` stands for a number.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The pattern.
    pub pattern: &'static str,
    /// What they count.
    pub counts: Counts,
}

const fn named(pattern: &'static str, counts: Counts) -> Named {
    Named { pattern, counts }
}

use Counts::{Damage, Discards, Memory, PauseStorm, Paused, Reset};

/// By driver, with the file of the kernel that has the names.
const DRIVERS: &[(&str, &[Named])] = &[
    // drivers/net/ethernet/mellanox/mlx5/core/en_stats.c, explained in Documentation/networking/device_drivers/ethernet/
    // mellanox/mlx5/counters.rst.
    (
        "mlx5_core",
        &[
            named("rx_crc_errors_phy", Damage),
            named("rx_symbol_err_phy", Damage),
            named("rx_pcs_symbol_err_phy", Damage),
            named("rx_discards_phy", Discards),
            named("tx_discards_phy", Discards),
            named("rx_prio#_pause", Paused),
            named("rx_global_pause", Paused),
            named("tx_pause_storm_error_events", PauseStorm),
            named("tx#_recover", Reset),
        ],
    ),
    // drivers/net/ethernet/broadcom/bnxt/bnxt_ethtool.c.
    (
        "bnxt_en",
        &[
            named("rx_fcs_err_frames", Damage),
            named("rx_pcs_symbol_err", Damage),
            named("rx_stat_discard", Discards),
            named("tx_stat_discard", Discards),
            named("rx_pause_frames", Paused),
            named("rx_pfc_ena_frames_pri#", Paused),
            named("continuous_pause_events", PauseStorm),
            named("continuous_roce_pause_events", PauseStorm),
        ],
    ),
    // drivers/net/ethernet/intel/ice/ice_ethtool.c.
    (
        "ice",
        &[
            named("rx_crc_errors.nic", Damage),
            named("illegal_bytes.nic", Damage),
            named("rx_dropped.nic", Discards),
            named("link_xoff_rx.nic", Paused),
            named("rx_priority_#_xoff.nic", Paused),
        ],
    ),
    // drivers/net/ethernet/intel/e1000e/ethtool.c.
    (
        "e1000e",
        &[
            named("rx_crc_errors", Damage),
            named("rx_align_errors", Damage),
            named("rx_missed_errors", Discards),
            named("rx_flow_control_xoff", Paused),
            named("tx_timeout_count", Reset),
            named("uncorr_ecc_errors", Memory),
        ],
    ),
    // drivers/net/virtio_net.c; before 6.11 with `_queue`.
    (
        "virtio_net",
        &[
            named("tx#_tx_timeouts", Reset),
            named("tx_queue_#_tx_timeouts", Reset),
        ],
    ),
];

/// The names of a driver; none of one that is not known.
#[must_use]
pub fn of(driver: &str) -> &'static [Named] {
    let known = DRIVERS.iter().find(|(name, _)| *name == driver);
    known.map_or(&[], |(_, names)| names)
}

/// The pattern that a name is of, if it is one of these.
#[must_use]
pub fn find(names: &'static [Named], name: &str) -> Option<&'static Named> {
    names.iter().find(|named| matches(named.pattern, name))
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('#') else {
        return pattern == name;
    };
    let number = name
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_each_number_and_for_nothing_else() {
        assert!(matches("rx_prio#_pause", "rx_prio3_pause"));
        assert!(matches("rx_prio#_pause", "rx_prio12_pause"));
        for other in [
            "rx_prio_pause",
            "rx_prio3_pause_duration",
            "rx_priox_pause",
            "rx_prio3pause",
            "rx_prio",
        ] {
            assert!(!matches("rx_prio#_pause", other), "{other}");
        }
        assert!(matches("rx_crc_errors", "rx_crc_errors"));
        assert!(!matches("rx_crc_errors", "rx_crc_errors_phy"));
    }

    #[test]
    fn of_a_driver_that_is_not_known_no_name_is_taken() {
        assert!(find(of("somebody's"), "rx_crc_errors").is_none());
        let found = find(of("mlx5_core"), "rx_prio3_pause").unwrap();
        assert_eq!(found.counts, Paused);
    }
}
