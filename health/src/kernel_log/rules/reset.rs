//! Rules on functions that are slow or lost after a reset or sleep.

use super::Blamed::Function as Of;
use super::Piece::{Any, Function, Number, OneOf, Text, Word};
use super::{PLAIN, Rule, Topic, Weight};

const RESET: &str = "drivers/pci/pci.c";

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "reset_failed",
        topic: Topic::ResetFailures,
        weight: Weight::Fatal,
        patterns: &[&[
            Word,
            Text(" "),
            Function,
            Text(": not ready "),
            Number,
            Text("ms after "),
            OneOf(&["FLR", "PM D3hot->D0", "bus reset", "DPC"]),
            Text("; giving up"),
        ]],
        why: "it did not answer for a minute after a reset",
        printed_by: RESET,
        examples: &[(
            "vfio-pci 0000:10:00.0: not ready 65535ms after FLR; giving up",
            Of("0000:10:00.0"),
        )],
        counter_example: "vfio-pci 0000:10:00.0: not ready 32767ms after FLR; waiting",
        ..PLAIN
    },
    Rule {
        name: "resume_failed",
        topic: Topic::ResetFailures,
        weight: Weight::Serious,
        patterns: &[
            &[
                Word,
                Text(" "),
                Function,
                Text(": not ready "),
                Number,
                Text("ms after resume; giving up"),
            ],
            &[
                Word,
                Text(" "),
                Function,
                Text(": Unable to change power state from "),
                Word,
                Text(" to D0, device inaccessible"),
            ],
        ],
        why: "it did not come back from sleep",
        printed_by: RESET,
        examples: &[
            (
                "amdgpu 0000:01:00.0: not ready 65535ms after resume; giving up",
                Of("0000:01:00.0"),
            ),
            (
                "nvme 0000:03:00.0: Unable to change power state from D3cold to D0, device inaccessible",
                Of("0000:03:00.0"),
            ),
        ],
        counter_example: "amdgpu 0000:01:00.0: not ready 32767ms after resume; waiting",
        ..PLAIN
    },
    Rule {
        name: "reset_slow",
        topic: Topic::ResetFailures,
        patterns: &[&[
            Word,
            Text(" "),
            Function,
            Text(": not ready "),
            Number,
            Text("ms after "),
            Any,
            Text("; waiting"),
        ]],
        why: "it takes long to come back from a reset",
        printed_by: RESET,
        examples: &[(
            "vfio-pci 0000:10:00.0: not ready 16383ms after FLR; waiting",
            Of("0000:10:00.0"),
        )],
        counter_example: "vfio-pci 0000:10:00.0: ready 1023ms after FLR",
        ..PLAIN
    },
    Rule {
        name: "vfio_bar_restore",
        topic: Topic::ResetFailures,
        weight: Weight::Counted,
        patterns: &[&[
            Word,
            Text(" "),
            Function,
            Text(": vfio_bar_restore: reset recovery - restoring BARs"),
        ]],
        why: "it was reset behind the back of VFIO, or reads as such",
        printed_by: "drivers/vfio/pci/vfio_pci_config.c",
        examples: &[(
            "vfio-pci 0000:01:00.0: vfio_bar_restore: reset recovery - restoring BARs",
            Of("0000:01:00.0"),
        )],
        counter_example: "vfio-pci 0000:01:00.0: vfio_ecap_init: hiding ecap 0x19@0x900",
        ..PLAIN
    },
];
