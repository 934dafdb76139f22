//! Mappings by the ten thousand, and what ends them.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use auk_driver::bus::{BusError, DmaRange, DmaTarget};
use auk_driver::dma::{DmaBuffer, DmaError, DmaSpace, HugePages, SpaceOptions};
use auk_driver::{Device, OpenOptions};
use auk_sim::{Chip, ChipProfile};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::Size;
use crate::results::{Results, thread_time};

const PAGE: usize = 4096;
/// What type1 allows unless told otherwise.
const TYPE1: usize = 65_535;

/// A bus that maps nothing and counts, as type1 does.
struct Counted {
    most: usize,
    mapped: Mutex<BTreeMap<u64, u64>>,
}

impl Counted {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            mapped: Mutex::default(),
        })
    }
}

impl DmaTarget for Counted {
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        // An x86-64 host with an IOMMU of 39 bits.
        Ok(vec![0..=0xFEDF_FFFF, 0xFEF0_0000..=(1 << 39) - 1])
    }

    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        let made = self.mapped.lock().expect("no panic").len();
        Ok(Some((self.most - made) as u64))
    }

    fn map(&self, range: &DmaRange<'_>) -> Result<(), BusError> {
        let mut mapped = self.mapped.lock().expect("no panic");
        mapped.insert(range.iova(), range.size());
        Ok(())
    }

    fn unmap(&self, iova: u64, _: u64) -> Result<u64, BusError> {
        let mut mapped = self.mapped.lock().expect("no panic");
        Ok(mapped.remove(&iova).unwrap_or(0))
    }
}

fn space() -> DmaSpace {
    DmaSpace::with(&SpaceOptions::default().huge_pages(HugePages::Never))
}

/// Single pages of the job's, each a mapping.
struct Pages(Box<[u8]>);

impl Pages {
    fn new(count: usize) -> Self {
        Self(vec![0; (count + 1) * PAGE].into_boxed_slice())
    }

    fn register(&mut self, space: &DmaSpace, page: usize) -> Result<DmaBuffer, DmaError> {
        let start = self.0.as_ptr().align_offset(PAGE) + page * PAGE;
        let start = NonNull::from(&mut self.0[start]);
        // SAFETY: the pages outlive the buffers, and nothing else uses them.
        unsafe { space.register(start, PAGE, ()) }
    }
}

pub(crate) fn measure(results: &mut Results, size: Size) {
    results.table("mappings of a bus that counts them; 39-bit IOVAs with the MSI window left out");
    let mut pages = Pages::new(TYPE1);
    // So that no page has to be made while it is mapped.
    pages.0.fill(1);
    let least = size.mappings[0];
    for &count in size.mappings {
        let (space, target) = (space(), Counted::new(TYPE1));
        space
            .attach(target, u64::MAX)
            .expect("a bus that takes anything");
        let start = thread_time();
        let buffers: Vec<_> = (0..count)
            .map(|page| pages.register(&space, page).expect("a mapping"))
            .collect();
        let map = thread_time() - start;
        let start = thread_time();
        space
            .attach(Counted::new(TYPE1), u64::MAX)
            .expect("a bus that takes anything");
        let attach = thread_time() - start;
        let start = thread_time();
        drop(buffers);
        let unmap = thread_time() - start;
        for (what, time) in [
            ("map", map),
            ("attach one more bus", attach),
            ("unmap from both", unmap),
        ] {
            compared(results, what, count, least, time / count as f64);
        }
    }

    results.table("mappings of a simulated chip, pages of one memfd");
    let most = size
        .mappings
        .iter()
        .copied()
        .filter(|count| *count <= 10_000);
    for count in most {
        let chip = Simulated::new();
        let file = memfd(count);
        let start = Instant::now();
        let buffers: Vec<_> = (0..count)
            .map(|page| chip.register(&file, page).expect("a mapping"))
            .collect();
        let map = start.elapsed();
        let start = Instant::now();
        drop(buffers);
        let unmap = start.elapsed();
        for (what, time) in [("map on the chip", map), ("unmap from the chip", unmap)] {
            let value = time.as_nanos() as f64 / count as f64;
            compared(results, what, count, least, value);
        }
    }
}

fn compared(results: &mut Results, what: &str, count: usize, least: usize, value: f64) {
    let name = |count: usize| format!("{what}; {count} mappings");
    if count == least {
        results.count(name(count), value, "ns a mapping");
    } else {
        results.compared(name(count), value, "ns a mapping", &name(least));
    }
}

/// A simulated chip, open.
struct Simulated {
    device: Device,
    _serving: auk_sim::Serving,
    _chip: Chip,
}

impl Simulated {
    fn new() -> Self {
        let chip = Chip::new(ChipProfile {
            memory: 16 << 20,
            ..ChipProfile::silicon(1)
        })
        .expect("a chip");
        let (serving, socket) = chip.connect().expect("a server");
        let options = OpenOptions::default().space(&space());
        let device = Device::from_socket("bench", socket, &options).expect("a device");
        Self {
            device,
            _serving: serving,
            _chip: chip,
        }
    }

    /// Every other page, so that the kernel makes no one mapping of two.
    fn register(&self, file: &File, page: usize) -> Result<DmaBuffer, DmaError> {
        let offset = (2 * page * PAGE) as u64;
        let space = self.device.space();
        // SAFETY: nobody has the file mapped elsewhere.
        unsafe { space.register_file(file.as_fd(), offset, PAGE as u64) }
    }
}

fn memfd(pages: usize) -> File {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let file = File::from(memfd_create("bench", flags).expect("a memfd"));
    file.set_len((2 * pages * PAGE) as u64).expect("room");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).expect("a seal");
    file
}

/// Goes on until something refuses, and says what.
pub(crate) fn what_ends_first(results: &mut Results, size: Size) {
    let most = size.mappings.last().copied().unwrap_or(0);
    results.table("what ends first");
    let mut pages = Pages::new(most);
    let (counted, target) = (space(), Counted::new(most - 1));
    counted
        .attach(target, u64::MAX)
        .expect("a bus that takes anything");
    until_refused(results, "single pages on a bus that counts", most, |page| {
        pages.register(&counted, page)
    });

    let chip = Simulated::new();
    let file = memfd(most);
    let what = "single pages of a memfd, simulated chip in this process";
    until_refused(results, what, most, |page| chip.register(&file, page));

    let nothing = space();
    let what = "buffers of 1 GiB, each a file";
    until_refused(results, what, most, |_| nothing.alloc(1 << 30));

    drop(nothing);

    let small = space();
    let buffers: Vec<_> = (0..1_000_000)
        .map(|_| small.alloc(1000).expect("memory"))
        .collect();
    small
        .attach(Counted::new(TYPE1), u64::MAX)
        .expect("a bus that takes anything");
    let usage = small.usage();
    let what = "mappings of a million buffers of 1000 bytes";
    results.count(what, usage.mappings as f64, "");
    results.count("bytes mapped for them", usage.mapped as f64, "");
    drop(buffers);
}

fn until_refused(
    results: &mut Results,
    what: &str,
    most: usize,
    mut next: impl FnMut(usize) -> Result<DmaBuffer, DmaError>,
) {
    let mut buffers = Vec::with_capacity(most);
    for nth in 0..most {
        match next(nth) {
            Ok(buffer) => buffers.push(buffer),
            Err(error) => {
                results.count(what, buffers.len() as f64, "until refused");
                println!("    {error}");
                return;
            }
        }
    }
    results.count(what, buffers.len() as f64, "and not refused");
}
