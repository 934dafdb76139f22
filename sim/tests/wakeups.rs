//! Interrupts, arming, events, and a chip that sleeps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use auk_asic::Status;
use auk_asic::admin::{AdminCommand, Coalescing};
use auk_asic::bar0;
use auk_asic::event::{EventCode, EventResult};
use auk_asic::io::IoCommand;
use auk_sim::inject::Verb;
use auk_sim::{ChipProfile, Violation};
use auk_vfio_user::model::IrqAction;
use common::{Queue, Rig, eventually, fired, small};

/// Waits until the chip says that it sleeps.
fn wait_parked(rig: &Rig, queue: &Queue) {
    eventually("the chip to sleep", || {
        (rig.host.load32(queue.park) == 1).then_some(())
    });
}

#[test]
fn an_idle_chip_parks_and_a_kick_wakes_it() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    for _ in 0..50 {
        wait_parked(&rig, &queue);
        assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
    }
    let mut table = [0; 128];
    let kicks = auk_asic::telemetry::Telemetry::parse({
        rig.device.read(0, bar0::TELEMETRY, &mut table);
        &table
    });
    // A chip that is about to sleep and finds work does not need the kick.
    assert!(kicks.unwrap().kicks > 0);
}

#[test]
fn a_doorbell_without_a_kick_is_seen_by_the_next_register_read() {
    let mut rig = Rig::new(small());
    let mut queue = rig.queue(1);
    wait_parked(&rig, &queue);
    rig.host.store32(queue.park, 0);
    queue.submit(&mut rig, IoCommand::Nop.encode());
    rig.read(bar0::VERSION);
    assert_eq!(queue.wait(&rig).outcome, Ok(0));
}

#[test]
fn a_chip_without_parking_never_says_that_it_sleeps() {
    let mut rig = Rig::new(ChipProfile {
        parking: false,
        ..small()
    });
    let mut queue = rig.queue(1);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.host.load32(queue.park), 0);
        assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
    }
}

#[test]
fn a_kick_of_no_queue_is_a_violation() {
    let mut rig = Rig::new(small());
    rig.write(bar0::KICK, 9);
    rig.write(bar0::KICK, u32::MAX);
    assert_eq!(
        rig.chip.strict_violations(),
        [
            Violation::KickOfNoQueue { queue: 9 },
            Violation::KickOfNoQueue { queue: u32::MAX },
        ]
    );
}

#[test]
fn an_armed_queue_interrupts_once_for_what_completes_after() {
    let mut rig = Rig::new(small());
    let eventfd = rig.eventfd(1);
    let mut queue = rig.queue(1);
    queue.run(&mut rig, IoCommand::Nop).unwrap();
    assert_eq!(fired(&eventfd), 0, "nothing fires that is not armed");
    queue.arm(&rig);
    queue.run(&mut rig, IoCommand::Nop).unwrap();
    eventually("the interrupt", || (fired(&eventfd) == 1).then_some(()));
    queue.run(&mut rig, IoCommand::Nop).unwrap();
    rig.read(bar0::VERSION);
    assert_eq!(fired(&eventfd), 0, "one arming, one interrupt");
}

#[test]
fn arming_behind_what_has_completed_fires_at_once() {
    let mut rig = Rig::new(small());
    let eventfd = rig.eventfd(1);
    let mut queue = rig.queue(1);
    queue.submit(&mut rig, IoCommand::Nop.encode());
    eventually("the completion", || {
        (rig.host.load64(queue.completions + 8) != 0).then_some(())
    });
    queue.arm(&rig);
    queue.ring(&mut rig);
    eventually("the interrupt", || (fired(&eventfd) == 1).then_some(()));
}

#[test]
fn coalescing_fires_at_its_count_or_after_its_time() {
    let mut rig = Rig::new(small());
    let eventfd = rig.eventfd(1);
    let mut queue = rig.queue(1);
    let set = |count, microseconds| AdminCommand::SetCoalescing {
        queue: 1,
        coalescing: Coalescing::new()
            .with_count(count)
            .with_microseconds(microseconds),
    };
    // A time that no test reaches.
    assert_eq!(rig.admin(set(3, u32::MAX)), Ok(0));
    queue.arm(&rig);
    queue.run(&mut rig, IoCommand::Nop).unwrap();
    queue.run(&mut rig, IoCommand::Nop).unwrap();
    rig.read(bar0::VERSION);
    assert_eq!(fired(&eventfd), 0);
    queue.run(&mut rig, IoCommand::Nop).unwrap();
    eventually("the count", || (fired(&eventfd) == 1).then_some(()));
    assert_eq!(rig.admin(set(1000, 2000)), Ok(0));
    queue.arm(&rig);
    queue.run(&mut rig, IoCommand::Nop).unwrap();
    eventually("the time", || (fired(&eventfd) == 1).then_some(()));
    let set = AdminCommand::SetCoalescing {
        queue: 9,
        coalescing: Coalescing::new(),
    };
    assert_eq!(rig.admin(set), Err(Status::InvalidQueue));
}

#[test]
fn a_masked_vector_stays_pending_until_it_is_unmasked() {
    let mut rig = Rig::new(small());
    let eventfd = rig.eventfd(1);
    let mut queue = rig.queue(1);
    rig.device.act(1, IrqAction::Mask);
    queue.arm(&rig);
    queue.run(&mut rig, IoCommand::Nop).unwrap();
    eventually("the pending bit", || {
        let mut pending = [0; 8];
        let pba = u64::from(auk_asic::msix::PBA);
        rig.device.read(2, pba, &mut pending);
        (u64::from_le_bytes(pending) == 1 << 1).then_some(())
    });
    assert_eq!(fired(&eventfd), 0);
    rig.device.act(1, IrqAction::Unmask);
    assert_eq!(fired(&eventfd), 1);
}

#[test]
fn an_event_is_told_once_and_says_how_many_were_lost() {
    let mut rig = Rig::new(small());
    rig.chip.inject(Verb::EccCe { count: 1 }).unwrap();
    rig.chip.inject(Verb::EccCe { count: 1 }).unwrap();
    let lost_before = 2 + 1;
    let id = rig.await_event();
    rig.chip.inject(Verb::EccCe { count: 1 }).unwrap();
    let done = rig.wait_admin();
    let event = EventResult::from_bits(done.outcome.unwrap());
    assert_eq!(done.id, id);
    assert_eq!(event.code(), EventCode::EccCorrectable.code());
    assert_eq!((event.argument(), event.lost()), (3, lost_before));
}

#[test]
fn four_events_may_be_awaited() {
    let mut rig = Rig::new(small());
    for _ in 0..4 {
        rig.submit_admin(AdminCommand::AsyncEvent);
    }
    assert_eq!(
        rig.admin(AdminCommand::AsyncEvent),
        Err(Status::OutOfResources)
    );
}

#[test]
fn an_idle_chip_costs_next_to_nothing() {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    wait_parked(&rig, &queue);
    engines_rest();
}

#[test]
fn a_faulted_chip_that_leaves_an_admin_command_lying_costs_no_more() {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    rig.chip.inject(Verb::EccUe).unwrap();
    eventually("the fault", || rig.status().faulted().then_some(()));
    rig.submit_admin(AdminCommand::SelfTest);
    wait_parked(&rig, &queue);
    engines_rest();
}

/// Waits until the engines of this process use next to no CPU time.
fn engines_rest() {
    let cpu = || -> u64 {
        // Fields 14 and 15, user and system time in ticks; proc_pid_stat(5).
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        threads
            .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).ok())
            .filter(|stat| stat.contains("(auk-sim-engine)"))
            .map(|stat| {
                let fields: Vec<_> = stat.rsplit(')').next().unwrap().split(' ').collect();
                fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
            })
            .sum()
    };
    // Engines of other tests in this process may work; a spinning one would take 30 ticks.
    eventually("a quiet third of a second", || {
        let before = cpu();
        std::thread::sleep(Duration::from_millis(300));
        (cpu().saturating_sub(before) < 6).then_some(())
    });
}

#[test]
fn an_eventfd_that_is_full_and_blocks_holds_up_nobody() {
    let mut rig = Rig::new(small());
    let full = nix::sys::eventfd::EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_CLOEXEC);
    let full = full.unwrap();
    full.write(u64::MAX - 1).unwrap();
    rig.device.set_eventfd(1, &full.into()).unwrap();
    let mut queue = rig.queue(1);
    for _ in 0..3 {
        queue.arm(&rig);
        assert_eq!(queue.run(&mut rig, IoCommand::Nop), Ok(0));
        rig.read(bar0::VERSION);
    }
}

#[test]
fn a_descriptor_that_is_no_eventfd_is_refused() {
    let rig = Rig::new(small());
    let (pipe, _other) = nix::unistd::pipe().unwrap();
    assert!(rig.device.set_eventfd(1, &pipe).is_err());
    assert!(rig.device.set_eventfd(1, &rig.host.fd()).is_err());
}
