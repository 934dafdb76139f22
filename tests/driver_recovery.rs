//! The reset ladder on a simulated chip, by call and by policy.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failing test")]

mod driver_support;

use std::thread;
use std::time::Duration;

use auk_asic::{Fault, State};
use auk_chip_checks::pattern;
use auk_driver::{
    Command, Device, DmaSpace, Error, IoQueue, OpenOptions, QueueOptions, RecoveryPolicy,
    ResetKind, Step,
};
use auk_sim::inject::{Injection, Trigger, Verb};
use auk_sim::{Chip, ChipProfile, Timing};
use driver_support::*;

/// A chip whose watchdog is too late for any of these tests, so that a hang stays one; and that believes in quick commands.
fn hanging_chip() -> Chip {
    let timing = Timing {
        watchdog: Duration::from_secs(60),
        command_ms: 2_000,
        ..Timing::default()
    };
    Chip::new(ChipProfile {
        timing,
        ..profile()
    })
    .unwrap()
}

fn inject(chip: &Chip, verb: Verb) {
    chip.inject(verb).unwrap();
}

/// A chip whose commands, and so the waits for what is lost, take a fifth of a second at most.
fn hasty_chip() -> Chip {
    let timing = Timing {
        command_ms: 200,
        ..Timing::default()
    };
    Chip::new(ChipProfile {
        timing,
        ..profile()
    })
    .unwrap()
}

fn open_with(chip: &Chip, policy: RecoveryPolicy) -> Opened {
    try_open(chip, &OpenOptions::default().recovery(policy)).unwrap()
}

fn queue_of(device: &Device) -> IoQueue {
    device.create_queue(&QueueOptions::default()).unwrap()
}

fn steps(recovery: &auk_driver::Recovery) -> Vec<Step> {
    recovery.steps.iter().map(|climbed| climbed.step).collect()
}

fn generation(device: &Device) -> u32 {
    device.vitals().unwrap().generation
}

#[test]
fn a_chip_that_is_well_is_left_alone() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    let recovery = device.recover(Step::HotReset).unwrap();
    assert_eq!(steps(&recovery), []);
    assert_eq!(recovery.generation_before, recovery.generation_after);
    queue.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn a_fault_takes_a_restart_and_keeps_what_device_memory_holds() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    let memory = device.alloc(4096).unwrap();
    let data = pattern(1, 4096);
    queue.upload(&memory, 0, &data, SOON).unwrap();

    inject(&chip, Verb::FirmwareCrash);
    let recovery = device.recover(Step::HotReset).unwrap();
    assert_eq!(steps(&recovery), [Step::FirmwareRestart]);
    assert_eq!(recovery.steps[0].error, None);
    assert_eq!(
        (recovery.generation_before, recovery.generation_after),
        (Some(1), Some(2))
    );

    queue.reset(SOON).unwrap();
    let memory = device.alloc(4096).unwrap();
    let mut back = vec![0; 4096];
    queue.download(&memory, 0, &mut back, SOON).unwrap();
    assert_eq!(back, data);
    assert_strict(&chip);
}

#[test]
fn a_hang_is_found_out_by_a_command_that_does_not_end() {
    let chip = hanging_chip();
    let device = open(&chip);
    inject(&chip, Verb::FirmwareHang);
    device.check().unwrap();
    let recovery = device.recover(Step::FirmwareRestart).unwrap();
    assert_eq!(steps(&recovery), [Step::FirmwareRestart]);
    let bound = Step::FirmwareRestart.bound(device.capabilities().timeouts());
    assert!(recovery.steps[0].took < bound, "{recovery:?}");
    queue_of(&device).run(&Command::nop(), SOON).unwrap();
}

#[test]
fn what_is_not_allowed_is_not_done() {
    let chip = chip();
    let device = open(&chip);
    inject(&chip, Verb::FirmwareCrash);
    let error = device.recover(Step::QueueReset).unwrap_err();
    let Error::NotRecovered { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(matches!(**source, Error::Faulted { .. }), "{source}");
    assert!(error.is_fatal());
    assert_eq!(generation(&device), 1);
}

#[test]
fn a_chip_without_firmware_is_given_up_at_the_restart() {
    let chip = chip();
    let device = open(&chip);
    inject(&chip, Verb::ImageRot { slot: 0 });
    inject(&chip, Verb::FirmwareCrash);
    let error = device.recover(Step::HotReset).unwrap_err();
    assert!(error.to_string().contains("firmware restart"), "{error}");
    let Error::NotRecovered { source, .. } = error else {
        panic!("{error}");
    };
    assert!(
        matches!(
            *source,
            Error::NotReady {
                state: State::Loader,
                ..
            }
        ),
        "{source}"
    );
}

#[test]
fn a_connection_that_is_gone_is_given_up_at_once() {
    let chip = chip();
    let Opened { device, serving } = open(&chip);
    drop(serving);
    let error = device.recover(Step::HotReset).unwrap_err();
    let Error::NotRecovered { source, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(*source, Error::Disconnected { .. }), "{source}");
}

#[test]
fn a_hot_reset_that_the_bus_does_not_have_is_refused() {
    let chip = chip();
    let device = open(&chip);
    let error = device.reset(ResetKind::HotReset).unwrap_err();
    assert!(error.to_string().contains("not supported"), "{error}");
    device.reset(ResetKind::Flr).unwrap();
    queue_of(&device).run(&Command::nop(), SOON).unwrap();
}

#[test]
fn without_a_policy_nothing_is_done() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::FirmwareCrash);
    assert!(queue.run(&Command::nop(), SOON).is_err());
    assert!(device.check().is_err());
    assert_eq!(generation(&device), 1);
}

#[test]
fn by_policy_who_waits_is_told_the_error_and_finds_the_chip_well() {
    let chip = chip();
    let device = open_with(&chip, RecoveryPolicy::DeviceOnly);
    let mut queue = queue_of(&device);
    let semaphore = device.buffer(8).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    inject(&chip, Verb::FirmwareCrash);
    let error = queue.wait(ticket, SOON).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Faulted {
                fault: Some(Fault::FirmwareCrash),
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        queue.wait(ticket, SOON),
        Err(Error::UnknownTicket)
    ));
    device.check().unwrap();
    assert_eq!(generation(&device), 2);

    // The queue says so until it is made anew.
    assert!(queue.submit(&Command::nop()).is_err());
    queue.reset(SOON).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn by_policy_a_command_that_an_ecc_error_failed_has_the_firmware_restarted_once() {
    let chip = chip();
    let device = open_with(&chip, RecoveryPolicy::Full);
    let mut queue = queue_of(&device);
    let memory = device.alloc(4096).unwrap();
    inject(&chip, Verb::EccUe);
    let tickets: Vec<_> = (0..8)
        .map(|_| queue.submit(&Command::fill(&memory, 1, 64)).unwrap())
        .collect();
    for ticket in tickets {
        let error = queue.wait(ticket, SOON).unwrap_err();
        assert!(
            error.is_fatal() || matches!(error, Error::Stale { .. }),
            "{error}"
        );
    }
    device.check().unwrap();
    assert_eq!(generation(&device), 2);
}

#[test]
fn by_policy_a_hung_firmware_is_restarted_by_who_waited_long_enough_to_tell() {
    let chip = hanging_chip();
    let device = open_with(&chip, RecoveryPolicy::DeviceOnly);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::FirmwareHang);
    let ticket = queue.submit(&Command::nop()).unwrap();
    let error = queue.wait(ticket, Duration::from_secs(1)).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(generation(&device), 2);
    let lost = queue.wait(ticket, SOON).unwrap_err();
    assert!(matches!(lost, Error::Stale { .. }), "{lost}");
}

#[test]
fn threads_that_meet_one_fault_together_make_one_recovery() {
    let chip = chip();
    let device = open_with(&chip, RecoveryPolicy::Full);
    let semaphore = device.buffer(8).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut queue = queue_of(&device);
            let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
            scope.spawn(move || {
                let error = queue.wait(ticket, SOON).unwrap_err();
                assert!(
                    error.is_fatal() || matches!(error, Error::Stale { .. }),
                    "{error}"
                );
            });
        }
        inject(&chip, Verb::FirmwareCrash);
    });
    assert_eq!(generation(&device), 2);
    device.check().unwrap();
}

#[test]
fn a_queue_that_is_reset_ends_what_ran_once_and_works_again() {
    let chip = chip();
    let space = DmaSpace::new();
    let device = try_open(&chip, &OpenOptions::default().space(&space)).unwrap();
    let mut queue = device
        .create_queue(&QueueOptions::default().depth(4))
        .unwrap();
    let number = queue.number();
    let idle = space.usage().used;
    for _ in 0..3 {
        let semaphore = space.alloc(4096).unwrap();
        let wait = Command::wait(&semaphore, 1, 9_000);
        let tickets = [(); 4].map(|()| queue.submit(&wait).unwrap());
        drop(semaphore);
        queue.reset(SOON).unwrap();
        assert_eq!((queue.in_flight(), space.usage().used), (0, idle));
        for ticket in tickets {
            let error = queue.wait(ticket, SOON).unwrap_err();
            assert!(matches!(error, Error::QueueReset { .. }), "{error}");
            assert!(matches!(
                queue.wait(ticket, SOON),
                Err(Error::UnknownTicket)
            ));
        }
        for _ in 0..9 {
            queue.run(&Command::nop(), SOON).unwrap();
        }
    }
    assert_eq!((queue.number(), queue.strays()), (number, 0));
    assert_strict(&chip);
}

#[test]
fn outcomes_that_nobody_collected_outlive_the_queue_s_reset_and_give_their_places_back() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = device
        .create_queue(&QueueOptions::default().depth(2))
        .unwrap();
    let semaphore = device.buffer(8).unwrap();
    let done = queue.submit(&Command::nop()).unwrap();
    let lost = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    let mut ended = queue.poll();
    while ended.is_none() {
        thread::yield_now();
        ended = queue.poll();
    }
    assert_eq!(ended.unwrap().ticket, done);
    queue.reset(SOON).unwrap();
    // One of the two places still has an outcome.
    queue.run(&Command::nop(), SOON).unwrap();
    let outcome = queue.poll().unwrap();
    assert_eq!(outcome.ticket, lost);
    assert!(matches!(
        *outcome.result.unwrap_err(),
        Error::QueueReset { .. }
    ));
    let both = [(); 2].map(|()| queue.submit(&Command::nop()).unwrap());
    for ticket in both {
        queue.wait(ticket, SOON).unwrap();
    }
}

#[test]
fn a_queue_that_waits_in_vain_recovers_by_an_abort() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    let semaphore = device.buffer(8).unwrap();
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 9_000)).unwrap();
    let recovery = queue.recover(Step::HotReset).unwrap();
    assert_eq!(steps(&recovery), [Step::Abort]);
    assert!(matches!(
        queue.wait(ticket, SOON),
        Err(Error::Command { .. })
    ));
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn a_queue_of_a_hung_chip_climbs_as_far_as_the_restart_and_works() {
    let timing = Timing {
        watchdog: Duration::from_secs(60),
        command_ms: 1_000,
        ..Timing::default()
    };
    let chip = Chip::new(ChipProfile {
        timing,
        ..profile()
    })
    .unwrap();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::FirmwareHang);
    let ticket = queue.submit(&Command::nop()).unwrap();
    let recovery = queue.recover(Step::Flr).unwrap();
    assert_eq!(
        steps(&recovery),
        [
            Step::Abort,
            Step::QueueReset,
            Step::FirmwareRestart,
            Step::QueueReset
        ]
    );
    assert!(queue.wait(ticket, SOON).is_err());
    queue.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn a_queue_of_a_context_that_a_reset_has_ended_cannot_be_made_anew() {
    let chip = chip();
    let device = open(&chip);
    let context = device.create_context(&Default::default()).unwrap();
    let options = QueueOptions::default().context(&context);
    let mut queue = device.create_queue(&options).unwrap();
    queue.reset(SOON).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
    device.restart_firmware().unwrap();
    assert!(matches!(queue.reset(SOON), Err(Error::Stale { .. })));
}

#[test]
fn who_gives_no_time_gives_what_the_chip_advertises() {
    let chip = hasty_chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    queue.execute(&Command::nop()).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let error = queue
        .execute(&Command::wait(&semaphore, 1, 60_000))
        .unwrap_err();
    let Error::TimedOut { waited, .. } = error else {
        panic!("{error}");
    };
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    // It was aborted, and its buffer is the caller's.
    assert_eq!(queue.in_flight(), 0);

    let options = QueueOptions::default().timeout(Duration::from_millis(1));
    let mut hasty = device.create_queue(&options).unwrap();
    let ticket = hasty.submit(&Command::wait(&semaphore, 1, 60_000)).unwrap();
    assert!(matches!(hasty.finish(ticket), Err(Error::TimedOut { .. })));
    assert!(matches!(hasty.finish(ticket), Err(Error::UnknownTicket)));
}

#[test]
fn a_completion_that_never_comes_ends_with_the_reset_of_its_queue() {
    for lost in [
        Verb::CompletionDrop,
        Verb::CompletionWrongId,
        Verb::CompletionWrongQueue,
    ] {
        let chip = hasty_chip();
        let device = open(&chip);
        let mut queue = queue_of(&device);
        inject(&chip, lost.clone());
        let error = queue.execute(&Command::nop()).unwrap_err();
        assert!(
            matches!(error, Error::CompletionLost { .. }),
            "{}: {error}",
            lost.name()
        );
        assert_eq!(queue.in_flight(), 1, "{}", lost.name());
        queue.reset(SOON).unwrap();
        let outcome = queue.poll().unwrap().result.unwrap_err();
        assert!(matches!(*outcome, Error::QueueReset { .. }), "{outcome}");
        queue.execute(&Command::nop()).unwrap();
        assert_strict(&chip);
    }
}

#[test]
fn a_completion_of_a_former_life_is_told_from_the_right_one_by_its_tag() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::CompletionStaleTag { ms: 50 });
    queue.run(&Command::nop(), SOON).unwrap();
    assert_eq!(queue.strays(), 1);
    assert_eq!(queue.in_flight(), 0);
    queue.run(&Command::nop(), SOON).unwrap();
    assert_strict(&chip);
}

#[test]
fn by_policy_a_queue_that_lost_a_completion_is_reset_at_once() {
    let chip = hasty_chip();
    let device = open_with(&chip, RecoveryPolicy::DeviceOnly);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::CompletionDrop);
    let error = queue.execute(&Command::nop()).unwrap_err();
    assert!(matches!(error, Error::CompletionLost { .. }), "{error}");
    assert_eq!(queue.in_flight(), 0);
    queue.execute(&Command::nop()).unwrap();
    assert_eq!(generation(&device), 1);
}

#[test]
fn a_completion_that_comes_twice_is_counted_and_ends_nothing_else() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::CompletionDuplicate);
    for _ in 0..4 {
        queue.run(&Command::nop(), SOON).unwrap();
    }
    assert_eq!((queue.strays(), queue.in_flight()), (1, 0));
}

#[test]
fn a_queue_that_stands_still_is_reset_and_others_work_meanwhile() {
    let chip = hasty_chip();
    let device = open(&chip);
    let (mut stuck, mut other) = (queue_of(&device), queue_of(&device));
    let number = stuck.number();
    inject(&chip, Verb::QueueStuck { number, for_ms: 0 });
    let ticket = stuck.submit(&Command::nop()).unwrap();
    assert!(stuck.wait(ticket, Duration::from_millis(50)).is_err());
    other.run(&Command::nop(), SOON).unwrap();
    let recovery = stuck.recover(Step::HotReset).unwrap();
    assert!(
        recovery
            .steps
            .iter()
            .all(|climbed| climbed.step <= Step::QueueReset),
        "{recovery:?}"
    );
    // By then it has ended: aborted, or with the queue.
    assert!(stuck.wait(ticket, SOON).is_err());
    if recovery.steps.len() == 1 {
        stuck.reset(SOON).unwrap();
    }
    stuck.run(&Command::nop(), SOON).unwrap();
    other.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn a_chip_that_crashes_at_each_start_is_given_up_after_the_last_step() {
    let chip = chip();
    let device = open(&chip);
    let for_ever = Trigger {
        times: 0,
        ..Trigger::default()
    };
    let injection = Injection::new("", Verb::BootLoop).when(for_ever);
    chip.inject_when(&injection).unwrap();
    inject(&chip, Verb::FirmwareCrash);
    let error = device.recover(Step::HotReset).unwrap_err();
    for tried in ["firmware restart", "FLR"] {
        assert!(error.to_string().contains(tried), "{error}");
    }
    let Error::NotRecovered { source, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(*source, Error::Faulted { .. }), "{source}");
    inject(&chip, Verb::Heal);
    let recovery = device.recover(Step::HotReset).unwrap();
    assert_eq!(steps(&recovery), [Step::FirmwareRestart]);
    queue_of(&device).run(&Command::nop(), SOON).unwrap();
}

#[test]
fn by_policy_a_chip_that_cannot_be_brought_back_is_not_tried_again() {
    let chip = chip();
    let device = open_with(&chip, RecoveryPolicy::DeviceOnly);
    let for_ever = Trigger {
        times: 0,
        ..Trigger::default()
    };
    let injection = Injection::new("", Verb::BootLoop).when(for_ever);
    chip.inject_when(&injection).unwrap();
    inject(&chip, Verb::FirmwareCrash);
    let checked = || assert!(matches!(device.check(), Err(Error::Faulted { .. })));
    checked();
    let tried = generation(&device);
    assert_eq!(tried, 2);
    checked();
    assert!(device.alloc(4096).is_err());
    assert_eq!(generation(&device), tried);

    inject(&chip, Verb::Heal);
    device.recover(Step::FirmwareRestart).unwrap();
    inject(&chip, Verb::FirmwareCrash);
    checked();
    device.check().unwrap();
}

#[test]
fn a_restart_that_is_too_slow_is_followed_by_the_next_step() {
    let timing = Timing {
        restart_ms: 100,
        ..Timing::default()
    };
    let chip = Chip::new(ChipProfile {
        timing,
        ..profile()
    })
    .unwrap();
    let device = open(&chip);
    inject(&chip, Verb::FirmwareCrash);
    inject(&chip, Verb::SlowBoot { ms: 600 });
    let recovery = device.recover(Step::HotReset).unwrap();
    assert_eq!(
        steps(&recovery),
        [Step::FirmwareRestart, Step::Flr],
        "{recovery:?}"
    );
    assert!(recovery.steps[0].error.is_some());
    queue_of(&device).run(&Command::nop(), SOON).unwrap();
}

#[test]
fn a_bar_that_reads_ones_takes_more_than_a_restart_and_nothing_once_it_answers() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::BarOnes { for_ms: 0 });
    assert!(matches!(device.check(), Err(Error::Gone { .. })));
    let error = device.recover(Step::FirmwareRestart).unwrap_err();
    assert!(matches!(error, Error::NotRecovered { .. }), "{error}");
    inject(&chip, Verb::Heal);
    let recovery = device.recover(Step::HotReset).unwrap();
    assert_eq!(steps(&recovery), []);
    queue.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn a_chip_that_died_in_a_reset_and_came_back_is_let_decode_before_it_is_read() {
    let chip = chip();
    let device = open(&chip);
    chip.inject(Verb::ResetDead).unwrap();
    device.reset(ResetKind::Flr).unwrap_err();
    device.check().unwrap_err();
    chip.inject(Verb::Heal).unwrap();
    device.recover(Step::HotReset).unwrap();
    let mut queue = device.create_queue(&QueueOptions::default()).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
    drop(queue);
    assert_strict(&chip);
}

#[test]
fn a_reset_that_fails_the_first_time_is_made_good_by_a_recovery() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::ResetFails);
    let failed = device.reset(ResetKind::Flr).unwrap_err();
    assert!(matches!(failed, Error::TimedOut { .. }), "{failed}");
    assert!(matches!(
        queue.submit(&Command::nop()),
        Err(Error::Stale { .. })
    ));
    let recovery = device.recover(Step::HotReset).unwrap();
    assert!(!recovery.steps.is_empty());
    queue.reset(SOON).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn a_chip_that_a_reset_has_killed_is_given_up_as_gone_until_it_is_back() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = queue_of(&device);
    inject(&chip, Verb::ResetDead);
    assert!(device.reset(ResetKind::Flr).is_err());
    let error = device.recover(Step::HotReset).unwrap_err();
    let Error::NotRecovered { source, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(*source, Error::Gone { .. }), "{source}");
    inject(&chip, Verb::Heal);
    device.recover(Step::HotReset).unwrap();
    queue.reset(SOON).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
}

#[test]
fn a_reset_that_does_not_end_ends_the_connection_and_says_so_in_time() {
    let chip = chip();
    let device = open(&chip);
    inject(&chip, Verb::ResetHang { for_ms: 0 });
    let began = std::time::Instant::now();
    let failed = device.reset(ResetKind::Flr).unwrap_err();
    assert!(matches!(failed, Error::Disconnected { .. }), "{failed}");
    let error = device.recover(Step::HotReset).unwrap_err();
    assert!(error.to_string().contains("disconnected"), "{error}");
    // Far from what the bus has for a request, and with room for a machine that is busy.
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
    inject(&chip, Verb::Heal);
}
