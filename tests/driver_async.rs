//! Commands as futures.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failing test")]

mod driver_support;

use std::future::Future;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use auk_driver::{AsyncQueue, Command, Error, OpenOptions, QueueOptions, RecoveryPolicy};
use auk_sim::inject::Verb;
use driver_support::*;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Runs on one thread, as a queue does.
fn block_on<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, work)
}

fn queue(device: &Opened) -> AsyncQueue {
    let queue = device.create_queue(&QueueOptions::default().depth(64));
    queue.unwrap().into_async().unwrap()
}

#[test]
fn commands_that_are_submitted_together_all_end_with_their_results() {
    let chip = chip();
    let device = open(&chip);
    block_on(async {
        let queue = queue(&device);
        let counter = device.buffer(8).unwrap();
        for round in 0..20 {
            let signals: Vec<_> = (0..32)
                .map(|_| queue.submit(&Command::signal(&counter, 1), SOON))
                .collect();
            for (number, signal) in (1..).zip(signals) {
                assert_eq!(signal.await.unwrap(), round * 32 + number);
            }
        }
    });
    assert_strict(&chip);
}

#[test]
fn tasks_share_a_queue_and_each_is_woken_by_its_own_command() {
    let chip = chip();
    let device = open(&chip);
    block_on(async {
        let queue = Rc::new(queue(&device));
        let semaphores = Rc::new(device.buffer(4096).unwrap());
        let tasks: Vec<_> = (0..12)
            .map(|task| {
                let (queue, semaphores) = (Rc::clone(&queue), Rc::clone(&semaphores));
                tokio::task::spawn_local(async move {
                    for round in 1..=20 {
                        let own = (&*semaphores, task * 8);
                        let now = queue.submit(&Command::signal(own, 1), SOON).await.unwrap();
                        assert_eq!(now, round);
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            timeout(SOON, task).await.unwrap().unwrap();
        }
    });
    assert_strict(&chip);
}

#[test]
fn a_future_sleeps_until_its_command_ends() {
    let chip = chip();
    let device = open(&chip);
    block_on(async {
        let queue = queue(&device);
        let semaphore = device.buffer(8).unwrap();
        let waker = semaphore.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            waker.store(0, 7).unwrap();
        });
        let waited = queue.submit(&Command::wait(&semaphore, 7, 9_000), SOON);
        assert_eq!(waited.await.unwrap(), 7);
        thread.join().unwrap();
    });
    assert_strict(&chip);
}

#[test]
fn a_buffer_of_a_cancelled_future_lives_until_its_command_ends() {
    let chip = chip();
    let device = open(&chip);
    block_on(async {
        let queue = queue(&device);
        let semaphore = device.buffer(8).unwrap();
        let output = device.buffer(1 << 16).unwrap();
        let before = device.space().usage().used;
        {
            let blocked = queue.submit(&Command::wait(&semaphore, 1, 9_000), SOON);
            let fill = queue.submit(&Command::fill(&output, 1, 1 << 16), SOON);
            drop(output);
            assert!(timeout(Duration::from_millis(20), fill).await.is_err());
            assert!(timeout(Duration::from_millis(20), blocked).await.is_err());
        }
        assert_eq!(
            device.space().usage().used,
            before,
            "the chip has yet to write it"
        );
        semaphore.store(0, 1).unwrap();
        queue.submit(&Command::nop(), SOON).await.unwrap();
        assert_eq!(device.space().usage().used, before - (1 << 16));
    });
    assert_strict(&chip);
}

#[test]
fn when_the_future_that_watches_the_queue_is_dropped_another_does() {
    let chip = chip();
    let device = open(&chip);
    block_on(async {
        let queue = queue(&device);
        let semaphore = device.buffer(8).unwrap();
        let mut first = Box::pin(queue.submit(&Command::wait(&semaphore, 1, 9_000), SOON));
        let mut last = Box::pin(queue.submit(&Command::nop(), SOON));
        let first = tokio::task::unconstrained(async move {
            std::future::poll_fn(|context| {
                assert!(first.as_mut().poll(context).is_pending());
                assert!(last.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            drop(last);
            semaphore.store(0, 1).unwrap();
            first.await
        });
        assert_eq!(timeout(SOON, first).await.unwrap().unwrap(), 1);
    });
    assert_strict(&chip);
}

#[test]
fn when_the_next_to_watch_the_queue_is_dropped_unpolled_another_does() {
    let chip = chip();
    let device = open(&chip);
    block_on(async {
        let queue = Rc::new(queue(&device));
        let semaphores = device.buffer(24).unwrap();
        let task = |number: u64| {
            let (queue, semaphores) = (Rc::clone(&queue), semaphores.clone());
            tokio::task::spawn_local(async move {
                let wait = Command::wait((&semaphores, number * 8), 1, 9_000);
                queue.submit(&wait, SOON).await
            })
        };
        let watches = queue.submit(&Command::wait(&semaphores, 1, 9_000), SOON);
        let last = task(1);
        tokio::task::yield_now().await;
        let next = task(2);
        tokio::task::yield_now().await;
        semaphores.store(0, 1).unwrap();
        watches.await.unwrap();
        next.abort();
        semaphores.store(8, 1).unwrap();
        assert_eq!(timeout(SOON, last).await.unwrap().unwrap().unwrap(), 1);
        semaphores.store(16, 1).unwrap();
    });
    assert_strict(&chip);
}

#[test]
fn a_deadline_ends_a_future_and_not_its_command() {
    let chip = chip();
    let device = open(&chip);
    block_on(async {
        let queue = queue(&device);
        let semaphore = device.buffer(8).unwrap();
        let wait = Command::wait(&semaphore, 1, 9_000);
        let late = queue.submit(&wait, Duration::from_millis(30)).await;
        assert!(matches!(late, Err(Error::TimedOut { .. })), "{late:?}");
        let next = queue.submit(&Command::nop(), SOON);
        semaphore.store(0, 1).unwrap();
        next.await.unwrap();
    });
    assert_strict(&chip);
}

#[test]
fn a_full_queue_and_a_bad_command_are_outputs_of_their_futures() {
    let chip = chip();
    let device = open(&chip);
    block_on(async {
        let queue = queue(&device);
        let empty = device.buffer(8).unwrap();
        let bad = queue.submit(&Command::fill(&empty, 0, 9), SOON).await;
        assert!(matches!(bad, Err(Error::Invalid { .. })), "{bad:?}");
        let all: Vec<_> = (0..64)
            .map(|_| queue.submit(&Command::nop(), SOON))
            .collect();
        let one_more = queue.submit(&Command::nop(), SOON).await;
        assert!(
            matches!(one_more, Err(Error::QueueFull { .. })),
            "{one_more:?}"
        );
        for one in all {
            one.await.unwrap();
        }
    });
    assert_strict(&chip);
}

#[test]
fn a_chip_that_dies_ends_every_future_in_that_error() {
    let chip = chip();
    let opened = open(&chip);
    block_on(async {
        let queue = queue(&opened);
        let semaphore = opened.buffer(8).unwrap();
        let waits: Vec<_> = (0..4)
            .map(|_| queue.submit(&Command::wait(&semaphore, 1, 9_000), SOON))
            .collect();
        let Opened { serving, .. } = opened;
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(serving);
        });
        for wait in waits {
            let error = wait.await.unwrap_err();
            assert!(matches!(error, Error::Disconnected { .. }), "{error}");
        }
        killer.join().unwrap();
    });
}

#[test]
fn a_queue_is_polled_again_after_its_futures() {
    let chip = chip();
    let device = open(&chip);
    let mut queue = block_on(async {
        let queue = queue(&device);
        queue.submit(&Command::nop(), SOON).await.unwrap();
        queue.into_inner()
    });
    queue.run(&Command::nop(), SOON).unwrap();
    assert_strict(&chip);
}

#[test]
fn futures_outside_of_a_runtime_are_an_error() {
    let chip = chip();
    let device = open(&chip);
    let queue = device.create_queue(&QueueOptions::default()).unwrap();
    let error = queue.into_async().unwrap_err();
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[test]
fn by_policy_futures_are_told_the_fault_and_the_chip_comes_back() {
    let chip = chip();
    let options = OpenOptions::default().recovery(RecoveryPolicy::DeviceOnly);
    let device = try_open(&chip, &options).unwrap();
    let semaphore = device.buffer(8).unwrap();
    let queue = device.create_queue(&QueueOptions::default()).unwrap();
    let queue = block_on(async {
        let queue = queue.into_async().unwrap();
        let wait = Command::wait(&semaphore, 1, 9_000);
        let waiting = queue.submit(&wait, SOON);
        chip.inject(Verb::FirmwareCrash).unwrap();
        let error = waiting.await.unwrap_err();
        assert!(matches!(error, Error::Faulted { .. }), "{error}");
        queue
    });
    let mut queue = queue.into_inner();
    // A runtime that ends drops what it has not begun; then this is who meets the fault.
    if device.check().is_err() {
        device.check().unwrap();
    }
    queue.reset(SOON).unwrap();
    queue.run(&Command::nop(), SOON).unwrap();
}
