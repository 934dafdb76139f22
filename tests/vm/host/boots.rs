//! The boots: which machine, and which groups of tests run in it.

use auk_vm::Mode;

/// The IOMMU of a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Iommu {
    /// VT-d.
    Intel,
    /// AMD-Vi.
    Amd,
    /// `virtio-iommu`, which does not remap interrupts.
    Virtio,
    /// There is none.
    None,
}

/// What is plugged in beside our chips; each behind a root port of its own where it is PCI Express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    /// QEMU's teaching device.
    Edu,
    /// QEMU's NVMe controller, with a disk of zeros.
    Nvme,
    /// Intel's 82574L.
    E1000e,
    /// A random number generator that QEMU's monitor can send PCI Express errors from: `rng`.
    RngWithAer,
    /// An Ethernet interface that is connected to nothing.
    VirtioNet,
    /// A root port with nothing in it, to plug something in: `empty`.
    EmptyPort,
    /// An `edu` and an `e1000e` as two functions of one slot, which share an IOMMU group.
    SharedSlot,
}

/// A machine, and what is to run in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boot {
    pub(crate) name: &'static str,
    /// Names of kernel lines; all if empty.
    pub(crate) lines: &'static [&'static str],
    /// The modes that it is run in, each in a machine of its own.
    pub(crate) modes: &'static [Mode],
    pub(crate) iommu: Iommu,
    pub(crate) chips: usize,
    /// The ports above the chips are of 5 GT/s. QEMU's never say that a link is up that the machine began with, and of a faster one the
    /// kernel waits for that after a hot reset.
    pub(crate) slow_ports: bool,
    pub(crate) extras: &'static [Extra],
    /// Modules beside VFIO's, with what they need; `?` before one that not every kernel has.
    pub(crate) modules: &'static [&'static str],
    /// Groups of tests, in order.
    pub(crate) groups: &'static [&'static str],
    /// MiB of memory.
    pub(crate) memory: u32,
    /// Of these, huge pages of 2 MiB.
    pub(crate) huge_pages: u32,
    /// Part of the short form.
    pub(crate) short: bool,
}

const BOTH: &[Mode] = &[Mode::Group, Mode::Cdev];
const GROUP: &[Mode] = &[Mode::Group];
const ALL_LINES: &[&str] = &[];
const LTS: &[&str] = &["6.12"];

/// For two interfaces, and RDMA in software over them.
const SOFT_RDMA: &[&str] = &[
    "e1000e",
    "virtio_pci",
    "virtio_net",
    "?crc32_generic",
    "rdma_rxe",
    "ib_uverbs",
];

/// What most boots have: they differ from it in a few fields.
const PLAIN: Boot = Boot {
    name: "",
    lines: ALL_LINES,
    modes: BOTH,
    iommu: Iommu::Intel,
    chips: 1,
    slow_ports: false,
    extras: &[],
    modules: &[],
    groups: &[],
    memory: 1024,
    huge_pages: 0,
    short: false,
};

/// All of them, in order.
pub(crate) const BOOTS: &[Boot] = &[
    Boot {
        name: "chip",
        extras: &[Extra::Edu, Extra::Nvme, Extra::E1000e],
        modules: &["nvme", "e1000e"],
        groups: &[
            "discovery",
            "stock",
            "bind",
            "doctor",
            "edu",
            "nvme",
            "e1000e",
            "refused",
            "vfio_chip",
            "outside",
            "chip",
        ],
        short: true,
        ..PLAIN
    },
    Boot {
        name: "hot-reset",
        lines: LTS,
        slow_ports: true,
        groups: &["chip_reset"],
        short: true,
        ..PLAIN
    },
    Boot {
        name: "gone",
        extras: &[Extra::EmptyPort],
        groups: &["gone"],
        ..PLAIN
    },
    Boot {
        name: "death",
        groups: &["chip_death"],
        ..PLAIN
    },
    Boot {
        name: "eight",
        chips: 8,
        groups: &["discovery", "space", "vfio_space"],
        ..PLAIN
    },
    Boot {
        name: "shared-group",
        lines: LTS,
        extras: &[Extra::SharedSlot],
        modules: &["e1000e"],
        groups: &["shared"],
        ..PLAIN
    },
    Boot {
        name: "dead",
        groups: &["vfio_dead"],
        ..PLAIN
    },
    Boot {
        name: "huge",
        lines: LTS,
        groups: &["huge"],
        memory: 2560,
        huge_pages: 640,
        ..PLAIN
    },
    Boot {
        name: "aer",
        extras: &[Extra::RngWithAer],
        modules: &["aer_inject"],
        groups: &["aer", "chip_events"],
        ..PLAIN
    },
    Boot {
        name: "agent",
        lines: LTS,
        extras: &[Extra::Edu],
        modules: &["aer_inject"],
        // The last of "agent" leaves a chip that stopped.
        groups: &["agent_log", "agent"],
        ..PLAIN
    },
    Boot {
        name: "agent-nic",
        lines: LTS,
        modes: GROUP,
        extras: &[Extra::E1000e, Extra::VirtioNet],
        modules: SOFT_RDMA,
        groups: &["agent_nic"],
        ..PLAIN
    },
    Boot {
        name: "agent-dead",
        lines: LTS,
        modes: GROUP,
        chips: 2,
        groups: &["agent_hang"],
        ..PLAIN
    },
    Boot {
        name: "amd-iommu",
        lines: LTS,
        modes: GROUP,
        iommu: Iommu::Amd,
        extras: &[Extra::Edu],
        groups: &["discovery", "edu", "vfio_chip"],
        ..PLAIN
    },
    Boot {
        name: "virtio-iommu",
        lines: LTS,
        modes: GROUP,
        iommu: Iommu::Virtio,
        extras: &[Extra::Edu],
        modules: &["virtio_iommu"],
        groups: &["discovery", "edu", "vfio_chip"],
        ..PLAIN
    },
    Boot {
        name: "no-iommu",
        iommu: Iommu::None,
        extras: &[Extra::Edu],
        groups: &["no_iommu", "vfio_no_iommu"],
        ..PLAIN
    },
    Boot {
        name: "sysfs",
        extras: &[Extra::E1000e, Extra::VirtioNet],
        modules: SOFT_RDMA,
        groups: &["rdma", "recordings"],
        ..PLAIN
    },
];

impl Boot {
    /// Modules to load, and what they need. The IOMMU's is among [`Boot::modules`], and goes before VFIO's.
    pub(crate) fn all_modules(&self, mode: Mode) -> Vec<&'static str> {
        let iommufd = (mode == Mode::Cdev).then_some("iommufd");
        let vfio = ["vfio_pci", "vfio_iommu_type1"];
        let modules = self.modules.iter().copied();
        modules.chain(iommufd).chain(vfio).collect()
    }

    /// What a module is told when it is loaded.
    pub(crate) fn parameters(&self, module: &str) -> &'static str {
        match (self.iommu, module) {
            // Without interrupt remapping type1 refuses to work, unless told that every function is trusted.
            (Iommu::Virtio, "vfio_iommu_type1") => "allow_unsafe_interrupts=1",
            _ => "",
        }
    }

    /// What is added to the kernel's command line.
    pub(crate) fn append(&self) -> &'static str {
        match self.iommu {
            Iommu::Intel => "intel_iommu=on",
            Iommu::Amd | Iommu::Virtio | Iommu::None => "",
        }
    }
}
