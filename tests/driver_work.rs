//! The driver's ordinary life on a simulated chip: open, memory, copies, launches, waiting.

mod driver_support;

use std::time::Duration;

use auk_asic::ident::Model;
use auk_asic::program::Program;
use auk_driver::{Command, Error, QueueOptions};
use auk_sim::{Chip, ChipProfile};
use driver_support::*;

#[test]
fn a_chip_opens_and_says_what_it_is() {
    let chip = chip();
    let device = open(&chip);
    let capabilities = device.capabilities();
    assert_eq!(capabilities.model(), Model::Silicon);
    assert_eq!(capabilities.serial(), chip.serial());
    assert_eq!(capabilities.io_queues(), 32);
    assert_eq!(device.identity().unwrap().serial, chip.serial());
    assert!(device.firmware_version().unwrap().is_some());
    device.check().unwrap();
    drop(device);
    assert_strict(&chip);
}

#[test]
fn a_chip_opens_again_after_it_was_closed() {
    let chip = chip();
    for _ in 0..3 {
        let device = open(&chip);
        let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
        queue.run(&Command::nop(), SOON).unwrap();
    }
    assert_strict(&chip);
}

#[test]
fn what_does_not_fit_its_buffer_is_refused_before_the_chip_sees_it() {
    let chip = chip();
    let device = open(&chip);
    let other = open(
        &Chip::new(ChipProfile {
            serial: 2,
            ..profile()
        })
        .unwrap(),
    );
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let host = device.buffer(100).unwrap();
    let memory = device.alloc(100).unwrap();
    let strange = other.buffer(100).unwrap();
    let strange_memory = other.alloc(100).unwrap();
    let wrong = [
        Command::copy(&memory, &host, 101),
        Command::copy(&memory, &host, 0),
        Command::copy((&memory, 60), &host, 41),
        Command::copy((&memory, u64::MAX), &host, 2),
        Command::copy(&memory, &strange, 8),
        Command::copy(&strange_memory, &host, 8),
        Command::signal((&host, 96), 1),
    ];
    for command in wrong {
        let refused = queue.submit(&command);
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{command:?}");
    }
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn an_fpga_prototype_has_less_and_works_the_same() {
    let chip = Chip::new(ChipProfile {
        memory: 1 << 20,
        ..ChipProfile::fpga(9)
    })
    .unwrap();
    let device = open(&chip);
    assert_eq!(device.capabilities().model(), Model::Fpga);
    let mut first = device.create_queue(&QueueOptions::default()).unwrap();
    let second = device.create_queue(&QueueOptions::default()).unwrap();
    let third = device.create_queue(&QueueOptions::default());
    assert!(matches!(third, Err(Error::NoQueue { queues: 2, .. })));
    let buffers: Vec<_> = (0..64).map(|_| device.buffer(1 << 20).unwrap()).collect();
    for buffer in &buffers {
        assert!(buffer.iova() + (buffer.len() as u64) < 1 << 40);
        first.run(&Command::fill(buffer, 1, 4096), SOON).unwrap();
    }
    drop(second);
    device.create_queue(&QueueOptions::default()).unwrap();
    assert!(matches!(
        device.load(&Program::EmbeddingSum {
            rows: 1,
            columns: 1
        }),
        Err(Error::Invalid { .. })
    ));
    assert_strict(&chip);
}

macro_rules! on_a_simulated_chip {
    ($($module:ident::$name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                let chip = chip();
                let device = open(&chip);
                auk_chip_checks::$module::$name(&device);
                drop(device);
                assert_strict(&chip);
            }
        )*
    };
}

auk_chip_checks::for_each_check!(on_a_simulated_chip);

#[test]
fn the_health_of_a_queue_is_known_without_asking_the_chip() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let fresh = queue.health();
    assert_eq!(
        (fresh.submitted, fresh.completed, fresh.in_flight),
        (0, 0, 0)
    );
    assert!(fresh.ended.is_none() && !fresh.posted);

    queue.run(&Command::nop(), SOON).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    let busy = queue.health();
    assert_eq!((busy.submitted, busy.completed, busy.in_flight), (2, 1, 1));
    assert_eq!(busy.stalled, Duration::ZERO);
    std::thread::sleep(Duration::from_millis(20));
    assert!(queue.health().stalled >= Duration::from_millis(20));

    semaphore.store(0, 1).unwrap();
    let began = std::time::Instant::now();
    while !queue.health().posted {
        assert!(began.elapsed() < SOON, "the chip posts what has ended");
    }
    assert_eq!(queue.health().stalled, Duration::ZERO);
    queue.wait(ticket, SOON).unwrap();
    assert_eq!(queue.health().completed, 2);
    device.restart_firmware().unwrap();
    assert!(queue.health().ended.is_some());
}
