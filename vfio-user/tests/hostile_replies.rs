//! A client and servers whose replies make no sense.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::fd::AsRawFd;

use auk_vfio_user::client::{Client, Error, RegionOp};
use auk_vfio_user::model::IrqAction;
use common::raw::*;
use common::script::*;
use common::*;
use proptest::prelude::*;

#[test]
fn device_infos_beyond_belief_are_violations() {
    let info = |client: &Client| client.device_info(soon());
    assert!(answered_with(words(&[16, 3, 9, 5]), info).is_ok());
    for payload in [
        words(&[16, 3, 9]),
        words(&[16, 3, u32::MAX, 5]),
        words(&[16, 3, 9, 100_000]),
        vec![],
    ] {
        is_violation(answered_with(payload, info));
    }
    let irq = |client: &Client| client.irq_info(2, soon());
    assert!(answered_with(words(&[16, 1, 2, 33]), irq).is_ok());
    for payload in [
        words(&[16, 1, 2]),
        words(&[16, 1, 1, 33]),
        words(&[16, 1, 2, u32::MAX]),
        vec![],
    ] {
        is_violation(answered_with(payload, irq));
    }
}

#[test]
fn region_infos_beyond_belief_are_violations() {
    let region = |client: &Client| client.region_info(3, soon());
    let info = |argsz: u32, flags, index, size: u64, offset: u64| {
        [words(&[argsz, flags, index, 0]), longs(&[size, offset])].concat()
    };
    assert_eq!(
        answered_with(info(32, 3, 3, 4096, 0), region).unwrap().size,
        4096
    );
    // Some servers pad the reply to what was asked for.
    assert!(answered_with([info(32, 3, 3, 4096, 0), vec![0; 100]].concat(), region).is_ok());
    for payload in [
        vec![],
        info(32, 3, 3, 4096, 0)[..31].to_vec(),
        info(31, 3, 3, 4096, 0),
        info(32, 3, 2, 4096, 0),
        info(32, 7, 3, 4096, u64::MAX),
        info(u32::MAX, 11, 3, 4096, 0),
    ] {
        is_violation(answered_with(payload, region));
    }
    // A server that says MMAP and passes nothing: as if it could not be mapped.
    assert!(
        answered_with(info(32, 7, 3, 4096, 0), region)
            .unwrap()
            .mmap
            .is_none()
    );
    for (flags, fds) in [(3, 1), (7, 2), (7, 17)] {
        let payload = info(32, flags, 3, 4096, 0);
        let result = answered(
            move |raw, request| {
                let fd = memory(4096);
                let fds = vec![fd.as_raw_fd(); fds];
                raw.send_with_fds(&message(request.id, GET_REGION_INFO, REPLY, &payload), &fds);
            },
            region,
        );
        is_violation(result);
    }
}

#[test]
fn region_capabilities_beyond_belief_are_violations() {
    let reply = |cap_offset: u32, caps: &[u8]| {
        let argsz = 32 + caps.len() as u32;
        [
            words(&[argsz, 11, 0, cap_offset]),
            longs(&[0x4000, 0]),
            caps.to_vec(),
        ]
        .concat()
    };
    let sparse = |next: u32, count: u32, areas: &[u64]| {
        [words(&[1 | 1 << 16, next, count, 0]), longs(areas)].concat()
    };
    for (cap_offset, caps, fine) in [
        (32, sparse(0, 1, &[0x1000, 0x1000]), true),
        (32, sparse(0, 2, &[0x1000, 0x1000]), false),
        (32, sparse(0, u32::MAX, &[0x1000, 0x1000]), false),
        (32, sparse(32, 1, &[0x1000, 0x1000]), false),
        (32, sparse(500, 1, &[0x1000, 0x1000]), false),
        (8, sparse(0, 1, &[0x1000, 0x1000]), false),
        (1000, sparse(0, 1, &[0x1000, 0x1000]), false),
        (32, sparse(0, 1, &[0x4000, 0x1000]), false),
        (32, sparse(0, 1, &[u64::MAX, 0x1000]), false),
        (32, sparse(0, 1, &[0x1000, 0]), false),
        (32, vec![1, 0, 1], false),
    ] {
        let payload = reply(cap_offset, &caps);
        let result = answered(
            move |raw, first| {
                let head = &payload[..32];
                raw.send(&message(first.id, GET_REGION_INFO, REPLY, head));
                let second = raw.receive().unwrap();
                assert_eq!(
                    second.payload[..4],
                    payload[..4],
                    "asked again with the room needed"
                );
                raw.send(&message(second.id, GET_REGION_INFO, REPLY, &payload));
            },
            |client| client.region_info(0, soon()),
        );
        if fine {
            drop(result.unwrap());
        } else {
            is_violation(result);
        }
    }
}

#[test]
fn a_descriptor_that_comes_with_the_first_answer_only_is_kept() {
    let caps = [words(&[1 | 1 << 16, 0, 1, 0]), longs(&[0x1000, 0x1000])].concat();
    let payload = [words(&[64, 15, 0, 32]), longs(&[0x4000, 0]), caps].concat();
    let result = answered(
        move |raw, first| {
            let fd = memory(0x4000);
            raw.send_with_fds(
                &message(first.id, GET_REGION_INFO, REPLY, &payload[..32]),
                &[fd.as_raw_fd()],
            );
            let second = raw.receive().unwrap();
            raw.send(&message(second.id, GET_REGION_INFO, REPLY, &payload));
        },
        |client| client.region_info(0, soon()),
    );
    let mmap = result.unwrap().mmap.unwrap();
    assert_eq!((mmap.areas.len(), mmap.areas[0].offset), (1, 0x1000));
}

#[test]
fn region_accesses_answered_with_something_else_are_violations() {
    assert_eq!(
        answered_with(region_access(0x10, 0, 4, &[1, 2, 3, 4]), read4).unwrap(),
        [1, 2, 3, 4]
    );
    for payload in [
        vec![],
        region_access(0x10, 0, 4, &[1, 2, 3]),
        region_access(0x10, 0, 4, &[1, 2, 3, 4, 5]),
        region_access(0x10, 0, 3, &[1, 2, 3]),
        region_access(0x10, 0, 5, &[1, 2, 3, 4, 5]),
        region_access(0x10, 1, 4, &[1, 2, 3, 4]),
        region_access(0x11, 0, 4, &[1, 2, 3, 4]),
    ] {
        is_violation(answered_with(payload, read4));
    }
    let write = |client: &Client| client.region_write(0, 0x10, &[1, 2, 3, 4], soon());
    assert!(answered_with(region_access(0x10, 0, 4, &[]), write).is_ok());
    for payload in [
        vec![],
        region_access(0x10, 0, 3, &[]),
        region_access(0x10, 0, 4, &[0]),
    ] {
        is_violation(answered_with(payload, write));
    }
}

#[test]
fn an_unmap_answered_for_another_range_is_a_violation() {
    let unmap = |client: &Client| client.dma_unmap(0x1000, 0x2000, soon());
    assert!(answered_with(vec![], unmap).is_ok());
    assert!(answered_with(dma_unmap(24, 0, 0x1000, 0x2000), unmap).is_ok());
    for payload in [
        dma_unmap(24, 0, 0x1000, 0x1000),
        dma_unmap(24, 0, 0, 0x2000),
        vec![0; 8],
    ] {
        is_violation(answered_with(payload, unmap));
    }
}

#[test]
fn descriptors_where_none_belong_are_violations() {
    for call in [
        |client: &Client| client.reset(soon()),
        |client: &Client| client.dma_unmap(0x1000, 0x2000, soon()),
        |client: &Client| client.act_on_irqs(2, 0, 1, IrqAction::Mask, soon()),
    ] {
        let result = answered(
            |raw, request| {
                let fd = memory(4096);
                raw.send_with_fds(
                    &message(request.id, request.command, REPLY, &[]),
                    &[fd.as_raw_fd()],
                );
            },
            call,
        );
        is_violation(result);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_bytes_a_server_sends_the_client_gets_an_answer_or_an_error(
        call in 0_usize..7,
        right_header: bool,
        flags in prop_oneof![Just(1_u32), Just(0x21), 0_u32..64],
        payload in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(16), Just(0xff), any::<u8>()], 0..100),
    ) {
        let result = answered(
            move |raw, request| {
                if right_header {
                    raw.send(&message(request.id, request.command, flags, &payload));
                } else {
                    raw.send(&payload);
                }
            },
            move |client| {
                let mut data = [0; 4];
                match call {
                    0 => client.device_info(soon()).map(drop),
                    1 => client.region_info(0, soon()).map(drop),
                    2 => client.irq_info(0, soon()).map(drop),
                    3 => client.region_read(0, 0, &mut data, soon()),
                    4 => client.dma_unmap(0, 4096, soon()),
                    5 => client.reset(soon()),
                    _ => {
                        let op = RegionOp::Read { region: 0, offset: 0, data: &mut data };
                        client.region_batch(&mut [op], soon()).map(drop)
                    }
                }
            },
        );
        let timed_out = matches!(result, Err(Error::TimedOut { .. }));
        prop_assert!(!timed_out);
    }
}
