//! What the chip reaches of the driver's memory: an IOMMU that notes what hardware's would report.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard};

use auk_driver::bus::{BusError, DmaRange, DmaTarget};

/// What is mapped, and where the chip writes.
#[derive(Default)]
pub struct Memory(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By IOVA: bytes, and the memory behind them.
    mapped: BTreeMap<u64, (u64, File)>,
    /// Each place that the chip writes until it says that it is done.
    writing: Vec<Place>,
    /// Where the chip wrote while nothing was mapped there.
    faults: Vec<u64>,
}

/// A place that the chip writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The queue whose command says so.
    pub queue: u16,
    pub iova: u64,
    /// What is there is written again: the place is a queue's own.
    pub same: bool,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub fn is_mapped(&self, iova: u64) -> bool {
        self.inner().find(iova, 1).is_some()
    }

    pub fn read(&self, iova: u64, data: &mut [u8]) {
        let inner = self.inner();
        let Some((file, at)) = inner.find(iova, data.len()) else {
            panic!("nothing is mapped at {iova:#x}");
        };
        file.read_exact_at(data, at).unwrap();
    }

    pub fn load(&self, iova: u64) -> u64 {
        let mut word = [0; 8];
        self.read(iova, &mut word);
        u64::from_le_bytes(word)
    }

    /// A write by the chip. Where nothing is mapped it is a fault.
    pub fn write(&self, iova: u64, data: &[u8]) {
        self.inner().write(iova, data);
    }

    pub fn store(&self, iova: u64, word: u64) {
        self.write(iova, &word.to_le_bytes());
    }

    /// From now on the chip writes there, until [`Memory::end`].
    pub fn begin(&self, place: Place) {
        self.inner().writing.push(place);
    }

    /// The chip writes once more wherever it still does.
    pub fn write_on(&self) {
        self.inner().write_on(|_| true);
    }

    /// The chip writes for the last time where `ended` says, and then says so.
    pub fn end(&self, ended: impl Fn(&Place) -> bool) {
        let mut inner = self.inner();
        inner.write_on(&ended);
        inner.writing.retain(|place| !ended(place));
    }

    /// The chip never wrote where nothing was mapped: an IOMMU would have stopped it, and without one it would have hit whoever
    /// has that memory now.
    pub fn assert_no_fault(&self) {
        let faults = &self.inner().faults;
        assert!(
            faults.is_empty(),
            "the chip wrote to {faults:#x?}, which nobody maps"
        );
    }
}

impl Inner {
    fn find(&self, iova: u64, length: usize) -> Option<(&File, u64)> {
        let (base, (size, file)) = self.mapped.range(..=iova).next_back()?;
        let at = iova - base;
        (at + length as u64 <= *size).then_some((file, at))
    }

    fn write(&mut self, iova: u64, data: &[u8]) {
        match self.find(iova, data.len()) {
            Some((file, at)) => file.write_all_at(data, at).unwrap(),
            None => self.faults.push(iova),
        }
    }

    fn write_on(&mut self, which: impl Fn(&Place) -> bool) {
        let places: Vec<_> = self.writing.iter().copied().filter(which).collect();
        for Place { iova, same, .. } in places {
            let mut data = [0xDA; 8];
            if same && let Some((file, at)) = self.find(iova, data.len()) {
                file.read_exact_at(&mut data, at).unwrap();
            }
            self.write(iova, &data);
        }
    }
}

impl DmaTarget for Memory {
    fn ranges(&self) -> Result<Vec<RangeInclusive<u64>>, BusError> {
        Ok(vec![0..=u64::MAX])
    }

    fn mappings_left(&self) -> Result<Option<u64>, BusError> {
        Ok(None)
    }

    fn map(&self, range: &DmaRange<'_>) -> Result<(), BusError> {
        assert_eq!(range.fd_offset(), 0);
        let file = File::from(range.fd().unwrap().try_clone_to_owned().unwrap());
        let mapped = (range.size(), file);
        let before = self.inner().mapped.insert(range.iova(), mapped);
        assert!(before.is_none(), "{:#x} is mapped twice", range.iova());
        Ok(())
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<u64, BusError> {
        let mut inner = self.inner();
        let (found, _) = inner.mapped.remove(&iova).expect("only what was mapped");
        assert_eq!(found, size, "unmapped as it was mapped");
        // What is unmapped under the chip's hands is hit at once.
        inner.write_on(|place| (iova..iova + size).contains(&place.iova));
        Ok(size)
    }
}
