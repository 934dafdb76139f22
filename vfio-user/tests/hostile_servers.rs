//! A client and servers that do not keep to the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use auk_vfio_user::Errno;
use auk_vfio_user::client::{Client, ClientMap, DmaHandler, Error, Options};
use auk_vfio_user::model::Protection;
use common::raw::*;
use common::script::*;
use common::*;

#[test]
fn a_server_of_another_version_is_refused() {
    for (payload, fine) in [
        (version(0, 0, "\0"), true),
        (version(0, 1, ""), true),
        (version(0, 2, CAPS), false),
        (version(1, 0, CAPS), false),
        (version(0, 1, "{}"), false),
        (version(0, 1, "{\"capabilities\":7}\0"), false),
        (vec![0, 0], false),
    ] {
        let (stream, thread) = server(move |raw| {
            let request = raw.receive().unwrap();
            assert_eq!((request.command, request.flags), (VERSION, 0));
            raw.send(&message(request.id, VERSION, REPLY, &payload));
        });
        let result = Client::from_fd(stream.into(), Options::default(), soon());
        thread.join().unwrap();
        match result {
            Ok(_) => assert!(fine),
            Err(error) => assert!(!fine && matches!(error, Error::Protocol { .. }), "{error}"),
        }
    }
}

#[test]
fn a_server_that_closes_or_is_busy_or_refuses_is_told_apart() {
    let (stream, thread) = server(|_| {});
    let result = Client::from_fd(stream.into(), Options::default(), soon());
    assert!(
        matches!(result, Err(Error::Disconnected { .. })),
        "{result:?}"
    );
    thread.join().unwrap();
    for (errno, in_use) in [(16, true), (93, false), (0, false)] {
        let (stream, thread) = server(move |raw| {
            let request = raw.receive().unwrap();
            raw.send(&header(request.id, VERSION, 16, REPLY | ERROR, errno));
        });
        let result = Client::from_fd(stream.into(), Options::default(), soon());
        assert_eq!(matches!(result, Err(Error::InUse)), in_use, "{result:?}");
        assert_eq!(
            matches!(result, Err(Error::Refused { .. })),
            !in_use,
            "{result:?}"
        );
        thread.join().unwrap();
    }
}

#[test]
fn what_is_not_a_unix_stream_socket_is_refused() {
    let result = Client::from_fd(memory(4096), Options::default(), soon());
    assert!(matches!(result, Err(Error::NotASocket(_))), "{result:?}");
}

#[test]
fn an_error_reply_carries_its_number_and_leaves_the_connection_usable() {
    let (client, thread) = agreed(|raw| {
        for errno in [1, 0, 123_456, u32::MAX] {
            let request = raw.receive().unwrap();
            raw.send(&header(
                request.id,
                request.command,
                16,
                REPLY | ERROR,
                errno,
            ));
        }
        let request = raw.receive().unwrap();
        raw.send(&message(request.id, RESET, REPLY, &[]));
    });
    for expected in [
        Errno::EPERM,
        Errno::UnknownErrno,
        Errno::UnknownErrno,
        Errno::UnknownErrno,
    ] {
        match client.reset(soon()) {
            Err(Error::Refused { errno, .. }) => assert_eq!(errno, expected),
            other => panic!("{other:?}"),
        }
    }
    client.reset(soon()).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_connection_is_poisoned_by_a_timeout_and_says_so() {
    let (client, thread) = agreed(|raw| assert!(raw.closes()));
    let result = client.reset(Instant::now() + Duration::from_millis(30));
    assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    for _ in 0..2 {
        let result = read4(&client);
        assert!(matches!(result, Err(Error::Poisoned { .. })), "{result:?}");
    }
    // The server has noticed, too.
    thread.join().unwrap();
}

#[test]
fn a_reply_that_trickles_in_does_not_extend_the_deadline() {
    let (client, thread) = agreed(|raw| {
        let request = raw.receive().unwrap();
        raw.send(&header(request.id, RESET, 60_000, REPLY, 0));
        while raw.0.write_all(&[0]).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let result = client.reset(Instant::now() + Duration::from_millis(60));
    assert!(matches!(result, Err(Error::TimedOut { .. })), "{result:?}");
    thread.join().unwrap();
}

#[test]
fn a_thread_that_does_not_get_its_turn_gives_up_and_harms_nobody() {
    let (release, wait) = std::sync::mpsc::channel();
    let (client, thread) = agreed(move |raw| {
        let request = raw.receive().unwrap();
        wait.recv().unwrap();
        raw.send(&message(request.id, RESET, REPLY, &[]));
    });
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| client.reset(soon()));
        // Until the slow call has its turn, the server does not answer this one in time either way.
        std::thread::sleep(Duration::from_millis(50));
        let result = client.irq_info(0, Instant::now() + Duration::from_millis(30));
        assert!(matches!(result, Err(Error::Contended { .. })), "{result:?}");
        release.send(()).unwrap();
        slow.join().unwrap().unwrap();
    });
    thread.join().unwrap();
}

#[test]
fn replies_to_other_questions_are_violations() {
    let reset = |client: &Client| client.reset(soon());
    is_violation(answered(
        |raw, request| raw.send(&message(request.id ^ 1, RESET, REPLY, &[])),
        reset,
    ));
    is_violation(answered(
        |raw, request| raw.send(&message(request.id, DMA_MAP, REPLY, &[])),
        reset,
    ));
    is_violation(answered(
        |raw, request| raw.send(&message(request.id, RESET, 2, &[])),
        reset,
    ));
    for size in [0, 15, 1 << 25, u32::MAX] {
        is_violation(answered(
            move |raw, request| raw.send(&header(request.id, RESET, size, REPLY, 0)),
            reset,
        ));
    }
    let (client, thread) = agreed(|raw| raw.send(&message(0, RESET, REPLY, &[])));
    // Noticed now, or already when it came along with the reply before.
    let result = client.serve_requests(soon());
    let noticed = matches!(result, Err(Error::Protocol { .. } | Error::Poisoned { .. }));
    assert!(noticed, "{result:?}");
    thread.join().unwrap();
}

#[test]
fn replies_cut_short_by_the_servers_death_are_told_as_such() {
    let result = answered(
        |raw, request| {
            raw.send(
                &message(
                    request.id,
                    REGION_READ,
                    REPLY,
                    &region_access(0x10, 0, 4, &[0; 4]),
                )[..30],
            );
        },
        read4,
    );
    assert!(
        matches!(result, Err(Error::Disconnected { .. })),
        "{result:?}"
    );
}

#[test]
fn eventfds_go_one_at_a_time_to_a_server_that_takes_no_more() {
    use nix::sys::eventfd::EventFd;
    use std::os::fd::AsFd;
    for caps in ["{\"capabilities\":{\"max_msg_fds\":1}}\0", "{}\0", ""] {
        let (client, thread) = agreed_with(caps, |raw| {
            for vector in 0..33 {
                let request = raw.receive().unwrap();
                assert_eq!(request.payload, words(&[20, 4 | 32, 2, vector, 1]));
                raw.send(&message(request.id, SET_IRQS, REPLY, &[]));
            }
        });
        let eventfd = EventFd::new().unwrap();
        client
            .set_irq_eventfds(2, 0, &[eventfd.as_fd(); 33], soon())
            .unwrap();
        thread.join().unwrap();
    }
    let (client, thread) = agreed_with("{\"capabilities\":{\"max_msg_fds\":0}}\0", |_| {});
    let eventfd = EventFd::new().unwrap();
    let result = client.set_irq_eventfds(2, 0, &[eventfd.as_fd()], soon());
    assert!(matches!(result, Err(Error::Invalid { .. })), "{result:?}");
    let memory = Some((eventfd.as_fd(), 0));
    let map = ClientMap {
        iova: 0,
        size: 4096,
        protection: Protection::READ,
        memory,
    };
    assert!(matches!(
        client.dma_map(&map, soon()),
        Err(Error::Invalid { .. })
    ));
    thread.join().unwrap();
}

/// Memory of 256 bytes, each its own address.
struct Memory;

impl DmaHandler for Memory {
    fn read(&mut self, address: u64, data: &mut [u8]) -> Result<(), Errno> {
        for (byte, address) in data.iter_mut().zip(address..) {
            *byte = u8::try_from(address).map_err(|_| Errno::EFAULT)?;
        }
        Ok(())
    }

    fn write(&mut self, address: u64, data: &[u8]) -> Result<(), Errno> {
        if address + data.len() as u64 <= 256 {
            Ok(())
        } else {
            Err(Errno::EFAULT)
        }
    }
}

#[test]
fn requests_of_a_server_that_make_no_sense_are_refused() {
    let (stream, thread) = server(|raw| {
        let request = raw.receive().unwrap();
        raw.send(&message(request.id, VERSION, REPLY, &version(0, 1, CAPS)));
        assert_eq!(
            raw.ask(DMA_READ, &longs(&[3, 2])).payload,
            [longs(&[3, 2]), vec![3, 4]].concat()
        );
        assert_eq!(
            raw.ask(DMA_WRITE, &[longs(&[3, 2]), vec![0; 2]].concat())
                .payload,
            longs(&[3, 2])
        );
        for (command, payload, error) in [
            (DMA_READ, longs(&[255, 2]), Errno::EFAULT),
            (DMA_READ, longs(&[3]), Errno::EINVAL),
            (DMA_READ, longs(&[3, 0]), Errno::EINVAL),
            (DMA_READ, longs(&[3, 1001]), Errno::EINVAL),
            (DMA_READ, longs(&[3, u64::MAX]), Errno::EINVAL),
            (DMA_READ, longs(&[u64::MAX, 2]), Errno::EINVAL),
            (DMA_READ, longs(&[3, 2, 0]), Errno::EINVAL),
            (
                DMA_WRITE,
                [longs(&[3, 2]), vec![0; 3]].concat(),
                Errno::EINVAL,
            ),
            (
                DMA_WRITE,
                [longs(&[3, u64::MAX]), vec![0; 3]].concat(),
                Errno::EINVAL,
            ),
            (
                DMA_WRITE,
                [longs(&[255, 2]), vec![0; 2]].concat(),
                Errno::EFAULT,
            ),
            (DMA_MAP, vec![0; 32], Errno::EOPNOTSUPP),
            (RESET, vec![], Errno::EOPNOTSUPP),
            (99, vec![], Errno::EOPNOTSUPP),
        ] {
            assert_eq!(
                raw.error(command, &payload),
                error as i32,
                "{command} {payload:?}"
            );
        }
        // Without reply wanted, none comes.
        raw.send(&message(1, DMA_READ, NO_REPLY, &longs(&[0, 1])));
        raw.send(&message(1, DMA_READ, NO_REPLY, &longs(&[0, 0])));
        assert_eq!(raw.error(DMA_READ, &longs(&[0, 1])), 0);
    });
    let options = Options {
        max_data_xfer_size: 1000,
        handler: Some(Box::new(Memory)),
    };
    let client = Client::from_fd(stream.into(), options, soon()).unwrap();
    while client.serve_requests(soon()).is_ok() {}
    thread.join().unwrap();
}

#[test]
fn requests_that_come_along_with_a_reply_are_answered() {
    let request = |id| message(id, DMA_READ, 0, &longs(&[7, 1]));
    let (stream, thread) = server(move |raw| {
        let first = raw.receive().unwrap();
        let reply = message(first.id, VERSION, REPLY, &version(0, 1, CAPS));
        raw.send(&[reply, request(1)].concat());
        assert_eq!(raw.receive().unwrap().payload[16..], [7]);
        let second = raw.receive().unwrap();
        let reply = message(second.id, RESET, REPLY, &[]);
        raw.send(&[request(2), reply, request(3), request(4)].concat());
        for id in [2, 3, 4] {
            assert_eq!(raw.receive().unwrap().id, id);
        }
    });
    let options = Options {
        handler: Some(Box::new(Memory)),
        ..Options::default()
    };
    let client = Client::from_fd(stream.into(), options, soon()).unwrap();
    client.reset(soon()).unwrap();
    thread.join().unwrap();
}
