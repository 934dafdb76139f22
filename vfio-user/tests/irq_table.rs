//! Eventfds behind vectors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use auk_vfio_user::Errno;
use auk_vfio_user::irq::IrqTable;
use auk_vfio_user::model::{IrqAction, IrqData, IrqInfo, IrqSet};
use common::memory;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};

const INFO: IrqInfo = IrqInfo {
    count: 4,
    eventfd: true,
    maskable: true,
    automasked: false,
    noresize: false,
};

fn eventfd() -> EventFd {
    EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap()
}

fn copy(eventfd: &EventFd) -> OwnedFd {
    eventfd.as_fd().try_clone_to_owned().unwrap()
}

fn set(
    table: &IrqTable,
    start: u32,
    count: u32,
    action: IrqAction,
    data: IrqData,
) -> Result<(), Errno> {
    table.set(IrqSet {
        index: 0,
        start,
        count,
        action,
        data,
    })
}

/// A table whose vectors all have eventfds.
fn enabled(info: IrqInfo) -> (IrqTable, Vec<EventFd>) {
    let table = IrqTable::new(info);
    let eventfds: Vec<_> = (0..info.count).map(|_| eventfd()).collect();
    let data = IrqData::Eventfds(eventfds.iter().map(copy).collect());
    set(&table, 0, info.count, IrqAction::Trigger, data).unwrap();
    (table, eventfds)
}

fn signals(eventfds: &[EventFd]) -> Vec<u64> {
    eventfds
        .iter()
        .map(|eventfd| eventfd.read().unwrap_or(0))
        .collect()
}

#[test]
fn a_vector_signals_its_own_eventfd() {
    let (table, eventfds) = enabled(INFO);
    assert!(table.fire(2) && table.fire(2) && table.fire(0));
    assert!(!table.fire(4));
    assert_eq!(signals(&eventfds), [1, 0, 2, 0]);
}

#[test]
fn a_masked_vector_is_pending_until_it_is_unmasked() {
    let (table, eventfds) = enabled(INFO);
    set(&table, 1, 2, IrqAction::Mask, IrqData::None).unwrap();
    assert!(table.fire(1) && table.fire(1) && table.fire(0));
    assert!(table.is_pending(1) && !table.is_pending(2));
    assert_eq!(signals(&eventfds), [1, 0, 0, 0]);
    set(
        &table,
        0,
        4,
        IrqAction::Unmask,
        IrqData::Bools(vec![true, true, false, false]),
    )
    .unwrap();
    assert!(!table.is_pending(1));
    assert_eq!(signals(&eventfds), [0, 1, 0, 0]);
    table.fire(2);
    assert_eq!(signals(&eventfds), [0, 0, 0, 0]);
}

#[test]
fn an_automasked_vector_masks_itself() {
    let (table, eventfds) = enabled(IrqInfo {
        automasked: true,
        ..INFO
    });
    table.fire(0);
    table.fire(0);
    assert_eq!(signals(&eventfds), [1, 0, 0, 0]);
    set(&table, 0, 1, IrqAction::Unmask, IrqData::None).unwrap();
    assert_eq!(signals(&eventfds), [1, 0, 0, 0]);
}

#[test]
fn a_client_can_fire_vectors_itself() {
    let (table, eventfds) = enabled(INFO);
    set(&table, 1, 2, IrqAction::Trigger, IrqData::None).unwrap();
    set(
        &table,
        2,
        2,
        IrqAction::Trigger,
        IrqData::Bools(vec![true, false]),
    )
    .unwrap();
    assert_eq!(signals(&eventfds), [0, 1, 2, 0]);
}

#[test]
fn eventfds_taken_back_are_closed_and_silent() {
    let (table, eventfds) = enabled(INFO);
    set(&table, 1, 1, IrqAction::Trigger, IrqData::Deassign).unwrap();
    assert!(!table.fire(1) && table.fire(0));
    assert!(!table.is_enabled(1) && table.is_enabled(2));
    set(&table, 0, 0, IrqAction::Trigger, IrqData::None).unwrap();
    assert!((0..4).all(|vector| !table.fire(vector)));
    assert_eq!(signals(&eventfds), [1, 0, 0, 0]);
}

#[test]
fn requests_that_do_not_fit_change_nothing() {
    let (table, eventfds) = enabled(INFO);
    let fds = |count| IrqData::Eventfds((0..count).map(|_| copy(&eventfd())).collect());
    for (start, count, action, data, error) in [
        (0, 5, IrqAction::Mask, IrqData::None, Errno::EINVAL),
        (u32::MAX, 2, IrqAction::Mask, IrqData::None, Errno::EINVAL),
        (
            0,
            2,
            IrqAction::Mask,
            IrqData::Bools(vec![true]),
            Errno::EINVAL,
        ),
        (0, 2, IrqAction::Trigger, fds(1), Errno::EINVAL),
        (0, 1, IrqAction::Unmask, fds(1), Errno::EOPNOTSUPP),
        (0, 1, IrqAction::Mask, IrqData::Deassign, Errno::EOPNOTSUPP),
        (
            0,
            1,
            IrqAction::Trigger,
            IrqData::Eventfds(vec![memory(8)]),
            Errno::EINVAL,
        ),
        (
            0,
            1,
            IrqAction::Trigger,
            IrqData::Eventfds(vec![UnixStream::pair().unwrap().0.into()]),
            Errno::EINVAL,
        ),
    ] {
        assert_eq!(set(&table, start, count, action, data), Err(error));
    }
    assert!((0..4).all(|vector| table.fire(vector)));
    assert_eq!(signals(&eventfds), [1; 4]);
    let fixed = IrqTable::new(IrqInfo {
        maskable: false,
        ..INFO
    });
    assert_eq!(
        set(&fixed, 0, 1, IrqAction::Mask, IrqData::None),
        Err(Errno::EOPNOTSUPP)
    );
}

#[test]
fn an_eventfd_with_a_full_counter_makes_nobody_wait() {
    let table = IrqTable::new(INFO);
    let eventfds = [eventfd(), EventFd::new().unwrap()];
    let data = IrqData::Eventfds(eventfds.iter().map(copy).collect());
    set(&table, 0, 2, IrqAction::Trigger, data).unwrap();
    for eventfd in &eventfds {
        nix::unistd::write(eventfd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    }
    assert!(table.fire(0) && table.fire(1));
    for eventfd in &eventfds {
        assert_eq!(eventfd.read().unwrap(), u64::MAX - 1);
    }
}

#[test]
fn an_eventfd_made_to_wait_after_it_was_handed_over_makes_nobody_wait() {
    let (table, eventfds) = enabled(INFO);
    fcntl(&eventfds[0], FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    nix::unistd::write(&eventfds[0], &(u64::MAX - 1).to_ne_bytes()).unwrap();
    let fired = std::thread::spawn(move || table.fire(0));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fired.is_finished() {
        assert!(Instant::now() < deadline, "fire waits for the client");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(fired.join().unwrap());
    assert_eq!(eventfds[0].read().unwrap(), u64::MAX - 1);
}

#[test]
fn a_reset_forgets_what_is_pending_and_keeps_eventfds_and_masks() {
    let (table, eventfds) = enabled(INFO);
    set(&table, 1, 1, IrqAction::Mask, IrqData::None).unwrap();
    assert!(table.fire(1));
    table.reset();
    assert!(table.is_enabled(1) && !table.is_pending(1));
    assert!(table.fire(1) && table.is_pending(1));
    set(&table, 1, 1, IrqAction::Unmask, IrqData::None).unwrap();
    assert_eq!(signals(&eventfds), [0, 1, 0, 0]);
}
