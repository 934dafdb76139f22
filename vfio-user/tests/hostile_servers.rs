//! A client and servers that do not keep to the rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use auk_vfio_user::Errno;
use auk_vfio_user::client::{Client, ClientMap, DmaHandler, Error, Options, RegionOp};
use auk_vfio_user::model::{IrqAction, Protection};
use common::raw::*;
use common::*;
use proptest::prelude::*;

const CAPS: &str = "{\"capabilities\":{\"max_msg_fds\":8}}\0";

/// A server that does what `script` says, in a thread of its own.
fn server(script: impl FnOnce(&mut Raw) + Send + 'static) -> (UnixStream, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (
        ours,
        std::thread::spawn(move || script(&mut Raw::new(theirs))),
    )
}

/// The same, after it has agreed on a version.
fn agreed(script: impl FnOnce(&mut Raw) + Send + 'static) -> (Client, JoinHandle<()>) {
    agreed_with(CAPS, script)
}

fn agreed_with(
    caps: &'static str,
    script: impl FnOnce(&mut Raw) + Send + 'static,
) -> (Client, JoinHandle<()>) {
    let (stream, thread) = server(move |raw| {
        let request = raw.receive().unwrap();
        raw.send(&message(request.id, VERSION, REPLY, &version(0, 1, caps)));
        script(raw);
    });
    (
        Client::from_fd(stream.into(), Options::default(), soon()).unwrap(),
        thread,
    )
}

/// What becomes of a call that is answered with `answer`.
fn answered<T>(
    answer: impl FnOnce(&mut Raw, Received) + Send + 'static,
    call: impl FnOnce(&Client) -> Result<T, Error>,
) -> Result<T, Error> {
    let (client, thread) = agreed(|raw| {
        let request = raw.receive().unwrap();
        answer(raw, request);
    });
    let result = call(&client);
    drop(client);
    thread.join().unwrap();
    result
}

/// What becomes of a call that is answered with a well-formed reply with this payload.
fn answered_with<T>(
    payload: Vec<u8>,
    call: impl FnOnce(&Client) -> Result<T, Error>,
) -> Result<T, Error> {
    answered(
        move |raw, request| raw.send(&message(request.id, request.command, REPLY, &payload)),
        call,
    )
}

fn is_violation<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Protocol { .. })), "{result:?}");
}

fn read4(client: &Client) -> Result<[u8; 4], Error> {
    let mut data = [0; 4];
    client
        .region_read(0, 0x10, &mut data, soon())
        .map(|()| data)
}

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
