//! VFIO in a machine without IOMMU.

use anyhow::{Result, ensure};
use auk_driver::DmaSpace;
use auk_driver::bus::{Access, BusError, Function, FunctionConfig};
use auk_driver::dma::DmaError;
use auk_driver::pci::ConfigSpace;
use auk_vm::Mode;

use crate::function::Bound;
use crate::guest::Guest;
use crate::registry::{Test, test};
use crate::tests::doctor;
use crate::vfio;

pub(crate) const TESTS: &[Test] = &[
    test(
        "without_iommu_a_chip_cannot_be_opened",
        without_iommu_a_chip_cannot_be_opened,
    ),
    test(
        "no_iommu_mode_is_had_by_its_name_only_and_maps_nothing",
        no_iommu_mode_is_had_by_its_name_only_and_maps_nothing,
    )
    .only(Mode::Cdev),
];

/// Debian's kernels do not have it; the modules that are rebuilt for the device nodes do.
const UNSAFE_MODE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

fn without_iommu_a_chip_cannot_be_opened(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    // vfio-pci refuses the function itself, so that there is nothing to bind.
    if let Ok(_bound) = Bound::new(chip.clone()) {
        anyhow::bail!("vfio-pci took {chip}");
    }
    crate::pci::unbind_vfio(chip)?;
    let refused = vfio::try_open(chip, Access::Auto, &DmaSpace::new());
    ensure!(
        matches!(refused, Err(BusError::NoIommu { .. })),
        "{:?}",
        refused.map(drop)
    );
    Ok(())
}

fn no_iommu_mode_is_had_by_its_name_only_and_maps_nothing(guest: &Guest) -> Result<()> {
    let chip = &guest.chips()?[0];
    std::fs::write(UNSAFE_MODE, "1")?;
    let _bound = Bound::new(chip.clone())?;
    for access in [Access::Auto, Access::Group] {
        let refused = vfio::try_open(chip, access, &DmaSpace::new());
        ensure!(matches!(refused, Err(BusError::NoIommu { .. })), "{access}");
    }
    let space = DmaSpace::new();
    let function = vfio::try_open(chip, Access::UnsafeNoIommu, &space)?;
    FunctionConfig(&function).identity()?;
    space.attach(function.dma(), u64::MAX)?;
    let Err(error) = space.alloc(4096) else {
        anyhow::bail!("memory was mapped without IOMMU");
    };
    ensure!(
        matches!(
            error,
            DmaError::Bus {
                source: BusError::NoIommu { .. },
                ..
            }
        ),
        "{error}"
    );
    let shown = guest.auk(&["show", chip])?;
    ensure!(shown.contains("taint"), "{shown}");
    doctor::finds(guest, ("host", "noiommu-mode"), "warn", "without an IOMMU")?;
    doctor::finds(guest, ("host", "kernel-taint"), "warn", "taint")
}
