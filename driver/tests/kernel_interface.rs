//! The bus traits number regions and interrupts as the kernel's VFIO does, so that the kernel bus fits them.

use auk_driver::bus::Region;
use auk_vfio_user::pci;
use vfio_bindings::bindings::vfio as kernel;

#[test]
fn regions_have_the_kernels_indices() {
    assert_eq!(Region::Bar0.index(), kernel::VFIO_PCI_BAR0_REGION_INDEX);
    assert_eq!(Region::Bar2.index(), kernel::VFIO_PCI_BAR2_REGION_INDEX);
    assert_eq!(Region::Bar4.index(), kernel::VFIO_PCI_BAR4_REGION_INDEX);
    assert_eq!(Region::Config.index(), kernel::VFIO_PCI_CONFIG_REGION_INDEX);
}

#[test]
fn interrupts_have_the_kernels_indices() {
    assert_eq!(pci::MSIX_IRQ, kernel::VFIO_PCI_MSIX_IRQ_INDEX);
    assert_eq!(pci::ERR_IRQ, kernel::VFIO_PCI_ERR_IRQ_INDEX);
    assert_eq!(pci::REQ_IRQ, kernel::VFIO_PCI_REQ_IRQ_INDEX);
}
