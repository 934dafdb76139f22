//! QEMU's teaching device, `docs/specs/edu.rst` of QEMU, through whatever opens it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use auk_driver::bus::{Function, Region};

use crate::vfio::{self, Held};

/// What the identification register holds: version 1.0.
pub(crate) const IDENTITY: u32 = 0x0100_00ED;
/// Where its DMA buffer of a page begins, in its own addresses.
const BUFFER: u64 = 0x4_0000;
/// It puts addresses of 28 bits on the bus unless told otherwise.
pub(crate) const LAST_ADDRESS: u64 = (1 << 28) - 1;

const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
const DMA_START: u32 = 1;
const DMA_TO_MEMORY: u32 = 2;

/// It emulates DMA by a timer of 100 ms.
const PATIENCE: Duration = Duration::from_secs(20);

/// The device, open and allowed to use the bus.
pub(crate) struct Edu(pub(crate) Held);

impl Edu {
    pub(crate) fn new(function: Held) -> Result<Self> {
        vfio::enable(&function)?;
        let edu = Self(function);
        ensure!(edu.read(0)? == IDENTITY, "it says {:#x}", edu.read(0)?);
        Ok(edu)
    }

    pub(crate) fn read(&self, register: u64) -> Result<u32> {
        let mut data = [0; 4];
        self.0.read(Region::Bar0, register, &mut data)?;
        Ok(u32::from_le_bytes(data))
    }

    pub(crate) fn write(&self, register: u64, value: u32) -> Result<()> {
        Ok(self.0.write(Region::Bar0, register, &value.to_le_bytes())?)
    }

    pub(crate) fn raise_interrupt(&self) -> Result<()> {
        self.write(RAISE, 1)
    }

    pub(crate) fn acknowledge(&self) -> Result<()> {
        self.write(ACKNOWLEDGE, 1)
    }

    /// Copies from an IOVA into the device's buffer.
    pub(crate) fn fetch(&self, iova: u64, bytes: u32) -> Result<()> {
        self.copy(iova, BUFFER, bytes, DMA_START)
    }

    /// Copies from the device's buffer to an IOVA.
    pub(crate) fn store(&self, iova: u64, bytes: u32) -> Result<()> {
        self.copy(BUFFER, iova, bytes, DMA_START | DMA_TO_MEMORY)
    }

    fn copy(&self, from: u64, to: u64, bytes: u32, command: u32) -> Result<()> {
        self.write(DMA_SOURCE, u32::try_from(from)?)?;
        self.write(DMA_DESTINATION, u32::try_from(to)?)?;
        self.write(DMA_COUNT, bytes)?;
        self.write(DMA_COMMAND, command)?;
        let deadline = Instant::now() + PATIENCE;
        while self.read(DMA_COMMAND)? & DMA_START != 0 {
            if Instant::now() > deadline {
                bail!("its DMA has not ended");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}
