//! A function in a test's hands: bound to vfio-pci, open, attached to a DMA space; and given back afterwards.

use std::time::Duration;

use anyhow::{Context, Result};
use auk_driver::bus::{Access, Function, Region, Vfio};
use auk_driver::mmio::Window;
use auk_driver::pci::Host;
use auk_driver::{Deadline, DmaSpace};
use auk_vm::Mode;

use crate::guest::Guest;
use crate::pci::{self, Kind};

/// A reset by FLR takes 100 ms at least (PCI Express Base Specification 6.0, section 6.6.2), and the kernel waits much longer for
/// functions that do not come back.
const RESET: Duration = Duration::from_secs(30);

/// COMMAND, and in it Memory Space Enable, Bus Master Enable (PCI Express Base Specification 6.0, section 7.5.1.1.3).
const COMMAND: u64 = 0x04;
const MEMORY: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;

/// A function that is open, through the interface that the boot is about. Whoever maps a BAR of it drops the window first: the
/// kernel takes no function back that is mapped.
pub(crate) struct Opened {
    pub(crate) vfio: Vfio,
    pub(crate) space: DmaSpace,
    /// After the function is closed.
    _bound: Bound,
}

impl Opened {
    /// The one function of a kind, with a DMA space of its own.
    pub(crate) fn only(guest: &Guest, kind: Kind) -> Result<Self> {
        let bound = Bound::new(pci::only(kind)?)?;
        let access = match guest.mode() {
            Mode::Group => Access::Group,
            Mode::Cdev => Access::Cdev,
        };
        let space = DmaSpace::new();
        let vfio = Vfio::open(&Host::at("/"), bound.address.parse()?, access, &space)?;
        space.attach(vfio.dma(), u64::MAX)?;
        let opened = Self {
            vfio,
            space,
            _bound: bound,
        };
        opened.enable()?;
        Ok(opened)
    }

    /// Lets it answer at its BARs and do DMA.
    pub(crate) fn enable(&self) -> Result<()> {
        self.set_command(MEMORY | BUS_MASTER)
    }

    /// Resets it alone, and enables it again.
    pub(crate) fn reset(&self) -> Result<()> {
        self.vfio.reset(Deadline::after(RESET))?;
        self.enable()
    }

    /// Resets the bus behind its port, and enables it again.
    pub(crate) fn hot_reset(&self) -> Result<()> {
        self.vfio.hot_reset(&[], Deadline::after(RESET))?;
        self.enable()
    }

    /// Maps the first `length` bytes of BAR 0.
    pub(crate) fn map(&self, length: u64) -> Result<Window> {
        let info = self.vfio.region(Region::Bar0)?;
        Ok(Window::map(Region::Bar0.index(), &info, 0, length)?)
    }

    /// A 32-bit register of BAR 0, by `pread`.
    pub(crate) fn read(&self, offset: usize) -> Result<u32> {
        let mut bytes = [0; 4];
        self.vfio
            .read(Region::Bar0, offset as u64, &mut bytes)
            .with_context(|| format!("reading {offset:#x} of BAR 0"))?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Writes a 32-bit register of BAR 0, by `pwrite`.
    pub(crate) fn write(&self, offset: usize, value: u32) -> Result<()> {
        self.vfio
            .write(Region::Bar0, offset as u64, &value.to_le_bytes())
            .with_context(|| format!("writing {offset:#x} of BAR 0"))
    }

    fn set_command(&self, value: u16) -> Result<()> {
        self.vfio
            .write(Region::Config, COMMAND, &value.to_le_bytes())
            .with_context(|| format!("writing {value:#x} to COMMAND"))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Its DMA must have ended before its memory is unmapped.
        if let Err(error) = self.set_command(0) {
            println!("{} cannot be stopped: {error:#}", self.vfio.name());
        }
        self.space.detach(&self.vfio.dma());
    }
}

/// A function that vfio-pci has.
pub(crate) struct Bound {
    address: String,
}

impl Bound {
    pub(crate) fn new(address: String) -> Result<Self> {
        pci::bind_vfio(&address)?;
        Ok(Self { address })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Err(error) = pci::unbind_vfio(&self.address) {
            println!("{} cannot be given back: {error:#}", self.address);
        }
    }
}
