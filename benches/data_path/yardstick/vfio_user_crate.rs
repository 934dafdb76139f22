//! The `vfio_user` crate's client and server: what somebody else's code makes of the same protocol.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use auk_vfio_user::memory::SharedMemory;
use auk_vfio_user::pci::BAR0_REGION;
use vfio_bindings::bindings::vfio::{
    VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{Client, DmaMapFlags, DmaUnmapFlags, Server, ServerBackend, ServerRegion};

use crate::processors::Processors;

/// What is mapped, and where.
pub(crate) const MAPPED: u64 = 2 << 20;
pub(crate) const IOVA: u64 = 1 << 30;
const REGISTER: u32 = 0x1234_5678;

/// Memory of a client's, to be mapped.
pub(crate) fn host_memory() -> OwnedFd {
    let (fd, _) = SharedMemory::create(c"bench", MAPPED).expect("shared memory");
    fd
}

/// Their client, and the thread of their server.
pub(crate) struct VfioUserCrate {
    client: Client,
    memory: OwnedFd,
    partner: Option<JoinHandle<()>>,
}

impl VfioUserCrate {
    pub(crate) fn start(processors: Processors) -> Self {
        let directory = tempfile::tempdir().expect("a directory for a socket");
        let path = directory.path().join("socket");
        let region = ServerRegion {
            region_info: vfio_region_info {
                argsz: size_of::<vfio_region_info>() as u32,
                flags: VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE,
                index: BAR0_REGION,
                size: 4096,
                ..Default::default()
            },
            sparse_areas: Vec::new(),
            mmap_fd: None,
        };
        let server = Server::new(&path, true, Vec::new(), vec![region]).expect("their server");
        // It fails when the client hangs up in the midst of a reply, as it may.
        let serve = move || drop(server.run(&mut Backend::default()));
        let partner = processors.start(|| std::thread::spawn(serve));
        Self {
            client: Client::new(&path).expect("their client"),
            memory: host_memory(),
            partner: Some(partner),
        }
    }

    /// The time of `count` register reads.
    pub(crate) fn read(&mut self, count: u64) -> Duration {
        let mut register = [0; 4];
        let start = Instant::now();
        for _ in 0..count {
            self.client
                .region_read(BAR0_REGION, 0, &mut register)
                .expect("an answer");
        }
        let time = start.elapsed();
        assert_eq!(u32::from_le_bytes(register), REGISTER);
        time
    }

    /// The time of `count` times mapping and unmapping memory by its descriptor.
    pub(crate) fn map_and_unmap(&mut self, count: u64) -> Duration {
        let memory = self.memory.as_raw_fd();
        let start = Instant::now();
        for _ in 0..count {
            self.client
                .dma_map(0, IOVA, MAPPED, memory)
                .expect("mapped");
            self.client.dma_unmap(IOVA, MAPPED).expect("unmapped");
        }
        start.elapsed()
    }
}

impl Drop for VfioUserCrate {
    fn drop(&mut self) {
        let _ = self.client.shutdown();
        if let Some(partner) = self.partner.take() {
            let _ = partner.join();
        }
    }
}

/// A device of one register that maps what it is given, as any device with DMA does.
#[derive(Default)]
struct Backend {
    mapped: BTreeMap<u64, SharedMemory>,
}

impl ServerBackend for Backend {
    fn region_read(&mut self, _: u32, _: u64, data: &mut [u8]) -> io::Result<()> {
        data.copy_from_slice(&REGISTER.to_le_bytes());
        Ok(())
    }

    fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        let fd = fd.ok_or(io::ErrorKind::InvalidInput)?;
        let memory = SharedMemory::map(fd.as_fd(), offset, size, true)
            .map_err(|error| io::Error::from(error.errno()))?;
        self.mapped.insert(address, memory);
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, address: u64, _: u64) -> io::Result<()> {
        match self.mapped.remove(&address) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}
