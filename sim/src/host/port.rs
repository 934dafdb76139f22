//! The root port above a device: it shows the same link from the other end.

use super::aer::{Errors, Severity};
use super::bdf::Bdf;
use super::config_image::{ConfigImage, Identity};
use super::config_view::LinkState;
use super::error::HostError;
use super::files::{Files, READ_ONLY};
use super::function::{Function, Placement};
use super::kernel_log::{KernelLog, Level};

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
    files: Files,
    bdf: Bdf,
    slot: u8,
    image: ConfigImage,
    function: Function,
    /// Messages of each severity from below, in the order of [`Severity::ALL`].
    heard: [u64; 3],
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
            files: files.clone(),
            bdf,
            slot: spot.bus,
            image,
            function,
            heard: [0; 3],
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

    /// Where it is.
    pub(crate) const fn bdf(&self) -> Bdf {
        self.bdf
    }

    /// Follows the link of the device below; without one it is down.
    pub(crate) fn follow(&mut self, link: Option<LinkState>) -> Result<(), HostError> {
        self.image.set_link(link);
        self.function.refresh(self.image.bytes())
    }

    /// Messages of errors came from below.
    pub(crate) fn hear(&mut self, errors: Errors) -> Result<(), HostError> {
        for (severity, total) in Severity::ALL.into_iter().zip(&mut self.heard) {
            if severity == errors.severity {
                *total += u64::from(errors.count);
                let directory = &self.function.placement().directory;
                let path = format!("{directory}/{}", severity.root_port_file());
                let text = format!("{total}\n");
                self.files.replace(&path, READ_ONLY, text.as_bytes())?;
            }
        }
        Ok(())
    }

    /// What the hot-plug driver says of the slot below (`drivers/pci/hotplug/pciehp_ctrl.c`), which is numbered as the bus.
    pub(crate) fn slot_says(&self, what: &[&str], log: &mut KernelLog) -> Result<(), HostError> {
        let (bdf, slot) = (self.bdf, self.slot);
        for what in what {
            let text = format!("pcieport {bdf}: pciehp: Slot({slot}): {what}");
            log.say_of(&bdf.to_string(), Level::Info, &text)?;
        }
        Ok(())
    }
}
