//! A server and clients whose messages are too long, too short, too slow, or carry too many descriptors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::fd::AsRawFd;
use std::time::Duration;

use auk_vfio_user::server::{Ended, Options, SessionError};
use common::raw::*;
use common::*;
use proptest::prelude::*;

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

/// The client does something for which it is disconnected.
fn disconnected(act: impl FnOnce(&mut Raw)) -> SessionError {
    let (served, mut raw) = agreed();
    act(&mut raw);
    assert!(raw.closes());
    served.ended().unwrap_err()
}

#[test]
fn impossible_message_sizes_end_the_connection() {
    for size in [0, 1, 15, 1 << 24, u32::MAX] {
        let error = disconnected(|raw| raw.send(&header(1, RESET, size, 0, 0)));
        assert!(matches!(error, SessionError::Protocol { .. }), "{error}");
    }
}

#[test]
fn unknown_message_types_and_replies_to_nothing_end_the_connection() {
    for flags in [2, 3, 0xf, REPLY, REPLY | ERROR] {
        let error = disconnected(|raw| raw.send(&message(1, DMA_READ, flags, &[])));
        assert!(matches!(error, SessionError::Protocol { .. }), "{error}");
    }
}

#[test]
fn reserved_flag_bits_are_left_to_the_future() {
    let (_served, mut raw) = agreed();
    raw.send(&message(77, RESET, 1 << 6 | 1 << 31, &[]));
    assert_eq!(raw.receive().unwrap().flags, REPLY);
}

#[test]
fn a_message_cut_short_by_the_clients_death_ends_the_session_only() {
    for bytes in [
        &header(1, RESET, 16, 0, 0)[..7],
        &message(1, REGION_WRITE, 0, &[0; 500])[..300],
    ] {
        let (served, mut raw) = agreed();
        raw.send(bytes);
        drop(raw);
        assert_eq!(served.ended().unwrap(), Ended::Disconnected);
    }
}

#[test]
fn a_message_that_never_ends_is_not_waited_for() {
    let patience = Options {
        message_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let (served, mut raw) = fresh_with(patience.clone());
    assert_eq!(raw.error(VERSION, &version(0, 1, CAPS)), 0);
    raw.send(&header(1, REGION_WRITE, 4096, 0, 0));
    assert!(raw.closes());
    assert!(matches!(served.ended(), Err(SessionError::TooSlow { .. })));
    // Nor is one of which a byte comes now and then.
    let (served, mut raw) = fresh_with(patience.clone());
    assert_eq!(raw.error(VERSION, &version(0, 1, CAPS)), 0);
    raw.send(&header(1, REGION_WRITE, 1 << 20, 0, 0));
    while !served_is_over(&served) {
        raw.send(&[0]);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(matches!(served.ended(), Err(SessionError::TooSlow { .. })));
    // Nor a client that says nothing at all.
    let (served, mut raw) = fresh_with(patience);
    assert!(raw.closes());
    assert!(matches!(served.ended(), Err(SessionError::TooSlow { .. })));
}

fn served_is_over(served: &Served) -> bool {
    served.seen().gone > 0
}

#[test]
fn a_client_that_takes_no_replies_is_not_waited_for() {
    let patience = Options {
        message_timeout: Duration::from_millis(50),
        ..Options::default()
    };
    let (served, mut raw) = fresh_with(patience);
    assert_eq!(raw.error(VERSION, &version(0, 1, CAPS)), 0);
    let request = message(1, REGION_READ, 0, &region_access(0, 0, 0x4000, &[]));
    for _ in 0..1000 {
        raw.send(&request);
    }
    assert!(matches!(served.ended(), Err(SessionError::TooSlow { .. })));
}

#[test]
fn more_descriptors_than_agreed_end_the_connection() {
    let fd = memory(4096);
    for count in [17, 60, 253] {
        let fds = vec![fd.as_raw_fd(); count];
        let error = disconnected(|raw| raw.send_with_fds(&message(1, RESET, 0, &[]), &fds));
        assert!(matches!(error, SessionError::Protocol { .. }), "{error}");
    }
}

#[test]
fn descriptors_piled_up_on_one_message_end_the_connection() {
    let fd = memory(4096);
    let error = disconnected(|raw| {
        raw.send(&header(1, SET_IRQS, 16 + 200, 0, 0));
        raw.send_with_fds(&[0], &[fd.as_raw_fd(); 16]);
        raw.send_with_fds(&[0], &[fd.as_raw_fd(); 1]);
    });
    assert!(matches!(error, SessionError::Protocol { .. }), "{error}");
}

#[test]
fn descriptors_belong_to_the_message_they_came_with() {
    let (served, mut raw) = agreed();
    let fd = memory(0x1000);
    let read = message(1, REGION_READ, 0, &region_access(0, 0, 1, &[]));
    let map = |id, address| message(id, DMA_MAP, 0, &dma_map(32, 3, 0, address, 0x1000));
    raw.send(&read);
    raw.send_with_fds(&map(2, 0x1000), &[fd.as_raw_fd()]);
    raw.send(&map(3, 0x2000));
    raw.send_with_fds(&map(4, 0x3000), &[fd.as_raw_fd()]);
    raw.send(&read);
    for id in [1, 2, 3, 4, 1] {
        let reply = raw.receive().unwrap();
        assert_eq!((reply.id, reply.error), (id, 0));
    }
    let with_fd: Vec<bool> = served.seen().maps.values().map(|map| map.1).collect();
    assert_eq!(with_fd, [true, false, true]);
}

#[test]
fn messages_may_come_in_one_piece_or_byte_by_byte() {
    let (_served, mut raw) = agreed();
    let one = message(5, REGION_WRITE, 0, &region_access(0x100, 0, 2, &[8, 9]));
    let posted = message(6, REGION_WRITE, NO_REPLY, &region_access(0x102, 0, 1, &[7]));
    let read = message(7, REGION_READ, 0, &region_access(0x100, 0, 3, &[]));
    let bad_posted = message(
        8,
        REGION_WRITE,
        NO_REPLY,
        &region_access(0x102, 44, 1, &[7]),
    );
    let all = [one, posted, bad_posted, read].concat();
    for step in [all.len(), 1, 7, 33] {
        for piece in all.chunks(step) {
            raw.send(piece);
        }
        assert_eq!(raw.receive().unwrap().id, 5);
        let reply = raw.receive().unwrap();
        assert_eq!((reply.id, &reply.payload[16..]), (7, &[8, 9, 7][..]));
    }
}

#[test]
fn many_requests_at_once_are_answered_in_order() {
    let (_served, mut raw) = agreed();
    let all: Vec<u8> = (0..1000)
        .flat_map(|id| message(id, REGION_READ, 0, &region_access(u64::from(id), 0, 1, &[])))
        .collect();
    let mut sender = raw.0.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut sender, &all).unwrap());
        for id in 0..1000 {
            let reply = raw.receive().unwrap();
            assert_eq!((reply.id, reply.payload[16]), (id, id as u8));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_bytes_a_client_sends_the_server_ends_well(
        messages in prop::collection::vec(
            (0_u16..20, 0_u32..64, prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()], 0..80)),
            0..20,
        ),
        junk in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let (served, mut raw) = agreed();
        // The register that has the device wait for client memory is not for a client that does not answer.
        let harmless = |command: u16, payload: &[u8]| command != REGION_WRITE || payload.first() != Some(&0x10);
        for (command, flags, payload) in &messages {
            if harmless(*command, payload) {
                raw.send(&message(1, *command, *flags & !0xf, payload));
            }
        }
        raw.send(&junk);
        raw.0.shutdown(std::net::Shutdown::Write).unwrap();
        prop_assert!(raw.closes());
        match served.ended() {
            Ok(ended) => prop_assert_eq!(ended, Ended::Disconnected),
            Err(SessionError::Protocol { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}
