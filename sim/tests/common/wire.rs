//! The chip over vfio-user, in a process of its own as far as the chip can tell.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use auk_sim::{Chip, Serving};
use auk_vfio_user::client::{Client, ClientMap, Error, Options};
use auk_vfio_user::model::{DmaMap, IrqAction, RegionInfo};
use auk_vfio_user::pci::MSIX_IRQ;

use super::{DEADLINE, eventually};

/// A client, and the server that it talks to.
pub struct Wire {
    client: Option<Client>,
    serving: Serving,
}

impl Wire {
    pub fn new(chip: &Chip) -> Self {
        let (serving, socket) = chip.connect().unwrap();
        let client = Client::from_fd(socket, Options::default(), soon()).unwrap();
        Self {
            client: Some(client),
            serving,
        }
    }

    /// The client vanishes, and once the server has seen that, another one comes.
    pub fn replace(&mut self, chip: &Chip) {
        self.client = None;
        eventually("the server to see that its client is gone", || {
            self.serving.is_finished().then_some(())
        });
        *self = Self::new(chip);
    }

    fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    pub fn region(&self, index: u32) -> RegionInfo {
        self.client().region_info(index, soon()).unwrap()
    }

    pub fn read(&self, region: u32, offset: u64, data: &mut [u8]) {
        self.client()
            .region_read(region, offset, data, soon())
            .unwrap();
    }

    pub fn write(&self, region: u32, offset: u64, data: &[u8]) {
        self.client()
            .region_write(region, offset, data, soon())
            .unwrap();
    }

    pub fn map(&self, map: &DmaMap) -> Result<(), Error> {
        let memory = map.memory.as_ref();
        let map = ClientMap {
            iova: map.iova,
            size: map.size,
            protection: map.protection,
            memory: memory.map(|memory| (memory.fd.as_fd(), memory.offset)),
        };
        self.client().dma_map(&map, soon())
    }

    pub fn unmap(&self, iova: u64, size: u64) {
        self.client().dma_unmap(iova, size, soon()).unwrap();
    }

    pub fn reset(&self) {
        self.try_reset().unwrap();
    }

    pub fn try_reset(&self) -> Result<(), Error> {
        self.client().reset(soon())
    }

    pub fn set_eventfd(&self, vector: u32, eventfd: &OwnedFd) -> Result<(), Error> {
        let eventfds = [eventfd.as_fd()];
        self.client()
            .set_irq_eventfds(MSIX_IRQ, vector, &eventfds, soon())
    }

    /// Masks, unmasks or fires a vector.
    pub fn act(&self, vector: u32, action: IrqAction) {
        self.client()
            .act_on_irqs(MSIX_IRQ, vector, 1, action, soon())
            .unwrap();
    }
}

fn soon() -> Instant {
    Instant::now() + DEADLINE
}
