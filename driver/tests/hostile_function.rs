//! A function whose registers say anything: opening it is an error in time, never a panic or a hang.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a fake that panics fails its test"
)]

mod hostile_chip;

use std::ops::RangeInclusive;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use auk_asic::bar0::{self, CapDma};
use auk_asic::ident::{Model, ident_register};
use auk_driver::bus::{
    BusError, DmaRange, DmaTarget, Function, Interrupt, IrqInfo, Region, RegionInfo,
};
use auk_driver::{Deadline, Device, DmaSpace, Error, OpenOptions};
use hostile_chip::{Words, bar, bar_info, plausible};
use proptest::prelude::*;

/// BAR0 reads as `registers` says, and as `rest` where it says nothing; config space holds what was written.
struct Fake {
    registers: Words,
    rest: u32,
    config: Mutex<Words>,
    bar0: u64,
    doorbells: Arc<OwnedFd>,
    target: Arc<Anything>,
    /// From the write that enables the admin queue on, the function no longer answers.
    stalls: bool,
    stalled: AtomicBool,
}

impl Fake {
    fn new(registers: Words, rest: u32, bar0: u64) -> Arc<Self> {
        Arc::new(Self::on(Arc::default(), registers, rest, bar0))
    }

    fn on(target: Arc<Anything>, registers: Words, rest: u32, bar0: u64) -> Self {
        Self {
            registers,
            rest,
            config: Mutex::new(Words::from([(0, ident_register(Model::Silicon))])),
            bar0,
            doorbells: Arc::new(bar(bar0).into()),
            target,
            stalls: false,
            stalled: AtomicBool::new(false),
        }
    }

    fn answers(&self) -> Result<(), BusError> {
        if !self.stalled.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(BusError::TimedOut {
            what: "writing a region".to_owned(),
            milliseconds: 1,
        })
    }
}

impl Function for Fake {
    fn name(&self) -> &str {
        "a hostile function"
    }

    fn region(&self, _: Region) -> Result<RegionInfo, BusError> {
        Ok(bar_info(&self.doorbells, self.bar0))
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
        } else if self.stalls && offset == bar0::CONTROL.offset && data != [0; 4] {
            self.stalled.store(true, Ordering::Relaxed);
        }
        self.answers()
    }

    fn interrupts(&self, _: Interrupt) -> Result<IrqInfo, BusError> {
        Ok(IrqInfo {
            count: u32::MAX,
            eventfd: true,
            ..IrqInfo::default()
        })
    }

    fn enable_interrupts(&self, _: Interrupt, _: &[BorrowedFd<'_>]) -> Result<(), BusError> {
        Ok(())
    }

    fn disable_interrupts(&self, _: Interrupt) -> Result<(), BusError> {
        Ok(())
    }

    fn reset(&self, _: Deadline) -> Result<(), BusError> {
        self.answers()
    }

    fn dma(&self) -> Arc<dyn DmaTarget> {
        let target: Arc<dyn DmaTarget> = self.target.clone();
        target
    }
}

/// Takes whatever is mapped, and counts it.
#[derive(Default)]
struct Anything {
    mapped: AtomicUsize,
}

impl DmaTarget for Anything {
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        Ok(vec![0..=u64::MAX])
    }

    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        Ok(None)
    }

    fn map(&self, _: &DmaRange<'_>) -> Result<(), BusError> {
        self.mapped.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn unmap(&self, _: u64, size: u64) -> Result<u64, BusError> {
        self.mapped.fetch_sub(1, Ordering::Relaxed);
        Ok(size)
    }
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

#[test]
fn rings_that_a_chip_may_have_been_given_are_never_used_again() {
    let space = DmaSpace::new();
    let options = OpenOptions::default().space(&space);
    let mut registers = plausible();
    registers.insert(bar0::STATUS.offset, 4 << 8);
    let mut function = Fake::on(Arc::default(), registers, 0, bar0::SIZE);
    function.stalls = true;
    let error = Device::from_function(Arc::new(function), &options).expect_err("it stalls");
    assert!(matches!(error, Error::Disconnected { .. }), "{error}");
    assert_ne!(space.usage().leaked, 0);
}

#[test]
fn a_function_that_cannot_attach_unmaps_nothing_for_those_that_share_its_target() {
    let space = DmaSpace::new();
    let target: Arc<Anything> = Arc::default();
    // More than the 32 bits below can reach.
    let _buffers: Vec<_> = (0..5).map(|_| space.alloc(1 << 30).unwrap()).collect();
    space.attach(target.clone(), u64::MAX).unwrap();
    let mapped = target.mapped.load(Ordering::Relaxed);

    let mut registers = plausible();
    let dma = CapDma::new().with_address_bits(32);
    registers.insert(bar0::CAP_DMA.offset, dma.into_bits());
    let function = Fake::on(target.clone(), registers, 0, bar0::SIZE);
    let options = OpenOptions::default().space(&space);
    let error = Device::from_function(Arc::new(function), &options).expect_err("out of reach");
    assert!(matches!(error, Error::Dma { .. }), "{error}");
    assert_eq!(target.mapped.load(Ordering::Relaxed), mapped);
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
