//! Many chips in one space, deep queues, many queues of many threads.

mod driver_support;

use auk_driver::{Command, DmaSpace, OpenOptions, QueueOptions};
use auk_sim::{Chip, ChipProfile};
use driver_support::*;

#[test]
fn eight_chips_share_a_space_and_what_is_mapped_is_mapped_for_each() {
    let space = DmaSpace::new();
    let chips: Vec<Chip> = (1..=8)
        .map(|serial| {
            Chip::new(ChipProfile {
                serial,
                ..profile()
            })
            .unwrap()
        })
        .collect();
    let options = OpenOptions::default().space(&space);
    let devices: Vec<Opened> = chips
        .iter()
        .map(|chip| try_open(chip, &options).unwrap())
        .collect();
    let shared = space.alloc(4096).unwrap();
    shared.write(0, b"from chip to chip").unwrap();
    for device in &devices {
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        let local = device.alloc(4096).unwrap();
        queue
            .run(&Command::copy(&local, &shared, 4096), SOON)
            .unwrap();
        shared.zero();
        queue
            .run(&Command::copy(&shared, &local, 4096), SOON)
            .unwrap();
        assert_eq!(shared.to_vec(0, 17).unwrap(), b"from chip to chip");
    }
    let usage = space.usage();
    assert_eq!(
        (usage.mappings, usage.mapped),
        (8, 2 << 20),
        "one arena, in each chip"
    );
    drop(devices);
    assert_eq!(space.usage().mappings, 0);
    for chip in &chips {
        assert_strict(chip);
    }
}

#[test]
fn thirty_two_queues_of_as_many_threads_complete_all_of_their_own() {
    let chip = chip();
    let device = open(&chip);
    let local = device.alloc(32 * 4096).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..32_u64 {
            let (device, local) = (&*device, &local);
            scope.spawn(move || {
                let options = QueueOptions::default().depth(32);
                let mut queue = device.create_queue(&options).unwrap();
                let (source, target) = (device.buffer(256).unwrap(), device.buffer(256).unwrap());
                let at = thread * 4096;
                for round in 0..50_u8 {
                    source.write(0, &[thread as u8 ^ round; 256]).unwrap();
                    let there = Command::copy((local, at), &source, 256);
                    let back = Command::copy(&target, (local, at), 256).fenced();
                    let mut tickets = Vec::new();
                    queue.submit_batch(&[there, back], &mut tickets).unwrap();
                    for ticket in tickets {
                        queue.wait(ticket, SOON).unwrap();
                    }
                    assert_eq!(target.to_vec(0, 256).unwrap(), [thread as u8 ^ round; 256]);
                }
                assert_eq!((queue.strays(), queue.in_flight()), (0, 0));
            });
        }
    });
    assert_strict(&chip);
}

#[test]
fn a_queue_of_any_depth_holds_and_completes_as_many_commands() {
    let chip = chip();
    let device = open(&chip);
    for log2 in 1..=12 {
        let depth = 1 << log2;
        let options = QueueOptions::default().depth(depth);
        let mut queue = device.create_queue(&options).unwrap();
        // More than once around the rings.
        for _ in 0..3 {
            let commands = vec![Command::nop(); depth as usize];
            let mut tickets = Vec::new();
            queue.submit_batch(&commands, &mut tickets).unwrap();
            assert!(queue.submit(&Command::nop()).is_err(), "it is full");
            for ticket in tickets {
                queue.wait(ticket, SOON).unwrap();
            }
        }
        assert_eq!((queue.in_flight(), queue.strays()), (0, 0));
    }
    assert_strict(&chip);
}
