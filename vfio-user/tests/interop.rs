//! Against code that is not ours: the client and the server of the `vfio_user` crate.
//!
//! What these tests have to keep clear of, as of version 0.1.7 of that crate:
//! - its client takes every reply for a success of a fixed size, so a refusal leaves it waiting for ever;
//! - its client's `resettable()` says the opposite of what the device says;
//! - its server passes the descriptor of a region only when there are sparse areas;
//! - its server leaves the payload of a request it refuses in the stream, except where it looks at it first,
//!   and most of its refusals carry no error number;
//! - its names for the flags of DMA_UNMAP are one bit off;
//! - its server serves one client and returns.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use auk_vfio_user::Errno;
use auk_vfio_user::client::{self, ClientMap, Error, RegionOp};
use auk_vfio_user::model::{IrqAction, MmapArea, Protection};
use auk_vfio_user::pci::{BAR0_REGION, CONFIG_REGION, MSIX_IRQ};
use common::*;
use nix::sys::eventfd::EventFd;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info, vfio_region_sparse_mmap_area,
};
use vfio_user::{
    Client as TheirClient, DmaMapFlags, DmaUnmapFlags, IrqInfo, Server as TheirServer,
    ServerBackend, ServerRegion, SparseArea,
};

#[test]
fn their_client_finds_regions_and_maps_what_may_be_mapped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = Listening::start(&path);
    let client = TheirClient::new(&path).unwrap();
    let bar0 = client.region(BAR0_REGION).unwrap();
    let access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    assert_eq!((bar0.size, bar0.flags & access), (BAR0_SIZE, access));
    let areas: Vec<_> = bar0
        .sparse_areas
        .iter()
        .map(|area| (area.offset, area.size))
        .collect();
    assert_eq!(areas, [(MAPPABLE.offset, MAPPABLE.size)]);
    let file = bar0.file_offset.as_ref().unwrap();
    assert_eq!(
        (file.start(), file.file().metadata().unwrap().len()),
        (0, BAR0_SIZE)
    );
    let config = client.region(CONFIG_REGION).unwrap();
    assert_eq!(
        (config.size, config.flags & access),
        (CONFIG_SIZE, VFIO_REGION_INFO_FLAG_READ)
    );
    assert!(config.file_offset.is_none() && config.sparse_areas.is_empty());
    assert_eq!(client.region(1).unwrap().size, 0);
    drop(client);
    server.stop();
}

#[test]
fn their_client_accesses_regions_and_resets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = Listening::start(&path);
    for round in 1..=3 {
        let mut client = TheirClient::new(&path).unwrap();
        let mut read = [0; 4];
        client.region_read(CONFIG_REGION, 0x40, &mut read).unwrap();
        assert_eq!(read, [0x5a; 4]);
        client
            .region_write(BAR0_REGION, 0x100, &[round; 4])
            .unwrap();
        client.region_read(BAR0_REGION, 0xff, &mut read).unwrap();
        assert_eq!(read, [0xff, round, round, round]);
        let mut all = vec![0; BAR0_SIZE as usize];
        client.region_read(BAR0_REGION, 0, &mut all).unwrap();
        assert_eq!(all[0x100], round);
        client.reset().unwrap();
        assert_eq!(server.seen.lock().unwrap().resets, u32::from(round));
        client.shutdown().unwrap();
    }
    server.stop();
}

#[test]
fn their_client_maps_memory_and_interrupts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let server = Listening::start(&path);
    let mut client = TheirClient::new(&path).unwrap();
    let memory = memory(0x4000);
    client
        .dma_map(0x1000, 0x10000, 0x3000, memory.as_raw_fd())
        .unwrap();
    assert_eq!(server.seen.lock().unwrap().maps[&0x10000], (0x3000, true));
    client.dma_unmap(0x10000, 0x3000).unwrap();
    client.dma_unmap(0, 1 << 63).unwrap();
    assert!(server.seen.lock().unwrap().maps.is_empty());
    let info = client.get_irq_info(MSIX_IRQ).unwrap();
    assert_eq!((info.index, info.count), (MSIX_IRQ, VECTORS));
    assert_eq!(info.flags & VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_EVENTFD);
    let eventfds = [EventFd::new().unwrap(), EventFd::new().unwrap()];
    let fds: Vec<_> = eventfds.iter().map(AsRawFd::as_raw_fd).collect();
    let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    client.set_irqs(MSIX_IRQ, flags, 5, 2, &fds).unwrap();
    nix::unistd::write(
        &server.seen.lock().unwrap().eventfds[&6],
        &3_u64.to_ne_bytes(),
    )
    .unwrap();
    assert_eq!(eventfds[1].read().unwrap(), 3);
    let none = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    client.set_irqs(MSIX_IRQ, none, 0, 0, &[]).unwrap();
    let calls = server.seen.lock().unwrap().irq_calls.clone();
    assert_eq!(calls[0], (5, 2, IrqAction::Trigger, "eventfds".to_owned()));
    assert_eq!(calls[1], (0, 0, IrqAction::Trigger, "none".to_owned()));
    drop(client);
    server.stop();
}

/// A device for their server.
struct Backend {
    registers: Vec<u8>,
    calls: Arc<Mutex<Vec<String>>>,
    eventfds: Arc<Mutex<Vec<File>>>,
}

impl ServerBackend for Backend {
    fn region_read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), io::Error> {
        let from = offset as usize;
        data.copy_from_slice(&self.registers[from..from + data.len()]);
        Ok(())
    }

    fn region_write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let from = offset as usize;
        self.registers[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> Result<(), io::Error> {
        let call = format!(
            "map {:#x} {offset:#x} {address:#x} {size:#x} {}",
            flags.bits(),
            fd.is_some()
        );
        self.calls.lock().unwrap().push(call);
        if address == 0xbad000 {
            Err(io::ErrorKind::Other.into())
        } else {
            Ok(())
        }
    }

    fn dma_unmap(
        &mut self,
        flags: DmaUnmapFlags,
        address: u64,
        size: u64,
    ) -> Result<(), io::Error> {
        self.calls
            .lock()
            .unwrap()
            .push(format!("unmap {:#x} {address:#x} {size:#x}", flags.bits()));
        Ok(())
    }

    fn reset(&mut self) -> Result<(), io::Error> {
        self.calls.lock().unwrap().push("reset".into());
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> Result<(), io::Error> {
        self.calls.lock().unwrap().push(format!(
            "irqs {index} {flags:#x} {start} {count} {}",
            fds.len()
        ));
        self.eventfds.lock().unwrap().extend(fds);
        Ok(())
    }
}

struct TheirDevice {
    client: client::Client,
    calls: Arc<Mutex<Vec<String>>>,
    eventfds: Arc<Mutex<Vec<File>>>,
    backing: OwnedFd,
    thread: std::thread::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

const THEIR_SIZE: u64 = 0x3000;

fn their_region(
    index: u32,
    size: u64,
    flags: u32,
    sparse_areas: Vec<SparseArea>,
    fd: Option<i32>,
) -> ServerRegion {
    let region_info = vfio_region_info {
        argsz: size_of::<vfio_region_info>() as u32,
        flags,
        index,
        size,
        ..Default::default()
    };
    ServerRegion {
        region_info,
        sparse_areas,
        mmap_fd: fd,
    }
}

fn their_device() -> TheirDevice {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let backing = memory(THEIR_SIZE);
    let access = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    let area = |offset, size| SparseArea {
        area: vfio_region_sparse_mmap_area { offset, size },
    };
    let areas = vec![area(0x1000, 0x1000), area(0x2000, 0x1000)];
    let regions = vec![
        their_region(
            0,
            THEIR_SIZE,
            access | VFIO_REGION_INFO_FLAG_MMAP,
            areas,
            Some(backing.as_raw_fd()),
        ),
        their_region(1, 0x100, access, vec![], None),
    ];
    let irqs = vec![
        IrqInfo {
            index: 0,
            flags: 0,
            count: 0,
        },
        IrqInfo {
            index: 1,
            flags: VFIO_IRQ_INFO_EVENTFD,
            count: 40,
        },
    ];
    let server = TheirServer::new(&path, true, irqs, regions).unwrap();
    let (calls, eventfds) = (Arc::default(), Arc::default());
    let registers = (0..THEIR_SIZE).map(|byte| byte as u8).collect();
    let mut backend = Backend {
        registers,
        calls: Arc::clone(&calls),
        eventfds: Arc::clone(&eventfds),
    };
    // It fails when the client hangs up in the midst of its reply, as it may.
    let thread = std::thread::spawn(move || drop(server.run(&mut backend)));
    let client = client::Client::connect(&path, client::Options::default(), soon()).unwrap();
    TheirDevice {
        client,
        calls,
        eventfds,
        backing,
        thread,
        _directory: directory,
    }
}

impl TheirDevice {
    fn finish(self) -> Vec<String> {
        drop(self.client);
        self.thread.join().unwrap();
        let calls = self.calls.lock().unwrap();
        calls.clone()
    }
}

#[test]
fn their_server_tells_what_the_device_has() {
    let device = their_device();
    let client = &device.client;
    let info = client.device_info(soon()).unwrap();
    assert_eq!(
        (info.regions, info.irqs, info.resettable, info.pci),
        (2, 2, true, true)
    );
    let bar = client.region_info(0, soon()).unwrap();
    assert_eq!(
        (bar.size, bar.readable, bar.writable),
        (THEIR_SIZE, true, true)
    );
    let mmap = bar.mmap.unwrap();
    let areas = [0x1000, 0x2000].map(|offset| MmapArea {
        offset,
        size: 0x1000,
    });
    assert_eq!(mmap.areas, areas);
    File::from(device.backing.try_clone().unwrap())
        .write_at(b"shared", 0x1000)
        .unwrap();
    let mut seen = [0; 6];
    File::from(mmap.fd.try_clone().unwrap())
        .read_at(&mut seen, mmap.offset + 0x1000)
        .unwrap();
    assert_eq!(&seen, b"shared");
    assert!(client.region_info(1, soon()).unwrap().mmap.is_none());
    assert_eq!(client.irq_info(1, soon()).unwrap().count, 40);
    // Refusals this server survives: those it makes after having read the whole request.
    for refused in [
        client.region_info(2, soon()).map(drop),
        client.irq_info(2, soon()).map(drop),
    ] {
        assert!(
            matches!(
                refused,
                Err(Error::Refused {
                    errno: Errno::EINVAL,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    device.finish();
}

#[test]
fn their_server_reads_writes_and_resets() {
    let device = their_device();
    let client = &device.client;
    client.region_write(0, 0x10, &[9, 8, 7], soon()).unwrap();
    client.region_write_posted(0, 0x13, &[6], soon()).unwrap();
    let mut read = [0; 6];
    client.region_read(0, 0xf, &mut read, soon()).unwrap();
    assert_eq!(read, [0xf, 9, 8, 7, 6, 0x14]);
    let mut bytes = [[0; 1]; 100];
    let mut ops: Vec<_> = bytes
        .iter_mut()
        .zip(0x40..)
        .map(|(data, offset)| RegionOp::Read {
            region: 0,
            offset,
            data,
        })
        .collect();
    assert!(
        client
            .region_batch(&mut ops, soon())
            .unwrap()
            .iter()
            .all(Result::is_ok)
    );
    assert!(
        bytes
            .iter()
            .zip(0x40_u8..)
            .all(|(byte, expected)| byte[0] == expected)
    );
    client.reset(soon()).unwrap();
    assert_eq!(device.finish(), ["reset"]);
}

#[test]
fn their_server_maps_memory() {
    let device = their_device();
    let fd = memory(0x4000);
    let shared = ClientMap {
        iova: 0x10000,
        size: 0x2000,
        protection: Protection::READ_WRITE,
        memory: Some((fd.as_fd(), 0x1000)),
    };
    let apart = ClientMap {
        iova: 0x20000,
        protection: Protection::READ,
        memory: None,
        ..shared
    };
    let bad = ClientMap {
        iova: 0xbad000,
        ..apart
    };
    device.client.dma_map(&shared, soon()).unwrap();
    device.client.dma_map(&apart, soon()).unwrap();
    let refused = device.client.dma_map(&bad, soon());
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    device.client.dma_unmap(0x10000, 0x2000, soon()).unwrap();
    assert_eq!(
        device.finish(),
        [
            "map 0x3 0x1000 0x10000 0x2000 true",
            "map 0x1 0x0 0x20000 0x2000 false",
            "map 0x1 0x0 0xbad000 0x2000 false",
            "unmap 0x0 0x10000 0x2000",
        ]
    );
}

#[test]
fn their_server_takes_eventfds_one_at_a_time() {
    let device = their_device();
    assert_eq!(device.client.server_capabilities().max_msg_fds, 1);
    let eventfds: Vec<_> = (0..3).map(|_| EventFd::new().unwrap()).collect();
    let fds: Vec<_> = eventfds.iter().map(AsFd::as_fd).collect();
    device.client.set_irq_eventfds(1, 4, &fds, soon()).unwrap();
    device
        .client
        .act_on_irqs(1, 0, 2, IrqAction::Mask, soon())
        .unwrap();
    device.client.disable_irqs(1, soon()).unwrap();
    for (value, file) in (1_u64..).zip(&*device.eventfds.lock().unwrap()) {
        nix::unistd::write(file, &value.to_ne_bytes()).unwrap();
    }
    for (value, eventfd) in (1..).zip(&eventfds) {
        assert_eq!(eventfd.read().unwrap(), value);
    }
    assert_eq!(
        device.finish(),
        [
            "irqs 1 0x24 4 1 1",
            "irqs 1 0x24 5 1 1",
            "irqs 1 0x24 6 1 1",
            "irqs 1 0x9 0 2 0",
            "irqs 1 0x21 0 0 0"
        ]
    );
}
