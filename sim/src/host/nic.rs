//! A NIC: its function with an interface and an RDMA device, and the port above. No device is behind it.

use std::time::{Duration, Instant};

use super::aer::Errors;
use super::bdf::Bdf;
use super::config_image::{Bar, ConfigImage, Identity};
use super::config_view::LinkState;
use super::error::HostError;
use super::files::Files;
use super::function::{Function, Placement};
use super::interface::{self, Interface};
use super::kernel_log::KernelLog;
use super::port::Port;
use super::rdma::Rdma;
use crate::inject::Verb;

/// An adapter that the kernel's `mlx5_core` drives.
const IDENTITY: Identity = Identity {
    vendor: 0x15B3,
    device: 0x1021,
    subsystem: (0x15B3, 0x0023),
    class: 0x02_00_00,
    revision: 0,
};
/// What its slot has: 32 GT/s, 16 lanes.
pub(crate) const SLOT: LinkState = LinkState {
    speed: 5,
    width: 16,
};
/// Bytes of its BAR0.
const BAR_SIZE: u64 = 32 << 20;

/// A NIC and its place.
pub(crate) struct Nic {
    files: Files,
    index: usize,
    port: Port,
    image: ConfigImage,
    function: Function,
    link: LinkState,
    /// What its driver has made; nothing while it is pulled out.
    devices: Option<Devices>,
}

/// What the driver makes of a NIC.
struct Devices {
    interface: Interface,
    rdma: Rdma,
    /// Whether a fault keeps its RDMA port down.
    rdma_down: bool,
}

impl Devices {
    fn create(files: &Files, placement: &Placement, index: usize) -> Result<Self, HostError> {
        let directory = placement.directory.as_str();
        Ok(Self {
            rdma: Rdma::create(files, directory, index, interface::SPEED)?,
            interface: Interface::create(files, directory, placement.bdf, index)?,
            rdma_down: false,
        })
    }

    fn refresh(&mut self, now: Instant) -> Result<(), HostError> {
        loop {
            self.rdma
                .follow(self.interface.has_carrier() && !self.rdma_down);
            if !self.interface.step(now) {
                break;
            }
        }
        self.rdma.refresh()?;
        self.interface.refresh()
    }
}

impl Nic {
    /// Makes the NIC of an index below its port, with its BAR at a bus address.
    pub(crate) fn create(
        files: &Files,
        port: Port,
        placement: Placement,
        index: usize,
        mmio: u64,
    ) -> Result<Self, HostError> {
        let bar = Bar {
            index: 0,
            start: mmio,
            size: BAR_SIZE,
            prefetchable: true,
        };
        let serial = 0x02A1_0000_0000_0000 + index as u64;
        let image = ConfigImage::endpoint(IDENTITY, SLOT, &[bar], serial);
        let function = Function::create(files, placement, image.bytes(), vec![bar])?;
        let devices = Devices::create(files, function.placement(), index)?;
        Ok(Self {
            files: files.clone(),
            index,
            port,
            image,
            function,
            link: SLOT,
            devices: Some(devices),
        })
    }

    /// Where it is.
    pub(crate) const fn bdf(&self) -> Bdf {
        self.function.placement().bdf
    }

    /// Name of its interface, or what it was at first while it is pulled out.
    pub(crate) fn interface(&self) -> String {
        match &self.devices {
            Some(devices) => devices.interface.name().to_owned(),
            None => interface::default_name(self.index),
        }
    }

    /// Whether an interface may not have this name because of this NIC: its own is that, or will be after it is put back.
    pub(crate) fn claims(&self, name: &str) -> bool {
        name == self.interface() || name == interface::default_name(self.index)
    }

    /// Something happens to it. False when it cannot take more of that.
    pub(crate) fn happen(&mut self, verb: &Verb, log: &mut KernelLog) -> Result<bool, HostError> {
        if let Some(errors) = Errors::of(verb) {
            if self.function.is_shown() {
                self.port.hear(errors)?;
                self.function.err(errors, self.port.bdf(), log)?;
            }
            return Ok(true);
        }
        match *verb {
            Verb::LinkWidth { lanes: width } => self.link.width = width,
            Verb::LinkSpeed { generation: speed } => self.link.speed = speed,
            Verb::Remove => self.pull_out(log)?,
            Verb::Return => self.put_back(log)?,
            _ => {}
        }
        let Some(devices) = &mut self.devices else {
            return Ok(true);
        };
        let Devices {
            interface,
            rdma,
            rdma_down,
        } = devices;
        match verb {
            Verb::CarrierFlap { count, down_ms } => {
                return Ok(interface.flap(*count, Duration::from_millis(*down_ms)));
            }
            Verb::PortSpeed { mbit } => interface.set_speed(*mbit),
            Verb::PortErrors { count } => interface.damage(*count),
            Verb::PortDrops { count } => interface.drop_packets(*count),
            Verb::RdmaPort { up } => *rdma_down = !up,
            Verb::DriverReload => {
                interface.reload();
                rdma.reload();
            }
            Verb::InterfaceRename { name } => interface.rename(name)?,
            Verb::NicFirmware { firmware: version } => rdma.set_firmware(version),
            Verb::Heal => {
                interface.heal();
                *rdma_down = false;
                self.link = SLOT;
            }
            _ => {}
        }
        Ok(true)
    }

    fn pull_out(&mut self, log: &mut KernelLog) -> Result<(), HostError> {
        if let Some(devices) = self.devices.take() {
            devices.interface.unlist()?;
            devices.rdma.unlist()?;
            self.function.vanish()?;
            self.port
                .slot_says(&["Link Down", "Card not present"], log)?;
        }
        Ok(())
    }

    fn put_back(&mut self, log: &mut KernelLog) -> Result<(), HostError> {
        if self.devices.is_none() {
            self.link = SLOT;
            self.image.set_link(Some(SLOT));
            self.port.slot_says(&["Card present", "Link Up"], log)?;
            self.function.appear(self.image.bytes())?;
            let placement = self.function.placement();
            self.devices = Some(Devices::create(&self.files, placement, self.index)?);
        }
        Ok(())
    }

    /// When something changes by itself next.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        self.devices.as_ref()?.interface.next_change()
    }

    /// Makes the changes that are due, and has the files follow.
    pub(crate) fn refresh(&mut self, now: Instant) -> Result<(), HostError> {
        self.image.set_link(Some(self.link));
        self.function.refresh(self.image.bytes())?;
        let link = self.function.is_shown().then_some(self.link);
        self.port.follow(link)?;
        match &mut self.devices {
            Some(devices) => devices.refresh(now),
            None => Ok(()),
        }
    }
}
