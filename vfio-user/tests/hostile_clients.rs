//! A server and clients that do not keep to the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::fd::AsRawFd;

use auk_vfio_user::server::{Options, SessionError};
use common::raw::*;
use common::*;
use nix::libc::{EACCES, EEXIST, EINVAL, ENOTSUP, EPROTONOSUPPORT};
use nix::sys::eventfd::EventFd;

const CAPS: &str = "{\"capabilities\":{\"max_msg_fds\":8}}\0";

/// A server and a client that has not said anything yet.
fn fresh() -> (Served, Raw) {
    fresh_with(Options::default())
}

fn fresh_with(options: Options) -> (Served, Raw) {
    let (served, stream) = Served::start(options);
    (served, Raw::new(stream))
}

/// A server and a client that has agreed on a version.
fn agreed() -> (Served, Raw) {
    let (served, mut raw) = fresh();
    assert_eq!(raw.error(VERSION, &version(0, 1, CAPS)), 0);
    (served, raw)
}

#[test]
fn a_version_is_answered_with_the_lower_minor_and_our_limits() {
    for (proposed, agreed) in [(0, 0), (1, 1), (2, 1), (u16::MAX, 1)] {
        let (_served, mut raw) = fresh();
        let reply = raw.ask(VERSION, &version(0, proposed, CAPS));
        assert_eq!(reply.payload[..4], [0, 0, agreed, 0]);
        assert_eq!(reply.payload.last(), Some(&0));
        let json: serde_json::Value =
            serde_json::from_slice(&reply.payload[4..reply.payload.len() - 1]).unwrap();
        // QEMU accepts no more than these.
        assert_eq!(json["capabilities"]["max_msg_fds"], 16);
        assert_eq!(json["capabilities"]["max_dma_maps"], 65535);
        assert_eq!(json["capabilities"]["pgsizes"], 4096);
        assert_eq!(json["capabilities"]["write_multiple"], false);
    }
}

#[test]
fn a_version_without_capabilities_is_fine() {
    for json in ["", "\0", "{}\0"] {
        let (_served, mut raw) = fresh();
        assert_eq!(raw.error(VERSION, &version(0, 0, json)), 0);
        assert_eq!(raw.error(RESET, &[]), 0);
    }
}

#[test]
fn a_bad_version_is_refused_and_the_client_disconnected() {
    for (payload, error) in [
        (version(1, 0, CAPS), EPROTONOSUPPORT),
        (version(0, 1, "{"), EINVAL),
        (version(0, 1, "{}"), EINVAL),
        (version(0, 1, "nonsense\0"), EINVAL),
        (vec![0, 0, 1], EINVAL),
        (vec![], EINVAL),
    ] {
        let (served, mut raw) = fresh();
        assert_eq!(raw.error(VERSION, &payload), error);
        assert!(raw.closes());
        assert!(matches!(served.ended(), Err(SessionError::Protocol { .. })));
    }
}

#[test]
fn whoever_does_not_begin_with_a_version_is_disconnected() {
    let (served, mut raw) = fresh();
    assert_eq!(raw.error(RESET, &[]), EINVAL);
    assert!(raw.closes());
    assert_eq!(served.seen().resets, 0);
}

#[test]
fn a_second_version_is_refused() {
    let (_served, mut raw) = agreed();
    assert_eq!(raw.error(VERSION, &version(0, 1, CAPS)), EINVAL);
    assert_eq!(raw.error(RESET, &[]), 0);
}

#[test]
fn descriptors_with_a_version_are_refused() {
    let (_served, mut raw) = fresh();
    let fd = memory(4096);
    assert_eq!(
        raw.error_with_fds(VERSION, &version(0, 1, CAPS), &[fd.as_raw_fd()]),
        EINVAL
    );
    assert!(raw.closes());
}

#[test]
fn unknown_and_unsupported_commands_are_refused_and_nothing_else_happens() {
    let (_served, mut raw) = agreed();
    for command in [0, 6, DMA_READ, DMA_WRITE, 14, 15, 16, 17, 18, 19, 0xffff] {
        assert_eq!(raw.error(command, &[0; 40]), ENOTSUP, "command {command}");
    }
    assert_eq!(raw.error(RESET, &[]), 0);
}

#[test]
fn queries_too_short_or_without_room_for_a_reply_are_refused() {
    let (_served, mut raw) = agreed();
    for (command, least) in [(GET_INFO, 16), (GET_REGION_INFO, 32), (GET_IRQ_INFO, 16)] {
        let query = |argsz: u32, len: usize| {
            let mut payload = words(&[argsz, 0, if command == GET_IRQ_INFO { 2 } else { 0 }]);
            payload.resize(len, 0);
            payload
        };
        for len in [12, least - 1] {
            assert_eq!(raw.error(command, &query(least as u32, len)), EINVAL);
        }
        for argsz in [0, least as u32 - 1] {
            assert_eq!(raw.error(command, &query(argsz, least)), EINVAL);
        }
        assert_eq!(raw.error(command, &[]), EINVAL);
        assert_eq!(raw.error(command, &query(least as u32, least)), 0);
        // As from peers who count the header in, or send a longer structure.
        assert_eq!(raw.error(command, &query(least as u32 + 16, least + 8)), 0);
    }
}

#[test]
fn region_info_says_how_much_room_its_capabilities_need() {
    let (_served, mut raw) = agreed();
    let query = |argsz| words(&[argsz, 0, 0, 0, 0, 0, 0, 0]);
    let first = raw.ask(GET_REGION_INFO, &query(32));
    assert_eq!(first.payload.len(), 32);
    let argsz = u32::from_ne_bytes(first.payload[..4].try_into().unwrap());
    assert_eq!(argsz, 32 + 16 + 16);
    assert_eq!(
        raw.ask(GET_REGION_INFO, &query(argsz - 1)).payload.len(),
        32
    );
    assert_eq!(
        raw.ask(GET_REGION_INFO, &query(argsz)).payload.len(),
        argsz as usize
    );
    assert_eq!(
        raw.ask(GET_REGION_INFO, &query(u32::MAX)).payload.len(),
        argsz as usize
    );
}

#[test]
fn region_accesses_must_say_how_long_they_are_and_stay_inside() {
    let (served, mut raw) = agreed();
    for payload in [
        vec![],
        region_access(0, 0, 4, &[])[..15].to_vec(),
        region_access(0, 0, 4, &[0]),
        region_access(0, 0, 0, &[]),
        region_access(0, 0, u32::MAX, &[]),
        region_access(0, 0, (1 << 20) + 1, &[]),
        region_access(BAR0_SIZE - 3, 0, 4, &[]),
        region_access(u64::MAX, 0, 4, &[]),
        region_access(0, 1, 4, &[]),
        region_access(0, u32::MAX, 4, &[]),
    ] {
        assert_eq!(raw.error(REGION_READ, &payload), EINVAL, "{payload:?}");
    }
    for payload in [
        vec![],
        region_access(0, 0, 4, &[0; 3]),
        region_access(0, 0, 4, &[0; 5]),
        region_access(0, 0, u32::MAX, &[0; 4]),
        region_access(0, 0, 0, &[]),
        region_access(BAR0_SIZE - 3, 0, 4, &[0; 4]),
        region_access(u64::MAX - 1, 0, 4, &[0; 4]),
        region_access(0, 9, 4, &[0; 4]),
    ] {
        assert_eq!(raw.error(REGION_WRITE, &payload), EINVAL, "{payload:?}");
    }
    assert_eq!(
        raw.error(REGION_WRITE, &region_access(0, 7, 4, &[0; 4])),
        EACCES
    );
    assert!(served.seen().writes.is_empty());
    assert_eq!(
        raw.ask(REGION_READ, &region_access(2, 0, 2, &[])).payload[16..],
        [2, 3]
    );
}

#[test]
fn dma_maps_must_make_sense() {
    let (served, mut raw) = agreed();
    let fd = memory(0x10000);
    let fd = [fd.as_raw_fd()];
    assert_eq!(
        raw.error_with_fds(DMA_MAP, &dma_map(32, 3, 0, 0x10000, 0x2000), &fd),
        0
    );
    for (payload, error) in [
        (dma_map(32, 3, 0, 0x11000, 0x1000), EEXIST),
        (dma_map(32, 3, 0, 0xf000, 0x2000), EEXIST),
        (dma_map(32, 0, 0, 0x20000, 0x1000), EINVAL),
        (dma_map(32, 4, 0, 0x20000, 0x1000), EINVAL),
        (dma_map(31, 3, 0, 0x20000, 0x1000), EINVAL),
        (dma_map(32, 3, 0, 0x20000, 0), EINVAL),
        (dma_map(32, 3, 0, 0x20000, 0x800), EINVAL),
        (dma_map(32, 3, 0, 0x20800, 0x1000), EINVAL),
        (dma_map(32, 3, 0x800, 0x20000, 0x1000), EINVAL),
        (dma_map(32, 3, u64::MAX - 0xfff, 0x20000, 0x1000), EINVAL),
        (dma_map(32, 3, 0, u64::MAX - 0xfff, 0x2000), EINVAL),
        (dma_map(32, 3, 0, 0x20000, 0x1000)[..31].to_vec(), EINVAL),
        (
            [dma_map(32, 3, 0, 0x20000, 0x1000), vec![0]].concat(),
            EINVAL,
        ),
        (vec![], EINVAL),
    ] {
        assert_eq!(
            raw.error_with_fds(DMA_MAP, &payload, &fd),
            error,
            "{payload:?}"
        );
    }
    let two = [fd[0], fd[0]];
    assert_eq!(
        raw.error_with_fds(DMA_MAP, &dma_map(32, 3, 0, 0x20000, 0x1000), &two),
        EINVAL
    );
    // An offset into nothing.
    assert_eq!(
        raw.error(DMA_MAP, &dma_map(32, 3, 0x1000, 0x20000, 0x1000)),
        EINVAL
    );
    assert_eq!(served.seen().maps.len(), 1);
    // The very last page has no end within 64 bits, and is fine.
    assert_eq!(
        raw.error(DMA_MAP, &dma_map(32, 1, 0, u64::MAX - 0xfff, 0x1000)),
        0
    );
}

#[test]
fn dma_unmaps_must_make_sense() {
    let (served, mut raw) = agreed();
    assert_eq!(raw.error(DMA_MAP, &dma_map(32, 3, 0, 0x10000, 0x2000)), 0);
    for (payload, error) in [
        (dma_unmap(24, 0, 0x10000, 0x1000), EINVAL),
        (dma_unmap(24, 0, 0x11000, 0x1000), EINVAL),
        (dma_unmap(24, 0, 0x10000, 0), EINVAL),
        (dma_unmap(24, 0, 0x10000, u64::MAX), EINVAL),
        (dma_unmap(23, 0, 0x10000, 0x2000), EINVAL),
        (dma_unmap(24, 4, 0x10000, 0x2000), EINVAL),
        (dma_unmap(24, 1, 0x10000, 0x2000), ENOTSUP),
        (dma_unmap(24, 2, 0x10000, 0x2000), EINVAL),
        (dma_unmap(24, 0, 0x10000, 0x2000)[..23].to_vec(), EINVAL),
    ] {
        assert_eq!(raw.error(DMA_UNMAP, &payload), error, "{payload:?}");
    }
    let fd = memory(4096);
    let with_fd = raw.error_with_fds(
        DMA_UNMAP,
        &dma_unmap(24, 0, 0x10000, 0x2000),
        &[fd.as_raw_fd()],
    );
    assert_eq!(with_fd, EINVAL);
    assert_eq!(served.seen().maps.len(), 1);
    let reply = raw.ask(DMA_UNMAP, &dma_unmap(24, 0, 0x10000, 0x2000));
    assert_eq!(reply.payload, dma_unmap(24, 0, 0x10000, 0x2000));
    assert!(served.seen().maps.is_empty());
    assert_eq!(raw.error(DMA_UNMAP, &dma_unmap(24, 2, 0, 0)), 0);
}

#[test]
fn irq_requests_must_make_sense() {
    const NONE: u32 = 1;
    const BOOL: u32 = 2;
    const EVENTFD: u32 = 4;
    const MASK: u32 = 8;
    const UNMASK: u32 = 16;
    const TRIGGER: u32 = 32;
    let (served, mut raw) = agreed();
    let set = |flags, index, start, count| words(&[20, flags, index, start, count]);
    for payload in [
        vec![],
        set(NONE | MASK, 2, 0, 1)[..19].to_vec(),
        words(&[19, NONE | MASK, 2, 0, 1]),
        set(NONE, 2, 0, 1),
        set(MASK, 2, 0, 1),
        set(NONE | BOOL | MASK, 2, 0, 1),
        set(NONE | MASK | UNMASK, 2, 0, 1),
        set(NONE | MASK | 64, 2, 0, 1),
        set(NONE | MASK, 5, 0, 1),
        set(NONE | MASK, u32::MAX, 0, 1),
        set(NONE | MASK, 2, 33, 1),
        set(NONE | MASK, 2, 0, 34),
        set(NONE | MASK, 2, 1, u32::MAX),
        set(NONE | TRIGGER, 2, 1, 0),
        set(BOOL | TRIGGER, 2, 0, 0),
        set(EVENTFD | TRIGGER, 2, 0, 0),
        set(NONE | MASK, 0, 0, 1),
        // Fewer booleans than vectors.
        [set(BOOL | MASK, 2, 0, 3), vec![1, 1]].concat(),
    ] {
        assert_eq!(raw.error(SET_IRQS, &payload), EINVAL, "{payload:?}");
    }
    let eventfd = EventFd::new().unwrap();
    let fd = eventfd.as_raw_fd();
    for (payload, fds) in [
        (set(EVENTFD | TRIGGER, 2, 0, 2), vec![fd]),
        (set(EVENTFD | TRIGGER, 2, 0, 1), vec![fd, fd]),
        (set(EVENTFD | TRIGGER, 2, 32, 2), vec![fd, fd]),
        (set(NONE | TRIGGER, 2, 0, 1), vec![fd]),
        ([set(BOOL | TRIGGER, 2, 0, 1), vec![1]].concat(), vec![fd]),
    ] {
        assert_eq!(
            raw.error_with_fds(SET_IRQS, &payload, &fds),
            EINVAL,
            "{payload:?}"
        );
    }
    assert!(served.seen().irq_calls.is_empty());
    assert_eq!(
        raw.error_with_fds(SET_IRQS, &set(EVENTFD | TRIGGER, 2, 31, 2), &[fd, fd]),
        0
    );
    assert_eq!(raw.error(SET_IRQS, &set(EVENTFD | TRIGGER, 2, 0, 33)), 0);
    assert_eq!(
        raw.error(SET_IRQS, &[set(BOOL | MASK, 2, 0, 2), vec![1, 0]].concat()),
        0
    );
    assert_eq!(served.seen().irq_calls.len(), 3);
}

#[test]
fn descriptors_where_none_belong_are_refused_and_closed() {
    let (served, mut raw) = agreed();
    let fd = memory(4096);
    let before = open_descriptors();
    for command in [
        RESET,
        GET_INFO,
        REGION_READ,
        REGION_WRITE,
        DMA_UNMAP,
        16,
        99,
    ] {
        assert!(raw.error_with_fds(command, &[0; 32], &[fd.as_raw_fd(); 8]) != 0);
    }
    let refused_map = dma_map(32, 3, 0, 1, 1);
    assert_eq!(
        raw.error_with_fds(DMA_MAP, &refused_map, &[fd.as_raw_fd()]),
        EINVAL
    );
    // Other tests of this program come and go meanwhile; hundreds left open would show.
    for _ in 0..300 {
        raw.error_with_fds(RESET, &[], &[fd.as_raw_fd()]);
    }
    assert!(open_descriptors() < before + 200);
    drop(served);
}
