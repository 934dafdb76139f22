//! Rules on what an IOMMU refused.

use super::Blamed::Function as Of;
use super::Piece::{Any, Function, Text, Word};
use super::{PLAIN, Rule, Topic, Weight};

pub(super) const RULES: &[Rule] = &[
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
];
