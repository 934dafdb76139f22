//! Memory of the host's as chips see it: small buffers, and memory that the job had already.
#![allow(clippy::unwrap_used, reason = "a helper that panics fails its test")]
#![allow(
    unsafe_code,
    reason = "to register memory is unsafe; the tests look at it between commands only"
)]

mod driver_support;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use auk_driver::bus::BusError;
use auk_driver::device::{Context, ContextOptions};
use auk_driver::dma::{DmaError, RegisterError};
use auk_driver::{Command, DmaBuffer, DmaSpace, Error, QueueOptions};
use driver_support::*;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A file in memory as `register_file` wants it.
fn sealed(bytes: u64) -> File {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let file = File::from(memfd_create("job", flags).unwrap());
    file.set_len(bytes).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    file
}

fn register(space: &DmaSpace, file: &File, offset: u64, length: u64) -> DmaBuffer {
    // SAFETY: the file is not mapped elsewhere, and is read and written as a file between commands only.
    unsafe { space.register_file(file.as_fd(), offset, length) }.unwrap()
}

#[test]
fn a_chip_copies_to_and_from_memory_that_the_job_had_already() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let local = device.alloc(3 * 4096).unwrap();
    let file = sealed(8 * 4096);
    let data: Vec<u8> = (0..3 * 4096).map(|at| (at % 251) as u8).collect();
    file.write_all_at(&data, 4096).unwrap();

    let source = register(device.space(), &file, 4096, 3 * 4096);
    queue
        .run(&Command::copy(&local, &source, source.len() as u64), SOON)
        .unwrap();
    drop(source);
    let target = register(device.space(), &file, 4 * 4096, 4 * 4096);
    queue
        .run(&Command::copy((&target, 100), (&local, 7), 9000), SOON)
        .unwrap();
    let mut found = vec![0; 9200];
    file.read_exact_at(&mut found, 4 * 4096).unwrap();
    assert_eq!(found[100..9100], data[7..9007]);
    assert!(
        found[..100]
            .iter()
            .chain(&found[9100..])
            .all(|byte| *byte == 0)
    );
    drop(target);
    assert_eq!(device.space().usage().registered, 0);
    assert_strict(&chip);
}

#[test]
fn registered_memory_stays_while_a_command_has_it_whatever_becomes_of_its_handle() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let file = sealed(2 * 4096);
    let semaphore = register(device.space(), &file, 4096, 4096);
    let waits = queue.submit(&Command::wait(&semaphore, 5, 9_000)).unwrap();
    drop(semaphore);
    assert_eq!(device.space().usage().registered, 4096);
    // Nobody may have it again meanwhile.
    // SAFETY: it is refused.
    let twice = unsafe { device.space().register_file(file.as_fd(), 4096, 4096) };
    assert!(matches!(
        twice,
        Err(DmaError::Register {
            source: RegisterError::Overlaps { .. },
            ..
        })
    ));
    file.write_all_at(&5_u64.to_le_bytes(), 4096).unwrap();
    assert_eq!(queue.wait(waits, SOON).unwrap(), 5);
    assert_eq!(device.space().usage().registered, 0);
}

#[test]
fn memory_by_address_is_refused_for_a_simulated_chip_and_given_back_at_once() {
    struct Owner(Arc<AtomicBool>);
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let chip = chip();
    let device = open(&chip);
    let memory = vec![0_u8; 2 * 4096];
    let start = NonNull::from(&memory[memory.as_ptr().align_offset(4096)]);
    let dropped = Arc::new(AtomicBool::new(false));
    // SAFETY: the memory outlives this test's space, and nobody uses it.
    let refused = unsafe {
        device
            .space()
            .register(start, 4096, Owner(Arc::clone(&dropped)))
    };
    assert!(matches!(
        refused,
        Err(DmaError::Bus {
            source: BusError::NoDescriptor,
            ..
        })
    ));
    assert!(dropped.load(Ordering::Relaxed));
}

#[test]
fn many_small_buffers_are_operands_like_any_other() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let local = device.alloc(64 * 1024).unwrap();
    let before = device.space().usage();
    let buffers: Vec<_> = (0..512_u64)
        .map(|nth| {
            let buffer = device.buffer(100).unwrap();
            buffer.write(0, &[nth as u8; 100]).unwrap();
            buffer
        })
        .collect();
    let after = device.space().usage();
    assert_eq!(
        (after.used - before.used, after.mapped),
        (512 * 128, before.mapped)
    );
    for (buffer, at) in buffers.iter().zip((0..).step_by(128)) {
        queue
            .run(&Command::copy((&local, at), buffer, 100), SOON)
            .unwrap();
        queue
            .run(&Command::fill(buffer, u64::MAX, 100), SOON)
            .unwrap();
    }
    for (nth, buffer) in (0_u64..).zip(&buffers) {
        assert_eq!(buffer.to_vec(0, 100).unwrap(), [0xFF; 100], "{nth}");
        queue
            .run(&Command::copy(buffer, (&local, nth * 128), 100), SOON)
            .unwrap();
    }
    for (nth, buffer) in buffers.iter().enumerate() {
        assert_eq!(buffer.to_vec(0, 100).unwrap(), [nth as u8; 100]);
    }
    assert_strict(&chip);
}

#[test]
fn a_context_is_given_no_page_that_others_have_a_part_of() {
    let chip = chip();
    let device = open(&chip);
    let small = device.buffer(100).unwrap();
    let window = |buffer: &DmaBuffer| -> Result<Context, Error> {
        device.create_context(&ContextOptions::default().window(buffer))
    };
    let refused = window(&small).unwrap_err();
    assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    assert!(refused.to_string().contains("4096"), "{refused}");
    window(&device.buffer(4096).unwrap()).unwrap();
}
