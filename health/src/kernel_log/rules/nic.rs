//! Rules on what drivers of NICs say.

use super::Blamed::{Function as Of, Interface as OfInterface};
use super::Piece::{Any, Function, Interface, Number, OneOf, Text, Word};
use super::{PLAIN, Rule, Topic, Weight};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "transmit_timeout",
        topic: Topic::DriverErrors,
        weight: Weight::Counted,
        patterns: &[
            &[
                Word,
                Text(" "),
                Function,
                Text(" "),
                Word,
                Text(" NETDEV WATCHDOG: "),
                Any,
                Text("transmit queue "),
                Number,
                Text(" timed out"),
            ],
            // Before 6.5, without the function.
            &[
                Text("NETDEV WATCHDOG: "),
                Interface,
                Text(" ("),
                Any,
                Text("): transmit queue "),
                Number,
                Text(" timed out"),
            ],
        ],
        why: "packets were not sent for seconds, and its driver resets it",
        printed_by: "net/sched/sch_generic.c",
        examples: &[
            (
                "bnxt_en 0000:04:00.0 eth0: NETDEV WATCHDOG: CPU: 2: transmit queue 1 timed out 5123 ms",
                Of("0000:04:00.0"),
            ),
            (
                "NETDEV WATCHDOG: enp3s0 (r8169): transmit queue 0 timed out 5368 ms",
                OfInterface("enp3s0"),
            ),
        ],
        counter_example: "virtio_net virtio0 eth0: NETDEV WATCHDOG: CPU: 1: transmit queue 0 timed out 5500 ms",
        ..PLAIN
    },
    Rule {
        name: "nic_hang",
        topic: Topic::DriverErrors,
        weight: Weight::Counted,
        patterns: &[
            &[
                Word,
                Text(" "),
                Function,
                Text(" "),
                Word,
                Text(" Detected Hardware Unit Hang:"),
            ],
            &[
                Word,
                Text(" "),
                Function,
                Text(" "),
                Word,
                Text(" TX timeout detected, starting reset task!"),
            ],
            &[
                Word,
                Text(" "),
                Function,
                Text(" "),
                Word,
                Text(" tx_timeout: VSI_num: "),
            ],
        ],
        why: "its driver finds that it does not send any more",
        printed_by: "drivers/net/ethernet: intel/e1000e/netdev.c, broadcom/bnxt/bnxt.c, intel/ice/ice_main.c",
        examples: &[
            (
                "e1000e 0000:00:1f.6 nic0: Detected Hardware Unit Hang:",
                Of("0000:00:1f.6"),
            ),
            (
                "bnxt_en 0000:04:00.0 eth0: TX timeout detected, starting reset task!",
                Of("0000:04:00.0"),
            ),
            (
                "ice 0000:b1:00.0 ens801f0np0: tx_timeout: VSI_num: 6, Q 14, NTC: 0x0, HW_HEAD: 0x0, NTU: 0x0, INT: 0x4000001",
                Of("0000:b1:00.0"),
            ),
        ],
        counter_example: "ice 0000:b1:00.0 ens801f0np0: tx_timeout recovery level 1, txqueue 14",
        ..PLAIN
    },
    Rule {
        name: "mlx5_health",
        topic: Topic::DriverErrors,
        weight: Weight::Serious,
        patterns: &[&[
            Text("mlx5_core "),
            Function,
            Text(": poll_health:"),
            Any,
            Text("device's health compromised - reached miss count"),
        ]],
        why: "its firmware does not count on: it hangs",
        printed_by: "drivers/net/ethernet/mellanox/mlx5/core/health.c",
        examples: &[(
            "mlx5_core 0000:41:00.0: poll_health:852:(pid 0): device's health compromised - reached miss count",
            Of("0000:41:00.0"),
        )],
        counter_example: "mlx5_core 0000:41:00.0: print_health_info:458:(pid 0): synd 0x8: unrecoverable hardware error",
        ..PLAIN
    },
    Rule {
        name: "mlx5_command_timeout",
        topic: Topic::DriverErrors,
        weight: Weight::Counted,
        patterns: &[&[
            Text("mlx5_core "),
            Function,
            Text(": "),
            Any,
            Text("timeout. Will cause a leak of a command resource"),
        ]],
        why: "its firmware did not answer a command for a minute",
        printed_by: "drivers/net/ethernet/mellanox/mlx5/core/cmd.c",
        examples: &[(
            "mlx5_core 0000:03:00.0: wait_func:964:(pid 112): ENABLE_HCA(0x104) timeout. Will cause a leak of a command resource",
            Of("0000:03:00.0"),
        )],
        counter_example: "mlx5_core 0000:03:00.0: wait_func:970:(pid 112): ENABLE_HCA(0x104) canceled on out of queue timeout.",
        ..PLAIN
    },
    Rule {
        name: "link_down",
        topic: Topic::Links,
        patterns: &[&[
            Word,
            Text(" "),
            Function,
            Text(" "),
            Word,
            Text(" "),
            OneOf(&["NIC Link is Down", "Link is Down", "Link down"]),
        ]],
        why: "its port lost the link; the port's counters say how often",
        printed_by: "drivers/net/ethernet, and net/phy for those with a PHY of their own",
        examples: &[
            (
                "mlx5_core 0000:41:00.0 enp65s0f0: Link down",
                Of("0000:41:00.0"),
            ),
            (
                "r8169 0000:03:00.0 enp3s0: Link is Down",
                Of("0000:03:00.0"),
            ),
            (
                "e1000e 0000:00:04.0 eth0: NIC Link is Down",
                Of("0000:00:04.0"),
            ),
        ],
        counter_example: "mlx5_core 0000:41:00.0 enp65s0f0: Link up",
        ..PLAIN
    },
];
