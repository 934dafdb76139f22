//! The boots: which machine, and which groups of tests run in it.

use auk_vm::Mode;

/// The IOMMU of a virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Iommu {
    /// VT-d.
    Intel,
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
    pub(crate) extras: &'static [Extra],
    /// Modules beside VFIO's, with what they need.
    pub(crate) modules: &'static [&'static str],
    /// Groups of tests, in order.
    pub(crate) groups: &'static [&'static str],
    /// Part of the short form.
    pub(crate) short: bool,
}

const BOTH: &[Mode] = &[Mode::Group, Mode::Cdev];
const ALL_LINES: &[&str] = &[];

/// All of them, in order.
pub(crate) const BOOTS: &[Boot] = &[Boot {
    name: "chip",
    lines: ALL_LINES,
    modes: BOTH,
    iommu: Iommu::Intel,
    chips: 1,
    extras: &[Extra::Edu, Extra::Nvme, Extra::E1000e],
    modules: &["nvme", "e1000e"],
    groups: &["discovery", "stock"],
    short: true,
}];

impl Boot {
    /// Modules to load, and what each of them is told.
    pub(crate) fn all_modules(&self, mode: Mode) -> Vec<&'static str> {
        let iommufd = (mode == Mode::Cdev).then_some("iommufd");
        let vfio = ["vfio_pci", "vfio_iommu_type1"];
        iommufd
            .into_iter()
            .chain(vfio)
            .chain(self.modules.iter().copied())
            .collect()
    }

    /// What a module is told when it is loaded.
    pub(crate) fn parameters(&self, _module: &str) -> &'static str {
        ""
    }

    /// What is added to the kernel's command line.
    pub(crate) fn append(&self) -> &'static str {
        match self.iommu {
            Iommu::Intel => "intel_iommu=on",
        }
    }
}
