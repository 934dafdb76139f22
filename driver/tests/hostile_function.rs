//! A function whose registers say anything: opening it is an error in time, never a panic or a hang.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a fake that panics fails its test"
)]

use std::collections::HashMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auk_asic::bar0::{self, CapDma, CapLimits, CapQueues};
use auk_asic::ident::{MODEL_VERSION, Model, ident_register};
use auk_driver::bus::{
    BusError, DmaRange, DmaTarget, Function, IrqInfo, Region, RegionInfo, RegionMmap,
};
use auk_driver::{Device, Error, OpenOptions};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use proptest::prelude::*;

type Words = HashMap<u64, u32>;

/// BAR0 reads as `registers` says, and as `rest` where it says nothing; config space holds what was written.
struct Fake {
    registers: Words,
    rest: u32,
    config: Mutex<Words>,
    bar0: u64,
    doorbells: Arc<OwnedFd>,
}

impl Fake {
    fn new(registers: Words, rest: u32, bar0: u64) -> Arc<Self> {
        let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
        let file = File::from(memfd_create("bar0", flags).unwrap());
        file.set_len(bar0).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        Arc::new(Self {
            registers,
            rest,
            config: Mutex::new(Words::from([(0, ident_register(Model::Silicon))])),
            bar0,
            doorbells: Arc::new(file.into()),
        })
    }
}

impl Function for Fake {
    fn name(&self) -> &str {
        "a hostile function"
    }

    fn region(&self, _: Region) -> Result<RegionInfo, BusError> {
        Ok(RegionInfo {
            size: self.bar0,
            readable: true,
            writable: true,
            mmap: Some(RegionMmap {
                fd: Arc::clone(&self.doorbells),
                offset: 0,
                areas: Vec::new(),
            }),
        })
    }

    fn read(&self, region: Region, offset: u64, data: &mut [u8]) -> Result<(), BusError> {
        let word = if region == Region::Config {
            self.config
                .lock()
                .unwrap()
                .get(&offset)
                .copied()
                .unwrap_or(0)
        } else {
            self.registers.get(&offset).copied().unwrap_or(self.rest)
        };
        for (to, from) in data.iter_mut().zip(word.to_le_bytes().into_iter().cycle()) {
            *to = from;
        }
        Ok(())
    }

    fn write(&self, region: Region, offset: u64, data: &[u8]) -> Result<(), BusError> {
        if region == Region::Config {
            let bytes = data.iter().rev();
            let word = bytes.fold(0, |word, byte| word << 8 | u32::from(*byte));
            self.config.lock().unwrap().insert(offset, word);
        }
        Ok(())
    }

    fn interrupts(&self) -> Result<IrqInfo, BusError> {
        Ok(IrqInfo {
            count: u32::MAX,
            eventfd: true,
            ..IrqInfo::default()
        })
    }

    fn enable_interrupts(&self, _: &[BorrowedFd<'_>]) -> Result<(), BusError> {
        Ok(())
    }

    fn disable_interrupts(&self) -> Result<(), BusError> {
        Ok(())
    }

    fn reset(&self) -> Result<(), BusError> {
        Ok(())
    }

    fn dma(&self) -> Arc<dyn DmaTarget> {
        Arc::new(Anything)
    }
}

struct Anything;

impl DmaTarget for Anything {
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        Ok(vec![0..=u64::MAX])
    }

    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        Ok(None)
    }

    fn map(&self, _: &DmaRange<'_>) -> Result<(), BusError> {
        Ok(())
    }

    fn unmap(&self, _: u64, size: u64) -> Result<u64, BusError> {
        Ok(size)
    }
}

/// A chip whose identity and capabilities are right.
fn plausible() -> Words {
    let queues = CapQueues::new()
        .with_io_queues(2)
        .with_max_depth_log2(8)
        .with_submission_log2(6)
        .with_completion_log2(4)
        .with_doorbell_stride_log2(12);
    let dma = CapDma::new().with_address_bits(40);
    let limits = CapLimits::new().with_max_transfer_log2(20);
    Words::from([
        (bar0::IDENT.offset, ident_register(Model::Silicon)),
        (bar0::VERSION.offset, MODEL_VERSION),
        (bar0::CAP_QUEUES.offset, queues.into_bits()),
        (bar0::CAP_DMA.offset, dma.into_bits()),
        (bar0::CAP_LIMITS.offset, limits.into_bits()),
        (bar0::CAP_MEMORY_LO.offset, 1 << 20),
        (bar0::CAP_MEMORY_HI.offset, 0),
    ])
}

fn open(registers: Words, rest: u32) -> Error {
    let options = OpenOptions::default()
        .timeout(Duration::from_millis(20))
        .longest_timeout(Duration::from_millis(5));
    let started = Instant::now();
    let function = Fake::new(registers, rest, bar0::SIZE);
    let error = Device::from_function(function, &options).expect_err("nothing here is a chip");
    assert!(started.elapsed() < Duration::from_secs(10));
    error
}

#[test]
fn a_function_that_reads_all_ones_is_gone() {
    let error = open(Words::new(), u32::MAX);
    assert!(matches!(error, Error::Gone { .. }), "{error}");
}

#[test]
fn a_chip_of_another_major_version_is_refused() {
    let mut registers = plausible();
    registers.insert(bar0::VERSION.offset, 0x0002_0000);
    let error = open(registers, 0);
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
}

#[test]
fn a_chip_that_never_boots_times_out() {
    let mut registers = plausible();
    registers.insert(bar0::STATUS.offset, 3 << 8);
    let error = open(registers, 0);
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[test]
fn a_chip_that_is_ready_but_completes_nothing_times_out() {
    let mut registers = plausible();
    registers.insert(bar0::STATUS.offset, 4 << 8 | 1);
    let error = open(registers, 0);
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[test]
fn a_bar_without_room_for_its_doorbells_is_refused() {
    let function = Fake::new(plausible(), 0, 0x41000);
    let error = Device::from_function(function, &OpenOptions::default()).expect_err("too small");
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_registers_make_opening_panic_or_hang(
        changes in proptest::collection::vec((0u64..0x34, any::<u32>()), 0..6),
        rest in prop_oneof![Just(0), Just(u32::MAX), any::<u32>()],
    ) {
        let mut registers = plausible();
        for (word, value) in changes {
            registers.insert(word * 4, value);
        }
        let error = open(registers, rest);
        prop_assert!(!error.to_string().is_empty());
    }
}
