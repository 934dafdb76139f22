//! The bus numbers regions and interrupts as the kernel's VFIO does.

use auk_driver::bus::{Interrupt, Region};
use vfio_bindings::bindings::vfio as kernel;

#[test]
fn regions_have_the_kernels_indices() {
    for (region, index) in [
        (Region::Bar0, kernel::VFIO_PCI_BAR0_REGION_INDEX),
        (Region::Bar1, kernel::VFIO_PCI_BAR1_REGION_INDEX),
        (Region::Bar2, kernel::VFIO_PCI_BAR2_REGION_INDEX),
        (Region::Bar3, kernel::VFIO_PCI_BAR3_REGION_INDEX),
        (Region::Bar4, kernel::VFIO_PCI_BAR4_REGION_INDEX),
        (Region::Bar5, kernel::VFIO_PCI_BAR5_REGION_INDEX),
        (Region::Rom, kernel::VFIO_PCI_ROM_REGION_INDEX),
        (Region::Config, kernel::VFIO_PCI_CONFIG_REGION_INDEX),
    ] {
        assert_eq!(region.index(), index, "{region:?}");
    }
}

#[test]
fn interrupts_have_the_kernels_indices() {
    for (interrupt, index) in [
        (Interrupt::Intx, kernel::VFIO_PCI_INTX_IRQ_INDEX),
        (Interrupt::Msi, kernel::VFIO_PCI_MSI_IRQ_INDEX),
        (Interrupt::Msix, kernel::VFIO_PCI_MSIX_IRQ_INDEX),
        (Interrupt::Error, kernel::VFIO_PCI_ERR_IRQ_INDEX),
        (Interrupt::Request, kernel::VFIO_PCI_REQ_IRQ_INDEX),
    ] {
        assert_eq!(interrupt.index(), index, "{interrupt:?}");
    }
}
