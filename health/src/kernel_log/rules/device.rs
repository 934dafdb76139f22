//! Rules on PCI functions.

use super::Blamed::{Function as Of, Interface as OfInterface};
use super::Piece::{Any, Function, Interface, Number, OneOf, Port, Text, Word};
use super::{PLAIN, Rule, Topic, Weight};

const AER: &str = "drivers/pci/pcie/aer.c";
const CPER: &str = "drivers/firmware/efi/cper.c";
const RESET: &str = "drivers/pci/pci.c";
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
        name: "iommu_fault",
        topic: Topic::IommuFaults,
        weight: Weight::Counted,
        patterns: &[
            // VT-d; since 5.15 with the PASID.
            &[
                Text("DMAR: [DMA "),
                Any,
                Text("] Request device ["),
                Function,
                Text("] fault addr "),
            ],
            // AMD-Vi, by a function with a driver and by one without.
            &[
                Word,
                Text(" "),
                Function,
                Text(": AMD-Vi: Event logged [IO_PAGE_FAULT domain="),
            ],
            &[
                Text("AMD-Vi: Event logged [IO_PAGE_FAULT device="),
                Function,
                Text(" domain="),
            ],
            // SMMUv3 of 6.15 and newer, which names the function.
            &[
                Text("arm-smmu-v3 "),
                Word,
                Text(" event: F_"),
                Word,
                Text(" client: "),
                Function,
                Text(" sid: "),
            ],
        ],
        why: "it read or wrote memory that it was not given",
        printed_by: "drivers/iommu/intel/dmar.c, amd/iommu.c, arm/arm-smmu-v3/arm-smmu-v3.c",
        examples: &[
            (
                "DMAR: [DMA Read NO_PASID] Request device [01:00.0] fault addr 0xfffff000 [fault reason 0x06] PTE Read access is \
                 not set",
                Of("0000:01:00.0"),
            ),
            (
                "DMAR: [DMA Write] Request device [00:02.0] fault addr 6df084000 [fault reason 05] PTE Write access is not set",
                Of("0000:00:02.0"),
            ),
            (
                "amdgpu 0000:04:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0x10b4c0000 flags=0x0070]",
                Of("0000:04:00.0"),
            ),
            (
                "AMD-Vi: Event logged [IO_PAGE_FAULT device=04:00.0 domain=0x0000 address=0x10b4a01e0 flags=0x0070]",
                Of("0000:04:00.0"),
            ),
            (
                "arm-smmu-v3 fc900000.iommu: event: F_TRANSLATION client: 0000:01:00.0 sid: 0x100 ssid: 0x0 iova: 0x90000f040 \
                 ipa: 0x0",
                Of("0000:01:00.0"),
            ),
        ],
        counter_example: "DMAR: DRHD: handling fault status reg 2",
        ..PLAIN
    },
    Rule {
        name: "iommu_interrupt_fault",
        topic: Topic::IommuFaults,
        weight: Weight::Counted,
        patterns: &[&[
            Text("DMAR: [INTR-REMAP] Request device ["),
            Function,
            Text("] fault index "),
        ]],
        why: "it raised an interrupt that it was not given",
        printed_by: "drivers/iommu/intel/dmar.c",
        examples: &[(
            "DMAR: [INTR-REMAP] Request device [f0:1f.7] fault index 0x0 [fault reason 0x25] Blocked a compatibility format \
             interrupt request",
            Of("0000:f0:1f.7"),
        )],
        counter_example: "DMAR: INTR-REMAP: Request device [[f0:1f.7] fault index 0",
        ..PLAIN
    },
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
