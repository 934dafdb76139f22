//! A device to serve, and threads to serve it from.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses its own part of this"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

pub mod raw;
pub mod script;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use auk_vfio_user::Errno;
use auk_vfio_user::client::{self, Client, ClientMap, Error};
use auk_vfio_user::model::{
    DeviceInfo, DmaMap, IrqAction, IrqData, IrqInfo, IrqSet, MmapArea, Protection, RegionInfo,
    RegionMmap,
};
use auk_vfio_user::pci::{BAR0_REGION, CONFIG_REGION, MSIX_IRQ, NUM_IRQS, NUM_REGIONS};
use auk_vfio_user::server::{
    ClientMemory, Device, Ended, Listener, Options, Server, SessionError, StopHandle,
};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Long enough for a loaded machine; no test waits for it to pass.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub const BAR0_SIZE: u64 = 0x4000;
/// The part of BAR 0 that can be mapped.
pub const MAPPABLE: MmapArea = MmapArea {
    offset: 0x1000,
    size: 0x2000,
};
pub const CONFIG_SIZE: u64 = 0x1000;
pub const VECTORS: u32 = 33;

/// A write to this offset of BAR 0 has the device read 8 bytes at the IOVA written, and write them inverted
/// 8 bytes further, by messages to the client.
pub const COPY_REGISTER: u64 = 0x10;
/// A write to this offset of BAR 0 fails with EPERM.
pub const FORBIDDEN_REGISTER: u64 = 0x20;

/// What the device has been told.
#[derive(Default)]
pub struct Seen {
    pub maps: BTreeMap<u64, (u64, bool)>,
    pub eventfds: BTreeMap<u32, OwnedFd>,
    pub irq_calls: Vec<(u32, u32, IrqAction, String)>,
    pub resets: u32,
    pub clients: u32,
    pub gone: u32,
    pub writes: Vec<(u64, Vec<u8>)>,
    pub memory: Option<ClientMemory>,
}

/// A device with registers that keep what is written to them.
pub struct Toy {
    pub seen: Arc<Mutex<Seen>>,
    registers: Vec<u8>,
    config: Vec<u8>,
    backing: Arc<OwnedFd>,
}

impl Toy {
    pub fn new() -> Self {
        Self {
            seen: Arc::default(),
            registers: (0..BAR0_SIZE).map(|byte| byte as u8).collect(),
            config: vec![0x5a; CONFIG_SIZE as usize],
            backing: Arc::new(memory(BAR0_SIZE)),
        }
    }

    fn region_bytes(&mut self, index: u32) -> &mut Vec<u8> {
        if index == CONFIG_REGION {
            &mut self.config
        } else {
            &mut self.registers
        }
    }
}

impl Device for Toy {
    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            resettable: true,
            pci: true,
            regions: NUM_REGIONS,
            irqs: NUM_IRQS,
        }
    }

    fn region(&self, index: u32) -> Option<RegionInfo> {
        let (readable, writable) = (true, true);
        match index {
            BAR0_REGION => {
                let mmap = RegionMmap {
                    fd: self.backing.clone(),
                    offset: 0,
                    areas: vec![MAPPABLE],
                };
                Some(RegionInfo {
                    size: BAR0_SIZE,
                    readable,
                    writable,
                    mmap: Some(mmap),
                })
            }
            CONFIG_REGION => Some(RegionInfo {
                size: CONFIG_SIZE,
                readable,
                writable: false,
                mmap: None,
            }),
            _ => None,
        }
    }

    fn irq(&self, index: u32) -> Option<IrqInfo> {
        let info = IrqInfo {
            count: VECTORS,
            eventfd: true,
            maskable: true,
            ..IrqInfo::default()
        };
        (index == MSIX_IRQ).then_some(info)
    }

    fn region_read(&mut self, index: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let from = offset as usize;
        data.copy_from_slice(&self.region_bytes(index)[from..from + data.len()]);
        Ok(())
    }

    fn region_write(&mut self, index: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        match offset {
            FORBIDDEN_REGISTER => return Err(Errno::EPERM),
            COPY_REGISTER => {
                let iova = u64::from_ne_bytes(data.try_into().unwrap());
                let memory = self.seen.lock().unwrap().memory.clone().unwrap();
                let mut bytes = [0; 8];
                memory
                    .read(iova, &mut bytes, soon())
                    .map_err(|_| Errno::EIO)?;
                memory
                    .write(iova + 8, &bytes.map(|byte| !byte), soon())
                    .map_err(|_| Errno::EIO)?;
            }
            _ => {}
        }
        let from = offset as usize;
        self.region_bytes(index)[from..from + data.len()].copy_from_slice(data);
        self.seen
            .lock()
            .unwrap()
            .writes
            .push((offset, data.to_vec()));
        Ok(())
    }

    fn dma_map(&mut self, map: DmaMap) -> Result<(), Errno> {
        self.seen
            .lock()
            .unwrap()
            .maps
            .insert(map.iova, (map.size, map.memory.is_some()));
        Ok(())
    }

    fn dma_unmap(&mut self, iova: u64, size: u64) -> Result<(), Errno> {
        let removed = self.seen.lock().unwrap().maps.remove(&iova);
        assert_eq!(removed.map(|(size, _)| size), Some(size));
        Ok(())
    }

    fn set_irqs(&mut self, request: IrqSet) -> Result<(), Errno> {
        let mut seen = self.seen.lock().unwrap();
        let IrqSet {
            start,
            count,
            action,
            ..
        } = request;
        let data = match request.data {
            IrqData::None => "none".into(),
            IrqData::Bools(which) => format!("{which:?}"),
            IrqData::Deassign => "deassign".into(),
            IrqData::Eventfds(eventfds) => {
                seen.eventfds.extend((start..).zip(eventfds));
                "eventfds".into()
            }
        };
        seen.irq_calls.push((start, count, action, data));
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.seen.lock().unwrap().resets += 1;
        Ok(())
    }

    fn connected(&mut self, memory: ClientMemory) {
        let mut seen = self.seen.lock().unwrap();
        seen.clients += 1;
        seen.memory = Some(memory);
    }

    fn disconnected(&mut self) {
        let mut seen = self.seen.lock().unwrap();
        seen.maps.clear();
        seen.eventfds.clear();
        seen.memory = None;
        seen.gone += 1;
    }
}

/// A server in a thread of its own, for one client over a socket pair.
pub struct Served {
    pub seen: Arc<Mutex<Seen>>,
    pub stop: StopHandle,
    thread: JoinHandle<Result<Ended, SessionError>>,
}

impl Served {
    pub fn start(options: Options) -> (Self, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = Server::new(options).unwrap();
        let stop = server.stop_handle();
        let mut toy = Toy::new();
        let seen = toy.seen.clone();
        let thread =
            std::thread::spawn(move || server.serve_fd(theirs.into(), &mut toy, Some(soon())));
        (Self { seen, stop, thread }, ours)
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub fn ended(self) -> Result<Ended, SessionError> {
        self.thread.join().unwrap()
    }
}

/// A server with its client.
pub fn served() -> (Served, Client) {
    let (served, stream) = Served::start(Options::default());
    (
        served,
        Client::from_fd(stream.into(), client::Options::default(), soon()).unwrap(),
    )
}

/// A server in a thread of its own, for clients that come to a path.
pub struct Listening {
    pub seen: Arc<Mutex<Seen>>,
    pub stop: StopHandle,
    thread: Option<JoinHandle<std::io::Result<Ended>>>,
}

impl Listening {
    pub fn start(path: &std::path::Path) -> Self {
        let listener = Listener::bind(path).unwrap();
        let server = Server::new(Options::default()).unwrap();
        let stop = server.stop_handle();
        let mut toy = Toy::new();
        let seen = toy.seen.clone();
        let thread = std::thread::spawn(move || server.serve(&listener, &mut toy, Some(soon())));
        Self {
            seen,
            stop,
            thread: Some(thread),
        }
    }

    pub fn stop(mut self) -> Ended {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

/// The number of a refusal.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    match result {
        Err(Error::Refused { errno, .. }) => errno,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

/// Memory to map that is not shared.
pub fn map(iova: u64, size: u64) -> ClientMap<'static> {
    ClientMap {
        iova,
        size,
        protection: Protection::READ_WRITE,
        memory: None,
    }
}

/// Shared memory of a size, in bytes.
pub fn memory(size: u64) -> OwnedFd {
    let fd = memfd_create(c"test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
    let file = File::from(fd);
    file.set_len(size).unwrap();
    file.into()
}

/// Waits until something is so, for things that happen in another thread.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = soon();
    while !is_so() {
        assert!(Instant::now() < deadline, "it never happened that {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many descriptors this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
