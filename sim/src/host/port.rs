//! The root port above a device: it shows the same link from the other end.

use super::aer::Severity;
use super::bdf::Bdf;
use super::config_image::{ConfigImage, Identity};
use super::config_view::LinkState;
use super::error::HostError;
use super::files::{Files, READ_ONLY};
use super::function::{Function, Placement};

/// A root port such as server processors have.
const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x352A,
    subsystem: (0, 0),
    class: 0x06_04_00,
    revision: 4,
};

/// A root port whose directory exists.
pub(crate) struct Port {
    bdf: Bdf,
    image: ConfigImage,
    function: Function,
}

/// Where a port is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// Device number of the first port of its kind.
    pub(crate) first: u8,
    /// Which one of its kind it is, and how many there are.
    pub(crate) index: usize,
    pub(crate) count: usize,
    /// The bus below it.
    pub(crate) bus: u8,
}

impl Port {
    pub(crate) fn create(files: &Files, spot: Spot, link: LinkState) -> Result<Self, HostError> {
        let bdf = Bdf {
            domain: 0,
            bus: 0,
            device: spot.first + (spot.index / 8) as u8,
            function: (spot.index % 8) as u8,
        };
        let multi_function = spot.count > spot.index / 8 * 8 + 1;
        let image = ConfigImage::root_port(IDENTITY, link, spot.bus, multi_function);
        let placement = Placement {
            bdf,
            directory: format!("sys/devices/pci0000:00/{bdf}"),
            driver: "pcieport",
            iommu_group: u32::from(spot.bus) * 2,
            irq: 24 + u32::from(spot.bus),
            is_bridge: true,
        };
        for severity in Severity::ALL {
            files.directory(&placement.directory)?;
            let path = format!("{}/{}", placement.directory, severity.root_port_file());
            files.create(&path, READ_ONLY, b"0\n")?;
        }
        let function = Function::create(files, placement, image.bytes(), Vec::new())?;
        Ok(Self {
            bdf,
            image,
            function,
        })
    }

    /// What is below it: the one device on its bus.
    pub(crate) fn below(&self, bus: u8, driver: &'static str) -> Placement {
        let bdf = Bdf::endpoint(bus);
        Placement {
            bdf,
            directory: format!("sys/devices/pci0000:00/{}/{bdf}", self.bdf),
            driver,
            iommu_group: u32::from(bus) * 2 + 1,
            irq: 0,
            is_bridge: false,
        }
    }

    /// Follows the link of the device below.
    pub(crate) fn follow(&mut self, link: LinkState) -> Result<(), HostError> {
        self.image.set_link(link);
        self.function.refresh(self.image.bytes())
    }
}
