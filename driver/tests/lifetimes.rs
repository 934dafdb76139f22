//! What the chip may write outlives every way of losing the handles of it: `docs/driver.md`, "Why safe code cannot corrupt
//! memory".
//!
//! The chip of these tests writes to the buffer of a command whenever it is asked anything and once more before it says that the
//! command, its queue or all its DMA has ended. A write where nothing is mapped fails the test; so does a buffer that is given to
//! somebody else meanwhile, and one that is not given back afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a fake that panics fails its test"
)]

mod hostile_chip;

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use auk_asic::admin::AdminOpcode;
use auk_asic::bar0;
use auk_asic::log::LogPage;
use auk_asic::program::Program;
use auk_asic::submission::Submission;
use auk_asic::{PAGE, Status};
use auk_driver::{
    Command, ContextOptions, Device, DmaBuffer, DmaSpace, Error, IoQueue, OpenOptions,
    QueueOptions, RecoveryPolicy, ResetKind, Step, Ticket, WaitMode,
};
use hostile_chip::HostileChip;

/// Bytes of the buffer that the chip writes: it is alone in its mapping.
const LARGE: usize = 2 << 20;
const SOON: Duration = Duration::from_secs(10);

/// A device, and a queue with a command in flight that writes to a buffer.
struct Scene {
    chip: Arc<HostileChip>,
    space: DmaSpace,
    device: Device,
    queue: IoQueue,
    number: u16,
    buffer: DmaBuffer,
    ticket: Ticket,
    entry: Submission,
    /// What is to be watched of the buffer when its handles are gone.
    watched: Watched,
}

/// A place of the chip's, and what the space had in use before it was.
#[derive(Clone, Copy)]
struct Watched {
    iova: u64,
    before: u64,
}

fn scene() -> Scene {
    scene_on(HostileChip::new())
}

fn scene_on(chip: Arc<HostileChip>) -> Scene {
    let space = DmaSpace::new();
    let device = chip.open(&space);
    let before = space.usage().used;
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let number = queue.number();
    let buffer = space.alloc(LARGE).unwrap();
    let ticket = queue
        .submit(&Command::fill(&buffer, 1, LARGE as u64))
        .unwrap();
    let [entry] = chip.begin(number)[..] else {
        panic!("one command is one entry");
    };
    let watched = Watched {
        iova: buffer.iova(),
        before,
    };
    Scene {
        chip,
        space,
        device,
        queue,
        number,
        buffer,
        ticket,
        entry,
        watched,
    }
}

impl Watched {
    /// The chip can write the buffer, and nobody else has it.
    fn assert_kept(self, chip: &HostileChip, space: &DmaSpace) {
        space.trim();
        chip.memory.write_on();
        assert!(chip.memory.is_mapped(self.iova));
        assert!(space.usage().used >= self.before + LARGE as u64);
        for length in [PAGE, LARGE] {
            let others: Vec<_> = (0..20).map(|_| space.alloc(length).unwrap()).collect();
            chip.memory.write_on();
            for other in others {
                let end = other.iova() + other.len() as u64;
                assert!(end <= self.iova || self.iova + LARGE as u64 <= other.iova());
                assert_eq!(other.to_vec(0, PAGE).unwrap(), [0; PAGE]);
            }
        }
        space.trim();
        chip.memory.assert_no_fault();
    }

    /// The space has all of it back.
    fn assert_released(self, chip: &HostileChip, space: &DmaSpace) {
        assert_eq!(space.usage().used, self.before);
        self.assert_let_go(chip, space);
    }

    /// The space has the buffer back.
    fn assert_let_go(self, chip: &HostileChip, space: &DmaSpace) {
        space.trim();
        assert!(!chip.memory.is_mapped(self.iova));
        chip.memory.assert_no_fault();
    }
}

#[test]
fn a_buffer_that_is_dropped_is_kept_until_its_completion() {
    let mut s = scene();
    drop(s.buffer);
    s.watched.assert_kept(&s.chip, &s.space);
    s.chip.complete(s.number, &s.entry, Status::Success, 0);
    s.queue.wait(s.ticket, SOON).unwrap();
    drop(s.queue);
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn a_buffer_that_is_forgotten_is_never_given_to_anybody_else() {
    let mut s = scene();
    mem::forget(s.buffer);
    s.watched.assert_kept(&s.chip, &s.space);
    s.chip.complete(s.number, &s.entry, Status::Success, 0);
    s.queue.wait(s.ticket, SOON).unwrap();
    drop((s.queue, s.device));
    assert_eq!(s.space.usage().used, LARGE as u64);
    let other = s.space.alloc(LARGE).unwrap();
    assert_ne!(other.iova(), s.watched.iova);
}

#[test]
fn a_command_that_fails_lets_its_buffer_go_as_one_that_succeeds() {
    let mut s = scene();
    drop(s.buffer);
    s.chip.complete(s.number, &s.entry, Status::DmaFault, 0);
    assert!(matches!(
        s.queue.wait(s.ticket, SOON),
        Err(Error::Command { .. })
    ));
    drop(s.queue);
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn a_wait_that_is_given_up_keeps_the_buffer_until_the_completion() {
    let mut s = scene();
    for mode in [WaitMode::Polled, WaitMode::Interrupt] {
        s.queue.set_wait_mode(mode);
        let waited = s.queue.wait(s.ticket, Duration::from_millis(1));
        assert!(matches!(waited, Err(Error::TimedOut { .. })), "{waited:?}");
    }
    drop(s.buffer);
    s.watched.assert_kept(&s.chip, &s.space);
    s.chip.complete(s.number, &s.entry, Status::Success, 0);
    assert!(s.queue.poll().unwrap().result.is_ok());
    drop(s.queue);
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn an_abort_that_ends_nothing_lets_go_of_nothing() {
    let mut s = scene();
    // The s.chip says that it did, and goes on writing.
    let lost = s.queue.abort(s.ticket, SOON).unwrap_err();
    assert!(matches!(lost, Error::CompletionLost { .. }), "{lost}");
    drop(s.buffer);
    s.watched.assert_kept(&s.chip, &s.space);
    s.chip.complete(s.number, &s.entry, Status::Aborted, 0);
    assert!(s.queue.wait(s.ticket, SOON).is_err());
    drop(s.queue);
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn a_command_whose_completion_is_lost_ends_with_the_reset_of_its_queue() {
    let mut s = scene();
    let error = s.queue.recover(Step::Abort).unwrap_err();
    assert!(matches!(error, Error::NotRecovered { .. }), "{error}");
    drop(s.buffer);
    s.watched.assert_kept(&s.chip, &s.space);
    let recovery = s.queue.recover(Step::HotReset).unwrap();
    let steps: Vec<_> = recovery.steps.iter().map(|climbed| climbed.step).collect();
    assert_eq!(steps, [Step::Abort, Step::QueueReset]);
    s.watched.assert_let_go(&s.chip, &s.space);
    let lost = s.queue.wait(s.ticket, SOON).unwrap_err();
    assert!(matches!(lost, Error::QueueReset { .. }), "{lost}");
}

#[test]
fn a_queue_that_the_chip_does_not_delete_keeps_its_buffers_over_its_reset() {
    let mut s = scene();
    s.chip.behaves(|manners| manners.answers = false);
    let refused = s.queue.reset(Duration::from_millis(5)).unwrap_err();
    assert!(matches!(refused, Error::TimedOut { .. }), "{refused}");
    let lost = s.queue.wait(s.ticket, SOON).unwrap_err();
    assert!(matches!(lost, Error::QueueReset { .. }), "{lost}");
    drop(s.buffer);
    s.watched.assert_kept(&s.chip, &s.space);
    s.chip.behaves(|manners| manners.answers = true);
    s.queue.reset(SOON).unwrap();
    s.watched.assert_let_go(&s.chip, &s.space);
}

#[test]
fn a_completion_of_the_queue_s_former_life_ends_nothing() {
    let mut s = scene();
    let former = s.chip.ring(s.number).tail(s.entry.command_id);
    s.queue.reset(SOON).unwrap();
    assert!(s.queue.poll().is_some());
    let ticket = s.queue.submit(&Command::nop()).unwrap();
    let [entry] = s.chip.fetch(s.number)[..] else {
        panic!("one command");
    };
    s.chip
        .post(s.number, former.with_command_id(entry.command_id), 0);
    assert!(s.queue.poll().is_none());
    assert_eq!((s.queue.in_flight(), s.queue.strays()), (1, 1));
    assert_ne!(s.chip.ring(s.number).tag, former.tag());
    assert!(matches!(
        s.queue.abort(ticket, SOON),
        Err(Error::CompletionLost { .. })
    ));
}

#[test]
fn by_policy_a_queue_that_lost_a_completion_or_was_stopped_is_made_anew() {
    let chip = HostileChip::new();
    let options = OpenOptions::default().recovery(RecoveryPolicy::DeviceOnly);
    let device = Device::from_function(Arc::clone(&chip) as _, &options).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let number = queue.number();
    for expected in ["lost", "stopped"] {
        if expected == "stopped" {
            chip.stops(number);
        }
        let error = queue.execute(&Command::nop()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(queue.in_flight(), 0);
        let ticket = queue.submit(&Command::nop()).unwrap();
        let [entry] = chip.fetch(number)[..] else {
            panic!("one command, in a ring that is new");
        };
        chip.complete(number, &entry, Status::Success, 0);
        queue.wait(ticket, SOON).unwrap();
    }
}

#[test]
fn a_panic_keeps_the_buffer_until_the_chip_has_deleted_the_queue() {
    let s = scene();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _in_this_scope = (s.queue, s.buffer);
        panic!("a bug of the job's");
    }));
    assert!(panicked.is_err());
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn a_panic_while_the_chip_is_hung_keeps_the_buffer_until_a_reset() {
    let s = scene();
    s.chip.behaves(|manners| manners.answers = false);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _in_this_scope = (s.queue, s.buffer);
        panic!("a bug of the job's");
    }));
    assert!(panicked.is_err());
    s.watched.assert_kept(&s.chip, &s.space);
    s.chip.behaves(|manners| manners.answers = true);
    s.device.reset(ResetKind::Flr).unwrap();
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn a_panic_of_the_caller_s_iterator_leaves_what_was_pushed_in_flight() {
    let mut s = scene();
    let mut tickets = Vec::new();
    let command = Command::fill(&s.buffer, 1, 8);
    let commands = (0..3).map(|number| match number {
        2 => panic!("a bug of the job's"),
        _ => &command,
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        s.queue.submit_batch(commands, &mut tickets)
    }));
    assert!(panicked.is_err());
    assert_eq!((tickets.len(), s.queue.in_flight()), (2, 3));
    drop(s.buffer);
    s.chip.complete(s.number, &s.entry, Status::Success, 0);
    s.queue.wait(s.ticket, SOON).unwrap();
    s.watched.assert_kept(&s.chip, &s.space);
    // The next call rings the doorbell for them.
    assert!(s.queue.poll().is_none());
    let entries = s.chip.begin(s.number);
    assert_eq!(entries.len(), 2);
    for (entry, ticket) in entries.iter().zip(tickets) {
        s.watched.assert_kept(&s.chip, &s.space);
        s.chip.complete(s.number, entry, Status::Success, 0);
        s.queue.wait(ticket, SOON).unwrap();
    }
    drop(s.queue);
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn a_dropped_queue_keeps_its_buffers_until_the_chip_has_deleted_it() {
    let s = scene();
    drop(s.buffer);
    s.watched.assert_kept(&s.chip, &s.space);
    // The chip writes once more before it says that the queue is deleted.
    drop(s.queue);
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn a_dropped_queue_that_the_chip_does_not_delete_keeps_its_buffers_until_a_reset() {
    for kind in [ResetKind::Flr, ResetKind::FirmwareRestart] {
        let s = scene();
        s.chip.behaves(|manners| manners.answers = false);
        drop((s.queue, s.buffer));
        s.watched.assert_kept(&s.chip, &s.space);
        s.chip.behaves(|manners| manners.resets = false);
        s.device.reset(kind).unwrap_err();
        s.watched.assert_kept(&s.chip, &s.space);
        s.chip.behaves(|manners| {
            manners.answers = true;
            manners.resets = true;
        });
        s.device.reset(kind).unwrap();
        s.watched.assert_released(&s.chip, &s.space);
    }
}

#[test]
fn a_queue_that_is_dropped_while_another_thread_resets_keeps_nothing() {
    for _ in 0..10 {
        let chip = HostileChip::new();
        chip.advertises(bar0::TIMEOUT_QUEUE, 10_000);
        let s = scene_on(chip);
        s.chip.behaves(|manners| manners.answers = false);
        let dropping = thread::spawn(move || drop((s.queue, s.buffer)));
        while !s.chip.ignores(AdminOpcode::DeleteQueue) {
            thread::yield_now();
        }
        s.chip.behaves(|manners| manners.answers = true);
        s.device.reset(ResetKind::Flr).unwrap();
        dropping.join().unwrap();
        s.watched.assert_released(&s.chip, &s.space);
        let queue = s.device.create_queue(&QueueOptions::default()).unwrap();
        assert_eq!(queue.number(), s.number);
    }
}

#[test]
fn a_queue_that_a_reset_has_ended_keeps_nothing() {
    let mut s = scene();
    drop(s.buffer);
    s.device.reset(ResetKind::Flr).unwrap();
    let ended = s.queue.wait(s.ticket, SOON);
    assert!(matches!(ended, Err(Error::Stale { .. })), "{ended:?}");
    drop(s.queue);
    s.watched.assert_released(&s.chip, &s.space);
}

#[test]
fn a_forgotten_queue_keeps_its_buffers_and_its_device_for_ever() {
    let s = scene();
    mem::forget(s.queue);
    drop((s.buffer, s.device));
    s.watched.assert_kept(&s.chip, &s.space);
    let forgotten = s.space.clone();
    drop(s.space);
    s.watched.assert_kept(&s.chip, &forgotten);
}

#[test]
fn a_dropped_device_lives_as_long_as_its_queue() {
    let s = scene();
    drop((s.device, s.buffer));
    s.watched.assert_kept(&s.chip, &s.space);
    drop(s.queue);
    assert_eq!(s.space.usage().used, 0);
    assert_eq!(s.space.usage().mappings, 0);
    s.chip.memory.assert_no_fault();
}

#[test]
fn a_device_that_closes_unmaps_after_its_dma_has_ended() {
    // By the end of the admin queue, or by a reset.
    for quiets in [true, false] {
        let s = scene();
        s.chip.behaves(|manners| {
            manners.answers = false;
            manners.quiets = quiets;
        });
        drop((s.queue, s.buffer, s.device));
        assert_eq!(s.space.usage().mappings, 0);
        assert_eq!(s.space.usage().used, 0);
        s.chip.memory.assert_no_fault();
    }
}

#[test]
fn a_device_closes_although_a_hung_queue_named_what_is_on_the_chip() {
    let mut s = scene();
    let memory = s.device.alloc(PAGE as u64).unwrap();
    let context = s
        .device
        .create_context(&ContextOptions::default().memory(1 << 20))
        .unwrap();
    let program = context.load(&Program::Checksum).unwrap();
    let commands = [
        Command::copy(&memory, &s.buffer, PAGE as u64),
        Command::checksum(&program, &memory, PAGE as u64),
    ];
    s.queue.submit_batch(&commands, &mut Vec::new()).unwrap();
    s.chip.behaves(|manners| manners.answers = false);
    drop((s.queue, s.buffer, memory, program, context));
    s.watched.assert_kept(&s.chip, &s.space);
    drop(s.device);
    assert_eq!(s.space.usage().mappings, 0);
    assert_eq!(s.space.usage().used, 0);
    s.chip.memory.assert_no_fault();
}

#[test]
fn a_device_that_cannot_be_stopped_gives_its_memory_to_nobody_before_it_is_unmapped() {
    let s = scene();
    s.chip.behaves(|manners| {
        manners.answers = false;
        manners.quiets = false;
        manners.resets = false;
    });
    drop((s.queue, s.buffer));
    assert!(s.chip.memory.is_mapped(s.watched.iova));
    drop(s.device);
    // The IOMMU keeps it out from now on.
    assert!(!s.chip.memory.is_mapped(s.watched.iova));
    assert_eq!(s.space.usage().mappings, 0);
    assert_eq!(s.space.usage().used, 0);
    assert!(s.space.usage().leaked >= LARGE as u64);
}

#[test]
fn a_dropped_space_lives_as_long_as_its_buffers() {
    let mut s = scene();
    drop(s.space);
    drop(s.buffer);
    let space = s.device.space().clone();
    drop(s.device);
    s.watched.assert_kept(&s.chip, &space);
    drop(space);
    s.chip.memory.write_on();
    s.chip.complete(s.number, &s.entry, Status::Success, 0);
    s.queue.wait(s.ticket, SOON).unwrap();
    drop(s.queue);
    assert!(!s.chip.memory.is_mapped(s.watched.iova));
    s.chip.memory.assert_no_fault();
}

#[test]
fn a_thread_that_ends_leaves_its_queue_to_the_chip_to_delete() {
    for panics in [false, true] {
        let s = scene();
        let ended = thread::spawn(move || {
            thread_local! {
                static KEPT: std::cell::RefCell<Option<(IoQueue, DmaBuffer)>> = const { std::cell::RefCell::new(None) };
            }
            KEPT.with_borrow_mut(|kept| *kept = Some((s.queue, s.buffer)));
            assert!(!panics, "a bug of the job's");
        });
        assert_eq!(ended.join().is_err(), panics);
        s.watched.assert_released(&s.chip, &s.space);
    }
}

#[test]
fn an_admin_command_that_nobody_waits_for_any_more_keeps_its_memory() {
    let chip = HostileChip::new();
    let space = DmaSpace::new();
    let device = chip.open(&space);
    let before = space.usage().used;
    chip.behaves(|manners| manners.answers = false);
    let refused = device.log(LogPage::Events, LARGE);
    assert!(
        matches!(refused, Err(Error::TimedOut { .. })),
        "{refused:?}"
    );
    assert_eq!(space.usage().used, before + LARGE as u64);
    space.trim();
    chip.memory.write_on();
    chip.behaves(|manners| manners.answers = true);
    device.reset(ResetKind::Flr).unwrap();
    assert_eq!(space.usage().used, before);
    chip.memory.assert_no_fault();
}

#[test]
fn bytes_on_their_way_are_kept_when_the_download_is_given_up() {
    let chip = HostileChip::new();
    let space = DmaSpace::new();
    let device = chip.open(&space);
    let memory = device.alloc(LARGE as u64).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    let before = space.usage().used;
    let mut data = vec![0; PAGE];
    // In time neither the copy ends nor its abort.
    chip.behaves(|manners| manners.answers = false);
    let refused = queue.download(&memory, 0, &mut data, Duration::from_millis(1));
    assert!(
        matches!(refused, Err(Error::TimedOut { .. })),
        "{refused:?}"
    );
    let [entry] = chip.begin(queue.number())[..] else {
        panic!("one copy");
    };
    assert!(space.usage().used > before);
    space.trim();
    chip.memory.write_on();
    chip.complete(queue.number(), &entry, Status::Success, 0);
    assert!(queue.poll().is_some());
    assert_eq!(space.usage().used, before);
    chip.memory.assert_no_fault();
}
