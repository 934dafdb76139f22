//! Memory of the job's own.

#![allow(
    unsafe_code,
    reason = "to register memory is unsafe; here nothing reads or writes it on the other side"
)]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::super::{DmaBuffer, RegisterError};
use super::*;

const PAGE: usize = 4096;

/// Whole pages on the heap.
struct Pages {
    bytes: Box<[u8]>,
    start: usize,
    pages: usize,
    dropped: Arc<AtomicBool>,
}

impl Pages {
    fn new(pages: usize) -> Self {
        let bytes = vec![0; (pages + 1) * PAGE].into_boxed_slice();
        Self {
            start: bytes.as_ptr().align_offset(PAGE),
            bytes,
            pages,
            dropped: Arc::default(),
        }
    }

    fn address(&mut self) -> NonNull<u8> {
        NonNull::from(&mut self.bytes[self.start])
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

/// All of the pages, with them as their owner.
fn register(space: &DmaSpace, mut pages: Pages) -> Result<DmaBuffer, DmaError> {
    let (start, bytes) = (pages.address(), pages.pages * PAGE);
    // SAFETY: the pages stay where they are until they are dropped, and nobody looks at them but by the buffer.
    unsafe { space.register(start, bytes, pages) }
}

/// Part of what somebody else keeps.
fn register_part(
    space: &DmaSpace,
    start: NonNull<u8>,
    bytes: usize,
) -> Result<DmaBuffer, DmaError> {
    // SAFETY: the callers keep the memory longer than the buffer, or are refused.
    unsafe { space.register(start, bytes, ()) }
}

fn register_file(
    space: &DmaSpace,
    file: impl AsFd,
    offset: u64,
    length: u64,
) -> Result<DmaBuffer, DmaError> {
    let file: BorrowedFd<'_> = file.as_fd();
    // SAFETY: nobody has the file mapped elsewhere.
    unsafe { space.register_file(file, offset, length) }
}

fn reason(refused: Result<DmaBuffer, DmaError>) -> RegisterError {
    match refused {
        Err(DmaError::Register { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

fn memfd(bytes: u64, seals: SealFlag) -> File {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let file = File::from(memfd_create("job", flags).unwrap());
    file.set_len(bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

fn attached() -> (DmaSpace, Arc<Target>) {
    let (space, target) = (DmaSpace::new(), Target::new(&[ALL]));
    space.attach(target.clone(), u64::MAX).unwrap();
    (space, target)
}

#[test]
fn what_the_job_has_is_mapped_as_it_is_and_only_as_long_as_somebody_uses_it() {
    let (space, target) = attached();
    let mut pages = Pages::new(3);
    pages.bytes.fill(7);
    let (address, dropped) = (
        pages.address().as_ptr() as usize,
        Arc::clone(&pages.dropped),
    );
    let buffer = register(&space, pages).unwrap();
    assert_eq!(buffer.words().as_ptr() as usize, address);
    assert_eq!(buffer.to_vec(0, 3 * PAGE).unwrap(), vec![7; 3 * PAGE]);
    assert_eq!(
        target.mapped.lock().unwrap()[&buffer.iova()],
        3 * PAGE as u64
    );
    assert_eq!(
        (space.usage().registered, space.usage().used),
        (3 * PAGE as u64, 0)
    );
    assert!(buffer.has_own_pages());

    // As a command in flight does.
    let held = buffer.clone();
    drop(buffer);
    assert!(!dropped.load(Ordering::Relaxed));
    assert_eq!(target.count(), 1);
    drop(held);
    assert!(dropped.load(Ordering::Relaxed));
    assert_eq!((target.count(), space.usage().registered), (0, 0));
}

#[test]
fn what_the_job_has_is_where_an_iommu_can_use_large_pages_and_takes_no_address_for_ever() {
    let (space, _target) = attached();
    let before = space.usage();
    for _ in 0..3 {
        let buffer = register(&space, Pages::new(600)).unwrap();
        let address = buffer.words().as_ptr() as u64;
        assert_eq!(buffer.iova() % ARENA, address % ARENA);
        drop(buffer);
        assert_eq!(space.usage(), before);
    }
}

#[test]
fn a_function_that_comes_later_gets_registered_memory_too() {
    let space = DmaSpace::new();
    let buffer = register(&space, Pages::new(1)).unwrap();
    let target = Target::new(&[ALL]);
    space.attach(target.clone(), u64::MAX).unwrap();
    assert_eq!(target.count(), 1);
    drop(buffer);
    assert_eq!(target.count(), 0);
}

#[test]
fn memory_that_could_not_be_unmapped_is_never_given_back_to_its_owner() {
    let (space, target) = attached();
    let pages = Pages::new(1);
    let dropped = Arc::clone(&pages.dropped);
    let buffer = register(&space, pages).unwrap();
    target.forgets.store(PAGE as u64, Ordering::Relaxed);
    drop(buffer);
    assert_eq!(space.usage().leaked, PAGE as u64);
    drop(space);
    assert!(!dropped.load(Ordering::Relaxed));
}

#[test]
fn when_nobody_is_left_to_ask_only_memory_that_others_use_too_is_given_up() {
    let (space, target) = attached();
    let own = space.alloc(PAGE).unwrap();
    let file = memfd(PAGE as u64, SealFlag::F_SEAL_SHRINK);
    let registered = register_file(&space, &file, 0, PAGE as u64).unwrap();
    target.gone.store(true, Ordering::Relaxed);
    drop((own, registered));
    space.trim();
    assert_eq!(space.usage().leaked, PAGE as u64);
}

#[test]
fn what_is_no_whole_pages_of_this_process_is_refused_with_the_reason() {
    let (space, target) = attached();
    let mut pages = Pages::new(2);
    let start = pages.address();
    let beside = start.map_addr(|address| address.checked_add(64).unwrap());
    let unaligned = reason(register_part(&space, beside, PAGE));
    assert!(matches!(
        unaligned,
        RegisterError::Unaligned {
            what: "address",
            ..
        }
    ));
    let cut = reason(register_part(&space, start, PAGE + 1));
    assert!(matches!(
        cut,
        RegisterError::Unaligned { what: "length", .. }
    ));
    let empty = reason(register_part(&space, start, 0));
    assert!(matches!(empty, RegisterError::Length));
    let endless = reason(register_part(&space, start, usize::MAX - PAGE + 1));
    assert!(matches!(endless, RegisterError::Length));
    let far = NonNull::without_provenance((usize::MAX - PAGE + 1).try_into().unwrap());
    let wraps = reason(register_part(&space, far, 2 * PAGE));
    assert!(matches!(wraps, RegisterError::Length));
    let nowhere = NonNull::without_provenance(PAGE.try_into().unwrap());
    let nothing = reason(register_part(&space, nowhere, PAGE));
    assert!(
        matches!(nothing, RegisterError::NotMapped { .. }),
        "{nothing}"
    );
    let constant = memmap2::MmapMut::map_anon(PAGE).unwrap();
    let constant = constant.make_read_only().unwrap();
    let unwritable = reason(register_part(&space, NonNull::from(&constant[0]), PAGE));
    assert!(
        matches!(unwritable, RegisterError::NotMapped { .. }),
        "{unwritable}"
    );
    assert_eq!((target.count(), space.usage().registered), (0, 0));
}

#[test]
fn nothing_is_in_a_space_twice() {
    let (space, target) = attached();
    let mut pages = Pages::new(6);
    let start = pages.address();
    let at = |page: usize| start.map_addr(|address| address.checked_add(page * PAGE).unwrap());
    let middle = register_part(&space, at(2), 2 * PAGE).unwrap();
    for (page, count) in [(0, 6), (2, 1), (3, 3), (1, 2)] {
        let twice = reason(register_part(&space, at(page), count * PAGE));
        assert!(matches!(twice, RegisterError::Overlaps { .. }), "{twice}");
    }
    let beside = [
        register_part(&space, at(0), 2 * PAGE),
        register_part(&space, at(4), 2 * PAGE),
    ];
    assert!(beside.iter().all(Result::is_ok));
    assert_eq!(target.count(), 3);
    drop((middle, beside));

    let own = space.alloc(PAGE).unwrap();
    let own = NonNull::from(&own.words()[0]).cast();
    let twice = reason(register_part(&space, own, PAGE));
    assert!(matches!(twice, RegisterError::Overlaps { .. }), "{twice}");

    let file = memfd(8 * PAGE as u64, SealFlag::F_SEAL_SHRINK);
    let page = PAGE as u64;
    let _buffer = register_file(&space, &file, 2 * page, 2 * page).unwrap();
    let other_name = file.try_clone().unwrap();
    let twice = reason(register_file(&space, &other_name, 3 * page, page));
    assert!(matches!(twice, RegisterError::Overlaps { .. }), "{twice}");
    register_file(&space, &other_name, 4 * page, page).unwrap();
}

#[test]
fn a_file_in_memory_is_mapped_by_its_descriptor_where_the_bus_wants_that() {
    let remote = Arc::new(Target {
        ranges: vec![ALL],
        remote: true,
        ..Target::default()
    });
    let space = DmaSpace::new();
    space.attach(remote.clone(), u64::MAX).unwrap();
    let file = memfd(4 * PAGE as u64, SealFlag::F_SEAL_SHRINK);
    let buffer = register_file(&space, &file, PAGE as u64, 2 * PAGE as u64).unwrap();
    buffer.write(PAGE, b"shared").unwrap();
    let mut found = [0; 6];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 2 * PAGE as u64).unwrap();
    assert_eq!(&found, b"shared");

    let pages = Pages::new(1);
    let dropped = Arc::clone(&pages.dropped);
    let refused = register(&space, pages).unwrap_err();
    assert!(refused.to_string().contains("register_file"), "{refused}");
    assert!(dropped.load(Ordering::Relaxed));
    assert_eq!(remote.count(), 1);
}

#[test]
fn a_file_that_may_shrink_or_is_too_short_or_no_memory_is_refused_with_the_reason() {
    let (space, _target) = attached();
    let page = PAGE as u64;
    let sealed = memfd(4 * page, SealFlag::F_SEAL_SHRINK);
    let short = reason(register_file(&space, &sealed, 3 * page, 2 * page));
    assert!(
        matches!(short, RegisterError::TooShort { size } if size == 4 * page),
        "{short}"
    );
    let beside = reason(register_file(&space, &sealed, 100, page));
    assert!(matches!(
        beside,
        RegisterError::Unaligned { what: "offset", .. }
    ));
    let endless = reason(register_file(&space, &sealed, u64::MAX - page + 1, page));
    assert!(matches!(endless, RegisterError::Length), "{endless}");
    let empty = reason(register_file(&space, &sealed, 0, 0));
    assert!(matches!(empty, RegisterError::Length));

    let open = memfd(4 * page, SealFlag::F_SEAL_GROW);
    let may_shrink = reason(register_file(&space, &open, 0, page));
    assert!(
        matches!(may_shrink, RegisterError::MayShrink),
        "{may_shrink}"
    );
    assert!(may_shrink.to_string().contains("F_SEAL_SHRINK"));
    let null = File::open("/dev/null").unwrap();
    assert!(matches!(
        reason(register_file(&space, &null, 0, page)),
        RegisterError::MayShrink
    ));

    let constant = memfd(4 * page, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_WRITE);
    let unwritable = reason(register_file(&space, &constant, 0, page));
    assert!(
        matches!(unwritable, RegisterError::Descriptor { .. }),
        "{unwritable}"
    );
}

#[test]
fn tens_of_thousands_of_mappings_end_in_a_clear_error_and_come_back() {
    const BUDGET: usize = 20_000;
    let target = Arc::new(Target {
        ranges: vec![ALL],
        budget: BUDGET as u64,
        ..Target::default()
    });
    let space = DmaSpace::new();
    space.attach(target.clone(), u64::MAX).unwrap();
    let mut pages = Pages::new(2 * BUDGET + 1);
    let start = pages.address();
    let at = |page: usize| start.map_addr(|address| address.checked_add(page * PAGE).unwrap());
    // Every other page, so that nothing lies beside something else.
    let mut buffers: Vec<_> = (0..BUDGET)
        .map(|nth| register_part(&space, at(2 * nth), PAGE).unwrap())
        .collect();
    let usage = space.usage();
    assert_eq!(
        (usage.mappings, usage.mappings_left),
        (BUDGET as u64, Some(0))
    );
    let spent = register_part(&space, at(2 * BUDGET), PAGE).unwrap_err();
    assert!(
        matches!(spent, DmaError::NoMappings { made } if made == BUDGET as u64),
        "{spent}"
    );
    // Holes everywhere, then none.
    let mut odd = false;
    buffers.retain(|_| {
        odd = !odd;
        odd
    });
    assert_eq!(space.usage().mappings_left, Some(BUDGET as u64 / 2));
    drop(buffers);
    assert_eq!((target.count(), space.usage().free_iova_pieces), (0, 1));
}
