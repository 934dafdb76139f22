//! Rules on PCIe errors and slots: what the kernel finds by AER, what the firmware reports.

use super::Blamed::Function as Of;
use super::Piece::{Any, Function, Number, OneOf, Port, Text, Word};
use super::{PLAIN, Rule, Topic, Weight};

const AER: &str = "drivers/pci/pcie/aer.c";
const CPER: &str = "drivers/firmware/efi/cper.c";
/// Kernels before 5.19 say the first of each.
const CORRECTABLE: &[&str] = &["Corrected", "Correctable"];
const UNCORRECTABLE: &[&str] = &["Uncorrected", "Uncorrectable"];

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "aer_correctable",
        topic: Topic::PcieErrors,
        weight: Weight::Counted,
        patterns: &[&[
            Word,
            Text(" "),
            Function,
            Text(": PCIe Bus Error: severity="),
            OneOf(CORRECTABLE),
            Text(", type="),
        ]],
        why: "the link corrects errors",
        printed_by: AER,
        examples: &[
            (
                "nvme 0000:04:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
                Of("0000:04:00.0"),
            ),
            (
                "pcieport 0000:00:01.0: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Transmitter ID)",
                Of("0000:00:01.0"),
            ),
        ],
        counter_example: "nvme 0000:04:00.0:   device [144d:a80a] error status/mask=00000001/0000e000",
        ..PLAIN
    },
    Rule {
        name: "aer_nonfatal",
        topic: Topic::PcieErrors,
        weight: Weight::Serious,
        patterns: &[&[
            Word,
            Text(" "),
            Function,
            Text(": PCIe Bus Error: severity="),
            OneOf(UNCORRECTABLE),
            Text(" (Non-Fatal), type="),
        ]],
        why: "a transaction was lost",
        printed_by: AER,
        examples: &[(
            "pcieport 0000:03:01.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)",
            Of("0000:03:01.0"),
        )],
        counter_example: "pcieport 0000:03:01.0: PCIe Bus Error: severity=Corrected, type=Data Link Layer, (Transmitter ID)",
        ..PLAIN
    },
    Rule {
        name: "aer_fatal",
        topic: Topic::PcieErrors,
        weight: Weight::Fatal,
        patterns: &[&[
            Word,
            Text(" "),
            Function,
            Text(": PCIe Bus Error: severity="),
            OneOf(UNCORRECTABLE),
            Text(" (Fatal), type="),
        ]],
        why: "its link was lost in an error, and the kernel had to reset it",
        printed_by: AER,
        examples: &[(
            "mlx5_core 0000:41:00.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible, (Unregistered Agent ID)",
            Of("0000:41:00.0"),
        )],
        counter_example: "pcieport 0000:03:01.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer, (Requester ID)",
        ..PLAIN
    },
    Rule {
        name: "aer_message",
        topic: Topic::Links,
        patterns: &[
            &[
                Word,
                Text(" "),
                Port,
                Text(": AER: "),
                Any,
                Text(" error message received from "),
                Function,
            ],
            &[
                Word,
                Text(" "),
                Port,
                Text(": AER: "),
                Any,
                Text(" error received: "),
                Function,
            ],
        ],
        why: "a port took an error message of it; the counters say which",
        printed_by: AER,
        examples: &[
            (
                "pcieport 0000:00:1c.0: AER: Multiple Uncorrectable (Non-Fatal) error message received from 0000:73:00.1",
                Of("0000:73:00.1"),
            ),
            (
                "pcieport 0000:00:1c.0: AER: Uncorrected (Non-Fatal) error received: 0000:03:01.0",
                Of("0000:03:01.0"),
            ),
        ],
        counter_example: "pcieport 0000:00:1d.0: AER: device recovery failed",
        ..PLAIN
    },
    Rule {
        name: "aer_recovery_failed",
        topic: Topic::PcieErrors,
        weight: Weight::Serious,
        patterns: &[&[
            Word,
            Text(" "),
            Function,
            Text(": AER: "),
            OneOf(&["device", "Device"]),
            Text(" recovery failed"),
        ]],
        why: "after a PCIe error the kernel could not bring it, or what is below it, back",
        printed_by: "drivers/pci/pcie/err.c",
        examples: &[(
            "pcieport 0000:00:1d.0: AER: device recovery failed",
            Of("0000:00:1d.0"),
        )],
        counter_example: "pcieport 0000:00:1d.0: AER: device recovery successful",
        ..PLAIN
    },
    Rule {
        name: "firmware_pcie_corrected",
        topic: Topic::PcieErrors,
        weight: Weight::Counted,
        left_over: false,
        patterns: &[&[
            Text("{"),
            Number,
            Text("}[Hardware Error]:   device_id: "),
            Function,
        ]],
        report: Some("corrected"),
        why: "the firmware reports that its link corrects errors",
        printed_by: CPER,
        examples: &[(
            "{3}[Hardware Error]:   device_id: 0000:2c:00.0",
            Of("0000:2c:00.0"),
        )],
        counter_example: "{3}[Hardware Error]:   vendor_id: 0x1022, device_id: 0xb000",
    },
    Rule {
        name: "firmware_pcie_recoverable",
        topic: Topic::PcieErrors,
        weight: Weight::Serious,
        left_over: false,
        patterns: &[&[
            Text("{"),
            Number,
            Text("}[Hardware Error]:   device_id: "),
            Function,
        ]],
        report: Some("recoverable"),
        why: "the firmware reports an error of its link that was not corrected",
        printed_by: CPER,
        examples: &[(
            "{1}[Hardware Error]:   device_id: 0000:5d:00.0",
            Of("0000:5d:00.0"),
        )],
        counter_example: "{1}[Hardware Error]:   vendor_id: 0x8086, device_id: 0x2030",
    },
    Rule {
        name: "firmware_pcie_fatal",
        topic: Topic::PcieErrors,
        weight: Weight::Fatal,
        left_over: false,
        patterns: &[&[
            Text("{"),
            Number,
            Text("}[Hardware Error]:   device_id: "),
            Function,
        ]],
        report: Some("fatal"),
        why: "the firmware reports a fatal error of its link",
        printed_by: CPER,
        examples: &[(
            "{763}[Hardware Error]:   device_id: 0000:82:00.0",
            Of("0000:82:00.0"),
        )],
        counter_example: "{763}[Hardware Error]:   vendor_id: 0x8086, device_id: 0x10fb",
    },
    Rule {
        name: "slot_event",
        topic: Topic::Links,
        patterns: &[&[
            Text("pcieport "),
            Function,
            Text(": pciehp: Slot("),
            Any,
            Text("): "),
            OneOf(&["Link Down", "Card not present"]),
        ]],
        why: "what is in the slot below it went",
        printed_by: "drivers/pci/hotplug/pciehp_ctrl.c",
        examples: &[
            (
                "pcieport 0000:00:01.0: pciehp: Slot(1): Link Down",
                Of("0000:00:01.0"),
            ),
            (
                "pcieport 0000:00:01.0: pciehp: Slot(0-2): Card not present",
                Of("0000:00:01.0"),
            ),
        ],
        counter_example: "pcieport 0000:00:01.0: pciehp: Slot(1): Link Up",
        ..PLAIN
    },
];
