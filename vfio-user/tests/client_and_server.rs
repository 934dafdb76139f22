//! Client and server of this crate, against each other over a socket pair.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod common;

use std::os::fd::AsFd;
use std::time::Duration;

use auk_vfio_user::Errno;
use auk_vfio_user::client::{self, Client, ClientMap, Error, RegionOp};
use auk_vfio_user::model::IrqAction;
use auk_vfio_user::pci::{BAR0_REGION, CONFIG_REGION, MSIX_IRQ, NUM_IRQS, NUM_REGIONS};
use auk_vfio_user::server::{Ended, Options};
use common::*;
use nix::sys::eventfd::{EfdFlags, EventFd};

#[test]
fn a_client_learns_what_the_device_has() {
    let (_served, client) = served();
    let info = client.device_info(soon()).unwrap();
    assert_eq!(
        (info.regions, info.irqs, info.resettable, info.pci),
        (NUM_REGIONS, NUM_IRQS, true, true)
    );
    let bar0 = client.region_info(BAR0_REGION, soon()).unwrap();
    assert_eq!(
        (bar0.size, bar0.readable, bar0.writable),
        (BAR0_SIZE, true, true)
    );
    let mmap = bar0.mmap.unwrap();
    assert_eq!(mmap.areas, [MAPPABLE]);
    assert_eq!(
        nix::sys::stat::fstat(&mmap.fd).unwrap().st_size as u64,
        BAR0_SIZE
    );
    let config = client.region_info(CONFIG_REGION, soon()).unwrap();
    assert!(config.mmap.is_none() && !config.writable);
    assert_eq!(client.region_info(1, soon()).unwrap().size, 0);
    assert_eq!(
        refused(client.region_info(NUM_REGIONS, soon())),
        Errno::EINVAL
    );
    assert_eq!(client.irq_info(MSIX_IRQ, soon()).unwrap().count, VECTORS);
    assert_eq!(client.irq_info(0, soon()).unwrap().count, 0);
    assert_eq!(refused(client.irq_info(NUM_IRQS, soon())), Errno::EINVAL);
}

#[test]
fn registers_keep_what_is_written() {
    let (_served, client) = served();
    client
        .region_write(BAR0_REGION, 0x100, &[1, 2, 3, 4], soon())
        .unwrap();
    let mut read = [0; 6];
    client
        .region_read(BAR0_REGION, 0xff, &mut read, soon())
        .unwrap();
    assert_eq!(read, [0xff, 1, 2, 3, 4, 0x04]);
}

#[test]
fn accesses_that_leave_a_region_or_that_it_forbids_are_refused() {
    let (_served, client) = served();
    let mut four = [0; 4];
    for offset in [BAR0_SIZE - 3, BAR0_SIZE, u64::MAX - 4] {
        assert_eq!(
            refused(client.region_read(BAR0_REGION, offset, &mut four, soon())),
            Errno::EINVAL
        );
        assert_eq!(
            refused(client.region_write(BAR0_REGION, offset, &four, soon())),
            Errno::EINVAL
        );
    }
    assert_eq!(
        refused(client.region_read(NUM_REGIONS, 0, &mut four, soon())),
        Errno::EINVAL
    );
    assert_eq!(
        refused(client.region_write(CONFIG_REGION, 0, &four, soon())),
        Errno::EACCES
    );
    let forbidden = client.region_write(BAR0_REGION, FORBIDDEN_REGISTER, &four, soon());
    assert_eq!(refused(forbidden), Errno::EPERM);
    let wraps = client.region_read(BAR0_REGION, u64::MAX, &mut four, soon());
    assert!(matches!(wraps, Err(Error::Invalid { .. })), "{wraps:?}");
    client
        .region_read(BAR0_REGION, 0, &mut four, soon())
        .unwrap();
}

#[test]
fn transfers_beyond_the_limit_are_made_in_pieces() {
    let (_served, stream) = Served::start(Options {
        max_data_xfer_size: 100,
        ..Options::default()
    });
    let client = Client::from_fd(stream.into(), client::Options::default(), soon()).unwrap();
    assert_eq!(client.server_capabilities().max_data_xfer_size, 100);
    let data: Vec<u8> = (0..1234).map(|byte| (byte % 251) as u8).collect();
    client
        .region_write(BAR0_REGION, 0x1000, &data, soon())
        .unwrap();
    let mut read = vec![0; data.len()];
    client
        .region_read(BAR0_REGION, 0x1000, &mut read, soon())
        .unwrap();
    assert_eq!(read, data);
    let mut too_long = vec![0; 101];
    let op = RegionOp::Read {
        region: BAR0_REGION,
        offset: 0,
        data: &mut too_long,
    };
    assert!(matches!(
        client.region_batch(&mut [op], soon()),
        Err(Error::Invalid { .. })
    ));
}

#[test]
fn a_whole_region_goes_through_in_one_message() {
    let (_served, client) = served();
    let data: Vec<u8> = (0..BAR0_SIZE - 0x100)
        .map(|byte| (byte % 253) as u8)
        .collect();
    client
        .region_write(BAR0_REGION, 0x100, &data, soon())
        .unwrap();
    let mut read = vec![0; data.len()];
    client
        .region_read(BAR0_REGION, 0x100, &mut read, soon())
        .unwrap();
    assert!(read == data);
}

#[test]
fn posted_writes_take_effect_before_what_follows() {
    let (served, client) = served();
    for value in 0..100_u8 {
        client
            .region_write_posted(BAR0_REGION, 0x200, &[value], soon())
            .unwrap();
    }
    // An error is not heard of, and breaks nothing.
    client
        .region_write_posted(BAR0_REGION, FORBIDDEN_REGISTER, &[0], soon())
        .unwrap();
    let mut read = [0];
    client
        .region_read(BAR0_REGION, 0x200, &mut read, soon())
        .unwrap();
    assert_eq!(read, [99]);
    let values: Vec<u8> = served
        .seen()
        .writes
        .iter()
        .map(|(_, data)| data[0])
        .collect();
    assert_eq!(values, (0..100).collect::<Vec<_>>());
}

#[test]
fn pipelined_accesses_are_made_in_order_and_answered_each() {
    let (served, client) = served();
    let mut read = [[0_u8; 600]; 300];
    let values: Vec<u8> = (0..=255).collect();
    let mut ops = Vec::new();
    for (index, data) in read.iter_mut().enumerate() {
        let value = &values[index % 256..][..1];
        ops.push(RegionOp::Write {
            region: BAR0_REGION,
            offset: 0x300,
            data: value,
        });
        ops.push(RegionOp::Read {
            region: BAR0_REGION,
            offset: 0x300,
            data,
        });
    }
    let mut rest = [0; 4];
    ops.insert(
        7,
        RegionOp::Write {
            region: BAR0_REGION,
            offset: FORBIDDEN_REGISTER,
            data: &[0],
        },
    );
    ops.push(RegionOp::Read {
        region: BAR0_REGION,
        offset: BAR0_SIZE,
        data: &mut rest,
    });
    let results = client.region_batch(&mut ops, soon()).unwrap();
    for (index, result) in results.iter().enumerate() {
        let expected = match index {
            7 => Err(Errno::EPERM),
            601 => Err(Errno::EINVAL),
            _ => Ok(()),
        };
        assert_eq!(*result, expected, "access {index}");
    }
    for (index, data) in read.iter().enumerate() {
        assert_eq!(usize::from(data[0]), index % 256);
    }
    assert_eq!(served.seen().writes.len(), 300);
}

#[test]
fn many_threads_share_a_client() {
    let (_served, client) = served();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..100_u64 {
                    let offset = 0x400 + 8 * thread;
                    let value = (thread << 32 | round).to_ne_bytes();
                    client
                        .region_write(BAR0_REGION, offset, &value, soon())
                        .unwrap();
                    let mut read = [0; 8];
                    client
                        .region_read(BAR0_REGION, offset, &mut read, soon())
                        .unwrap();
                    assert_eq!(read, value);
                }
            });
        }
    });
}

#[test]
fn memory_is_mapped_and_unmapped_with_and_without_descriptor() {
    let (served, client) = served();
    let fd = memory(0x4000);
    let shared = ClientMap {
        memory: Some((fd.as_fd(), 0x1000)),
        ..map(0x10000, 0x3000)
    };
    client.dma_map(&shared, soon()).unwrap();
    client.dma_map(&map(0x20000, 0x1000), soon()).unwrap();
    assert_eq!(served.seen().maps.len(), 2);
    assert_eq!(served.seen().maps[&0x10000], (0x3000, true));
    assert_eq!(
        refused(client.dma_map(&map(0x12000, 0x1000), soon())),
        Errno::EEXIST
    );
    assert_eq!(
        refused(client.dma_map(&map(0x30001, 0x1000), soon())),
        Errno::EINVAL
    );
    assert_eq!(
        refused(client.dma_unmap(0x10000, 0x1000, soon())),
        Errno::EINVAL
    );
    client.dma_unmap(0x10000, 0x3000, soon()).unwrap();
    assert_eq!(served.seen().maps.len(), 1);
    // As QEMU does, for ranges never mapped.
    client.dma_unmap(0x10000, 0x3000, soon()).unwrap();
    client.dma_unmap(0, 1 << 63, soon()).unwrap();
    client.dma_unmap(1 << 63, 1 << 63, soon()).unwrap();
    assert!(served.seen().maps.is_empty());
    client.dma_map(&map(0, 0x1000), soon()).unwrap();
    client.dma_unmap_all(soon()).unwrap();
    assert!(served.seen().maps.is_empty());
}

#[test]
fn the_number_of_mappings_is_limited_as_agreed() {
    let (_served, stream) = Served::start(Options {
        max_dma_maps: 2,
        ..Options::default()
    });
    let client = Client::from_fd(stream.into(), client::Options::default(), soon()).unwrap();
    assert_eq!(client.server_capabilities().max_dma_maps, 2);
    client.dma_map(&map(0, 0x1000), soon()).unwrap();
    client.dma_map(&map(0x1000, 0x1000), soon()).unwrap();
    assert_eq!(
        refused(client.dma_map(&map(0x2000, 0x1000), soon())),
        Errno::ENOSPC
    );
    client.dma_unmap(0, 0x1000, soon()).unwrap();
    client.dma_map(&map(0x2000, 0x1000), soon()).unwrap();
}

#[test]
fn eventfds_reach_the_device_in_as_many_messages_as_needed() {
    let (served, client) = served();
    let eventfds: Vec<_> = (0..VECTORS)
        .map(|_| EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap())
        .collect();
    let borrowed: Vec<_> = eventfds.iter().map(AsFd::as_fd).collect();
    client
        .set_irq_eventfds(MSIX_IRQ, 0, &borrowed, soon())
        .unwrap();
    let counts: Vec<u32> = served.seen().irq_calls.iter().map(|call| call.1).collect();
    assert_eq!(counts, [16, 16, 1]);
    for (vector, eventfd) in &served.seen().eventfds {
        nix::unistd::write(eventfd, &u64::from(vector + 1).to_ne_bytes()).unwrap();
    }
    for (vector, eventfd) in eventfds.iter().enumerate() {
        assert_eq!(eventfd.read().unwrap(), vector as u64 + 1);
    }
}

#[test]
fn interrupts_are_acted_upon_as_asked() {
    let (served, client) = served();
    client
        .act_on_irqs(MSIX_IRQ, 1, 2, IrqAction::Mask, soon())
        .unwrap();
    client
        .act_on_chosen_irqs(
            MSIX_IRQ,
            30,
            &[true, false, true],
            IrqAction::Unmask,
            soon(),
        )
        .unwrap();
    client
        .take_irq_eventfds(MSIX_IRQ, 0, VECTORS, soon())
        .unwrap();
    client.disable_irqs(MSIX_IRQ, soon()).unwrap();
    let expected = [
        (1, 2, IrqAction::Mask, "none".to_owned()),
        (30, 3, IrqAction::Unmask, "[true, false, true]".to_owned()),
        (0, VECTORS, IrqAction::Trigger, "deassign".to_owned()),
        (0, 0, IrqAction::Trigger, "none".to_owned()),
    ];
    assert_eq!(served.seen().irq_calls, expected);
    let beyond = client.act_on_irqs(MSIX_IRQ, 32, 2, IrqAction::Mask, soon());
    assert_eq!(refused(beyond), Errno::EINVAL);
    let eventfd = EventFd::new().unwrap();
    assert_eq!(
        refused(client.set_irq_eventfds(0, 0, &[eventfd.as_fd()], soon())),
        Errno::EINVAL
    );
    let nothing = client.act_on_irqs(MSIX_IRQ, 0, 0, IrqAction::Trigger, soon());
    assert!(matches!(nothing, Err(Error::Invalid { .. })));
}

#[test]
fn the_device_is_reset() {
    let (served, client) = served();
    client.reset(soon()).unwrap();
    assert_eq!(served.seen().resets, 1);
}

#[test]
fn a_client_that_goes_takes_its_mappings_along() {
    let (served, client) = served();
    client.dma_map(&map(0, 0x1000), soon()).unwrap();
    drop(client);
    let seen = served.seen.clone();
    assert_eq!(served.ended().unwrap(), Ended::Disconnected);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.clients, seen.gone, seen.maps.len()), (1, 1, 0));
}

#[test]
fn a_server_is_stopped_from_another_thread_idle_or_busy() {
    for busy in [false, true] {
        let (served, client) = served();
        let stop = served.stop.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut four = [0; 4];
                while busy
                    && client
                        .region_read(BAR0_REGION, 0, &mut four, soon())
                        .is_ok()
                {}
            });
            std::thread::sleep(Duration::from_millis(50));
            stop.stop();
        });
        assert_eq!(served.ended().unwrap(), Ended::Stopped);
        let gone = client.device_info(soon());
        assert!(matches!(gone, Err(Error::Disconnected { .. })), "{gone:?}");
    }
}

#[test]
fn calls_after_the_server_has_gone_say_so() {
    let (served, client) = served();
    served.stop.stop();
    served.ended().unwrap();
    for _ in 0..2 {
        assert!(matches!(
            client.reset(soon()),
            Err(Error::Disconnected { .. })
        ));
    }
    assert!(matches!(
        client.serve_requests(soon()),
        Err(Error::Disconnected { .. })
    ));
}
