//! Client memory behind IOVAs, seen by several threads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auk_vfio_user::Errno;
use auk_vfio_user::dma::{Access, DmaError, DmaFault, DmaSpace, DmaView, Places};
use auk_vfio_user::memory::{MapError, SharedMemory, Stores};
use auk_vfio_user::model::{DmaMap, DmaMemory, Protection};
use common::*;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

fn space() -> DmaSpace {
    DmaSpace::new()
}

fn read<const LEN: usize>(view: &DmaView, iova: u64) -> Result<[u8; LEN], DmaFault> {
    let mut bytes = [0; LEN];
    view.read(iova, &mut bytes).map(|()| bytes)
}

fn map(iova: u64, size: u64, protection: Protection, fd: &OwnedFd, offset: u64) -> DmaMap {
    let memory = DmaMemory {
        fd: fd.try_clone().unwrap(),
        offset,
    };
    DmaMap {
        iova,
        size,
        protection,
        memory: Some(memory),
    }
}

/// A page of a client's memory at IOVA 0.
fn page(protection: Protection) -> (OwnedFd, DmaSpace) {
    let (fd, space) = (memory(0x1000), space());
    space.map(&map(0, 0x1000, protection, &fd, 0)).unwrap();
    (fd, space)
}

/// Whether a mapping of this file is among the mappings of this process.
fn is_mapped(inode: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .any(|line| line.split_whitespace().nth(4) == Some(&inode.to_string()))
}

fn inode(fd: &OwnedFd) -> u64 {
    nix::sys::stat::fstat(fd).unwrap().st_ino
}

#[test]
fn bytes_and_words_go_to_the_clients_memory_and_back() {
    let fd = memory(0x4000);
    let space = space();
    space
        .map(&map(0x10000, 0x2000, Protection::READ_WRITE, &fd, 0x1000))
        .unwrap();
    let view = space.view();
    view.write(0x10008, b"from the device").unwrap();
    let file = File::from(fd);
    let mut seen = [0; 15];
    file.read_exact_at(&mut seen, 0x1008).unwrap();
    assert_eq!(&seen, b"from the device");
    file.write_all_at(&0x1234_5678_9abc_def0_u64.to_ne_bytes(), 0x1100)
        .unwrap();
    let window = view.window(0x10100, 16, Access::Read).unwrap();
    let (memory, offset) = window.memory();
    assert_eq!(memory.load_u64(offset), Ok(0x1234_5678_9abc_def0));
    memory.store_u32(offset, 7).unwrap();
    memory.store_u64(offset + 8, u64::MAX).unwrap();
    assert_eq!(memory.fetch_add_u64(offset + 8, 3), Ok(u64::MAX));
    assert_eq!(read(&view, 0x10100), Ok(7_u32.to_ne_bytes()));
    assert_eq!(read(&view, 0x10108), Ok(2_u64.to_ne_bytes()));
    assert!(memory.load_u32(offset + 2).is_err());
    assert!(memory.store_u64(offset + 4, 0).is_err());
    assert!(memory.fetch_add_u64(offset + 4, 0).is_err());
}

#[test]
fn accesses_outside_and_against_the_protection_fault() {
    let fd = memory(0x4000);
    let space = space();
    space
        .map(&map(0x1000, 0x1000, Protection::READ, &fd, 0))
        .unwrap();
    space
        .map(&map(0x2000, 0x1000, Protection::WRITE, &fd, 0x1000))
        .unwrap();
    let apart = DmaMap {
        iova: 0x3000,
        size: 0x1000,
        protection: Protection::READ_WRITE,
        memory: None,
    };
    space.map(&apart).unwrap();
    let view = space.view();
    let mut four = [0; 4];
    let forbidden = |iova, access| Err(DmaFault::Forbidden { iova, access });
    assert_eq!(
        view.read(0xffe, &mut four),
        Err(DmaFault::Unmapped { iova: 0xffe })
    );
    assert_eq!(
        view.read(0x1ffe, &mut four),
        forbidden(0x2000, Access::Read)
    );
    assert_eq!(view.write(0x1000, &four), forbidden(0x1000, Access::Write));
    assert_eq!(
        view.write(0x2ffe, &four),
        Err(DmaFault::NotShared { iova: 0x3000 })
    );
    assert_eq!(
        view.read(0x4000, &mut four),
        Err(DmaFault::Unmapped { iova: 0x4000 })
    );
    assert_eq!(
        view.read(u64::MAX, &mut four),
        Err(DmaFault::Unmapped { iova: u64::MAX })
    );
    view.read(0x1000, &mut []).unwrap();
}

#[test]
fn accesses_go_over_adjacent_mappings_piece_by_piece() {
    let (low, high) = (memory(0x1000), memory(0x1000));
    let space = space();
    space
        .map(&map(0x2000, 0x1000, Protection::READ_WRITE, &high, 0))
        .unwrap();
    space
        .map(&map(0x1000, 0x1000, Protection::READ_WRITE, &low, 0))
        .unwrap();
    let view = space.view();
    view.write(0x1ffc, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert_eq!(read(&view, 0x1ffc), Ok([1, 2, 3, 4, 5, 6, 7, 8]));
    let mut there = [0; 4];
    File::from(high.try_clone().unwrap())
        .read_exact_at(&mut there, 0)
        .unwrap();
    assert_eq!(there, [5, 6, 7, 8]);
    let lengths: Vec<u64> = view
        .windows(0x1800, 0x1000, Access::Read)
        .map(|window| window.unwrap().len())
        .collect();
    assert_eq!(lengths, [0x800, 0x800]);
    // A write that would fault at its end writes nothing.
    assert!(view.write(0x2ffc, &[9; 8]).is_err());
    assert_eq!(read(&view, 0x2ffc), Ok([0; 4]));
}

#[test]
fn the_last_page_of_the_address_space_is_like_any_other() {
    let fd = memory(0x1000);
    let space = space();
    let last = u64::MAX - 0xfff;
    space
        .map(&map(last, 0x1000, Protection::READ_WRITE, &fd, 0))
        .unwrap();
    let view = space.view();
    view.write(last, &[7; 0x1000]).unwrap();
    assert_eq!(read(&view, u64::MAX - 7), Ok([7; 8]));
    assert!(view.write(last + 1, &[7; 0x1000]).is_err());
    drop(view);
    space.unmap(last, 0x1000).unwrap().wait(soon()).unwrap();
}

#[test]
fn overlaps_and_ranges_not_mapped_as_such_are_refused() {
    let fd = memory(0x4000);
    let space = space();
    space
        .map(&map(0x2000, 0x2000, Protection::READ, &fd, 0))
        .unwrap();
    for (iova, size) in [(0x2000, 0x1000), (0x3000, 0x2000), (0x1000, 0x4000)] {
        let error = space
            .map(&map(iova, size, Protection::READ, &fd, 0))
            .unwrap_err();
        assert_eq!(error.errno(), Errno::EEXIST);
    }
    for (iova, size) in [(0x2000, 0x1000), (0x3000, 0x1000), (0, 0x10000)] {
        assert_eq!(space.unmap(iova, size).unwrap_err().errno(), Errno::ENOENT);
    }
    for (iova, size) in [(0x8000, 0), (u64::MAX, 2)] {
        assert_eq!(space.unmap(iova, size).unwrap_err().errno(), Errno::EINVAL);
    }
    space.unmap(0x2000, 0x2000).unwrap().wait(soon()).unwrap();
}

#[test]
fn descriptors_that_could_kill_the_process_are_refused() {
    let too_short = memory(0x1000);
    let space = space();
    let error = space
        .map(&map(0, 0x2000, Protection::READ, &too_short, 0))
        .unwrap_err();
    let expected = MapError::TooShort {
        found: 0x1000,
        needed: 0x2000,
    };
    assert_eq!(
        error,
        DmaError::Memory {
            iova: 0,
            source: expected
        }
    );
    // A file can be cut at any time.
    let file: OwnedFd = tempfile::tempfile().unwrap().into();
    nix::unistd::ftruncate(&file, 0x1000).unwrap();
    let unsealable = memfd_create(c"unsealable", MFdFlags::MFD_CLOEXEC).unwrap();
    nix::unistd::ftruncate(&unsealable, 0x1000).unwrap();
    for fd in [&file, &unsealable] {
        let error = space
            .map(&map(0, 0x1000, Protection::READ, fd, 0))
            .unwrap_err();
        assert_eq!(
            error,
            DmaError::Memory {
                iova: 0,
                source: MapError::Shrinkable
            }
        );
    }
    // Not memory at all.
    let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(
        space
            .map(&map(0, 0x1000, Protection::READ, &socket.into(), 0))
            .is_err()
    );
    let fine = memory(0x1000);
    space
        .map(&map(0, 0x1000, Protection::READ, &fine, 0))
        .unwrap();
    let seals = SealFlag::from_bits_truncate(fcntl(&fine, FcntlArg::F_GET_SEALS).unwrap());
    assert!(seals.contains(SealFlag::F_SEAL_SHRINK));
    assert_eq!(nix::unistd::ftruncate(&fine, 0), Err(Errno::EPERM));
}

#[test]
fn entries_of_a_ring_are_read_and_written_whole_and_none_beyond_its_end() {
    let (_fd, space) = page(Protection::READ_WRITE);
    let view = space.view();
    let held = |iova| view.window(iova, 8, Access::Write).unwrap().hold();
    let ring = Places::<2>::new(held(0x100), 4).unwrap();
    assert_eq!(ring.len(), 4);
    assert_eq!(ring.store(3, [7, u64::MAX]), Some(()));
    assert_eq!(read(&view, 0x130), Ok([7, 0, 0, 0, 0, 0, 0, 0]));
    view.write(0x128, &[9]).unwrap();
    ring.prefetch(2);
    assert_eq!(ring.load(2), Some([0, 9]));
    assert_eq!(ring.load(3), Some([7, u64::MAX]));
    assert_eq!((ring.load(4), ring.store(4, [1, 1])), (None, None));
    assert_eq!(
        read(&view, 0x140),
        Ok([0; 16]),
        "what lies behind is not the ring's"
    );
}

#[test]
fn a_ring_is_refused_where_it_does_not_lie_in_one_mapping_or_not_on_words() {
    let (_fd, space) = page(Protection::READ_WRITE);
    let view = space.view();
    let ring = |iova, count| {
        let held = view.window(iova, 1, Access::Read).unwrap().hold();
        Places::<8>::new(held, count).map(|ring| ring.len())
    };
    assert_eq!(ring(0xF00, 4), Ok(4));
    assert!(ring(0xF00, 5).is_err());
    assert!(ring(0xF00, usize::MAX).is_err());
    assert!(ring(0xF04, 1).is_err());
}

#[test]
fn memory_to_read_takes_no_entry() {
    let (_fd, space) = page(Protection::READ);
    let view = space.view();
    let held = view.window(0, 16, Access::Read).unwrap().hold();
    let ring = Places::<2>::new(held, 1).unwrap();
    assert_eq!(ring.load(0), Some([0, 0]));
    assert_eq!(ring.store(0, [1, 1]), None);
}

#[test]
fn a_ring_keeps_its_memory_mapped() {
    let (fd, space) = page(Protection::READ_WRITE);
    let inode = inode(&fd);
    let mut view = space.view();
    let held = view.window(0, 16, Access::Write).unwrap().hold();
    let ring = Places::<2>::new(held, 1).unwrap();
    let unmapping = space.unmap(0, 0x1000).unwrap();
    view.refresh();
    assert_eq!(unmapping.wait(Instant::now()), Err(DmaError::InUse));
    assert_eq!(ring.store(0, [1, 2]), Some(()));
    drop(ring);
    unmapping.wait(soon()).unwrap();
    assert!(!is_mapped(inode));
}

#[test]
fn an_unmap_waits_until_every_view_and_whoever_holds_the_memory_have_let_go() {
    let (fd, space) = page(Protection::READ_WRITE);
    let inode = inode(&fd);
    let (mut first, mut second) = (space.view(), space.view());
    let unmapping = space.unmap(0, 0x1000).unwrap();
    let in_use = |wait: Duration| unmapping.wait(Instant::now() + wait) == Err(DmaError::InUse);
    assert!(in_use(Duration::from_millis(10)));
    // Until then the old memory is still there.
    first.write(0, &[1]).unwrap();
    assert!(first.refresh());
    assert!(!first.refresh());
    assert_eq!(first.write(0, &[1]), Err(DmaFault::Unmapped { iova: 0 }));
    assert!(in_use(Duration::from_millis(10)) && is_mapped(inode));
    let held = second.window(8, 8, Access::Write).unwrap().hold();
    second.refresh();
    assert!(in_use(Duration::from_millis(10)) && is_mapped(inode));
    let (memory, offset) = held.memory();
    memory.store_u64(offset, 5).unwrap();
    drop(held);
    unmapping.wait(soon()).unwrap();
    assert!(!is_mapped(inode));
    let mut seen = [0; 8];
    File::from(fd).read_exact_at(&mut seen, 8).unwrap();
    assert_eq!(seen, 5_u64.to_ne_bytes());
}

#[test]
fn everything_is_let_go_of_at_once_when_the_client_is_gone() {
    let fd = memory(0x4000);
    let space = space();
    for page in 0..4 {
        space
            .map(&map(page << 20, 0x1000, Protection::READ, &fd, page << 12))
            .unwrap();
    }
    let mut view = space.view();
    let unmapping = space.clear();
    view.refresh();
    unmapping.wait(soon()).unwrap();
    assert!(!is_mapped(inode(&fd)));
    assert!(read::<1>(&view, 0).is_err());
}

#[test]
fn an_engine_thread_works_on_while_memory_comes_and_goes() {
    let (steady, passing) = (memory(0x1000), memory(0x1000));
    let space = space();
    space
        .map(&map(0, 0x1000, Protection::READ_WRITE, &steady, 0))
        .unwrap();
    let mut view = space.view();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let engine = scope.spawn(|| {
            let mut counted = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                view.refresh();
                view.write(0, &counted.to_ne_bytes()).unwrap();
                assert_eq!(read(&view, 0), Ok(counted.to_ne_bytes()));
                // It may be mapped or not, but it is never half there.
                if view.write(0x10000, &[1; 4]).is_ok() {
                    view.write(0x10ffc, &[1; 4]).unwrap();
                }
                counted += 1;
            }
        });
        for _ in 0..500 {
            space
                .map(&map(0x10000, 0x1000, Protection::READ_WRITE, &passing, 0))
                .unwrap();
            space.unmap(0x10000, 0x1000).unwrap().wait(soon()).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        engine.join().unwrap();
    });
    assert!(!is_mapped(inode(&passing)));
}

#[test]
fn memory_of_ones_own_has_a_fixed_size_and_keeps_its_bounds() {
    let (fd, memory) = SharedMemory::create(c"bar", 0x2000).unwrap();
    assert_eq!(nix::unistd::ftruncate(&fd, 0x4000), Err(Errno::EPERM));
    memory.store_u32(0x1ffc, 5).unwrap();
    let other = SharedMemory::map(fd.as_fd(), 0x1000, 0x1000, false).unwrap();
    assert_eq!((other.len(), other.load_u32(0xffc)), (0x1000, Ok(5)));
    assert!(other.write(0, &[1]).is_err() && other.store_u32(0, 1).is_err());
    let mut two = [0; 2];
    for offset in [0x1fff, 0x2000, u64::MAX] {
        assert!(memory.read(offset, &mut two).is_err() && memory.write(offset, &two).is_err());
        assert!(memory.load_u32(offset & !3).is_err() || offset == 0x1fff);
    }
    for (offset, len) in [(0, 0), (u64::MAX, 2), (i64::MAX as u64, 1), (1, 0x1000)] {
        assert!(SharedMemory::map(fd.as_fd(), offset, len, false).is_err());
    }
    assert!(SharedMemory::create(c"nothing", 0).is_err());
}

#[test]
fn memory_is_copied_within_its_bounds_and_may_overlap_itself() {
    let (_, memory) = SharedMemory::create(c"one", 0x1000).unwrap();
    let (fd, other) = SharedMemory::create(c"other", 0x1000).unwrap();
    let read_only = SharedMemory::map(fd.as_fd(), 0, 0x1000, false).unwrap();
    for stores in [Stores::Cached, Stores::Streaming] {
        memory.write(0, b"abcdef").unwrap();
        other.write(0xff8, &[0; 8]).unwrap();
        SharedMemory::copy((&memory, 0), (&memory, 2), 6, stores).unwrap();
        SharedMemory::copy((&memory, 0), (&other, 0xff8), 8, stores).unwrap();
        let mut seen = [0; 8];
        read_only.read(0xff8, &mut seen).unwrap();
        assert_eq!(&seen, b"ababcdef");
        for (from, to) in [
            ((&memory, 0xff9), (&other, 0)),
            ((&memory, 0), (&other, 0xff9)),
            ((&memory, 0), (&other, u64::MAX)),
            ((&memory, 0), (&read_only, 0)),
        ] {
            assert!(SharedMemory::copy(from, to, 8, stores).is_err());
        }
        other.read(0, &mut seen).unwrap();
        assert_eq!(seen, [0; 8]);
    }
}
