//! How the regions and interrupts of a PCI function are numbered (`<linux/vfio.h>`).

/// Region index of BAR 0 (`VFIO_PCI_BAR0_REGION_INDEX`); BAR n has index n, up to 5.
pub const BAR0_REGION: u32 = 0;
/// Region index of the expansion ROM (`VFIO_PCI_ROM_REGION_INDEX`).
pub const ROM_REGION: u32 = 6;
/// Region index of configuration space (`VFIO_PCI_CONFIG_REGION_INDEX`).
pub const CONFIG_REGION: u32 = 7;
/// Region index of legacy VGA (`VFIO_PCI_VGA_REGION_INDEX`).
pub const VGA_REGION: u32 = 8;
/// How many regions a PCI function has (`VFIO_PCI_NUM_REGIONS`).
pub const NUM_REGIONS: u32 = 9;

/// Interrupt index of INTx (`VFIO_PCI_INTX_IRQ_INDEX`).
pub const INTX_IRQ: u32 = 0;
/// Interrupt index of MSI (`VFIO_PCI_MSI_IRQ_INDEX`).
pub const MSI_IRQ: u32 = 1;
/// Interrupt index of MSI-X (`VFIO_PCI_MSIX_IRQ_INDEX`).
pub const MSIX_IRQ: u32 = 2;
/// Interrupt index of errors (`VFIO_PCI_ERR_IRQ_INDEX`).
pub const ERR_IRQ: u32 = 3;
/// Interrupt index of the request to let the device go (`VFIO_PCI_REQ_IRQ_INDEX`).
pub const REQ_IRQ: u32 = 4;
/// How many interrupt indices a PCI function has (`VFIO_PCI_NUM_IRQS`).
pub const NUM_IRQS: u32 = 5;
