//! Client memory that the device reaches by messages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auk_vfio_user::Errno;
use auk_vfio_user::client::{self, Client, DmaHandler, Error, RegionOp};
use auk_vfio_user::model::{DeviceInfo, DmaMap, IrqInfo, IrqSet, RegionInfo};
use auk_vfio_user::pci::BAR0_REGION;
use auk_vfio_user::server::{ClientMemory, ClientMemoryError, Device, Ended, Options, Server};
use common::*;

/// Memory that the server reaches by messages.
struct Memory(Arc<Mutex<Vec<u8>>>);

impl DmaHandler for Memory {
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        let memory = self.0.lock().unwrap();
        let from = address as usize;
        data.copy_from_slice(memory.get(from..from + data.len()).ok_or(Errno::EFAULT)?);
        Ok(())
    }

    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
        let mut memory = self.0.lock().unwrap();
        let from = address as usize;
        memory
            .get_mut(from..from + data.len())
            .ok_or(Errno::EFAULT)?
            .copy_from_slice(data);
        Ok(())
    }
}

fn served_with_memory(
    size: usize,
    max_data_xfer_size: u32,
) -> (Served, Client, Arc<Mutex<Vec<u8>>>) {
    let memory = Arc::new(Mutex::new(vec![0; size]));
    let handler: Box<dyn DmaHandler> = Box::new(Memory(memory.clone()));
    let options = client::Options {
        max_data_xfer_size,
        handler: Some(handler),
    };
    let (served, stream) = Served::start(Options::default());
    let client = Client::from_fd(stream.into(), options, soon()).unwrap();
    client.dma_map(&map(0, 0x10000), soon()).unwrap();
    (served, client, memory)
}

#[test]
fn the_device_reaches_client_memory_by_messages_while_it_is_called() {
    let (_served, client, memory) = served_with_memory(0x1000, 1 << 20);
    memory.lock().unwrap()[0x100..0x108].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    client
        .region_write(BAR0_REGION, COPY_REGISTER, &0x100_u64.to_ne_bytes(), soon())
        .unwrap();
    assert_eq!(
        memory.lock().unwrap()[0x108..0x110],
        [254, 253, 252, 251, 250, 249, 248, 247]
    );
    let beyond = client.region_write(
        BAR0_REGION,
        COPY_REGISTER,
        &0x1000_u64.to_ne_bytes(),
        soon(),
    );
    assert_eq!(refused(beyond), Errno::EIO);
}

#[test]
fn pipelined_requests_wait_while_the_device_reaches_client_memory() {
    let (served, client, _memory) = served_with_memory(0x1000, 1 << 20);
    let iova = 0x100_u64.to_ne_bytes();
    let mut ops: Vec<_> = (0..100)
        .map(|_| RegionOp::Write {
            region: BAR0_REGION,
            offset: COPY_REGISTER,
            data: &iova,
        })
        .collect();
    assert!(
        client
            .region_batch(&mut ops, soon())
            .unwrap()
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(served.seen().writes.len(), 100);
}

#[test]
fn the_device_reaches_client_memory_from_any_thread_at_any_time() {
    let (served, client, memory) = served_with_memory(0x10000, 1000);
    let reach = served.seen().memory.clone().unwrap();
    let data: Vec<u8> = (0..5000).map(|byte| (byte % 249) as u8).collect();
    std::thread::scope(|scope| {
        let engine = scope.spawn(|| {
            for round in 0..20 {
                let address = 0x100 + round;
                reach.write(address, &data, soon()).unwrap();
                let mut read = vec![0; data.len()];
                reach.read(address, &mut read, soon()).unwrap();
                assert!(read == data);
            }
        });
        // Some requests are answered by calls that wait, the others in between.
        while !engine.is_finished() {
            let mut four = [0; 4];
            client
                .region_read(BAR0_REGION, 0, &mut four, soon())
                .unwrap();
            client
                .serve_requests(Instant::now() + Duration::from_millis(2))
                .unwrap();
        }
    });
    assert_eq!(memory.lock().unwrap()[0x113..][..5000], data);
}

#[test]
fn without_a_handler_the_device_is_refused_access_by_messages() {
    let (served, client) = served();
    client.dma_map(&map(0, 0x1000), soon()).unwrap();
    let iova = 0_u64.to_ne_bytes();
    let result = client.region_write(BAR0_REGION, COPY_REGISTER, &iova, soon());
    assert_eq!(refused(result), Errno::EIO);
    drop(client);
    assert_eq!(served.ended().unwrap(), Ended::Disconnected);
}

#[test]
fn a_device_that_waits_for_a_silent_client_gives_up_at_its_deadline() {
    let (served, client, _memory) = served_with_memory(0x1000, 1 << 20);
    let memory = served.seen().memory.clone().unwrap();
    let mut data = [0; 8];
    let result = memory.read(0, &mut data, Instant::now() + Duration::from_millis(30));
    assert!(result.is_err());
    // The late answer is thrown away, and the connection still works.
    assert_eq!(client.serve_requests(soon()).unwrap(), 1);
    client
        .region_read(BAR0_REGION, 0, &mut data, soon())
        .unwrap();
    drop(client);
    served.ended().unwrap();
    assert!(memory.read(0, &mut data, soon()).is_err());
}

/// A write to this device panics; it keeps its way into client memory beyond that.
struct Panicking(Option<ClientMemory>);

impl Device for Panicking {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            resettable: true,
            pci: false,
            regions: 0,
            irqs: 0,
        }
    }

    fn region(&self, _: u32) -> Option<RegionInfo> {
        None
    }

    fn irq(&self, _: u32) -> Option<IrqInfo> {
        None
    }

    fn region_read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    fn region_write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    fn dma_map(&mut self, _: DmaMap) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    fn dma_unmap(&mut self, _: u64, _: u64) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    fn set_irqs(&mut self, _: IrqSet) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    fn reset(&mut self) -> Result<(), Errno> {
        panic!("a bug in the device");
    }

    fn connected(&mut self, memory: ClientMemory) {
        self.0 = Some(memory);
    }

    fn disconnected(&mut self) {}
}

#[test]
fn a_device_that_panics_leaves_no_client_waiting() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = Server::new(Options::default()).unwrap();
    let mut device = Panicking(None);
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve_fd(theirs.into(), &mut device, Some(soon())));
        let client = Client::from_fd(ours.into(), client::Options::default(), soon()).unwrap();
        let result = client.reset(soon());
        assert!(
            matches!(result, Err(Error::Disconnected { .. })),
            "{result:?}"
        );
        assert!(serving.join().is_err());
    });
    let result = device.0.unwrap().read(0, &mut [0], soon());
    assert_eq!(result, Err(ClientMemoryError::Gone));
}
