//! The rings against memory that holds anything, and against a model of what may be in flight.

use std::sync::atomic::{AtomicU64, Ordering};

use auk_asic::Status;
use auk_asic::completion::Tail;
use auk_asic::io::IoCommand;
use auk_asic::submission::Submission;
use proptest::prelude::*;

use super::{
    Commands, CompletionPlace, CompletionRing, Ended, Entry, Full, Pending, SubmissionRing,
    SubmissionWords, Token,
};

const QUEUE: u16 = 3;
const TAG: u16 = 0xBEEF;
const SERIAL: u16 = 0xA5;

/// A zeroed ring of places of `N` words.
fn memory<const N: usize>(bytes: usize) -> Vec<[AtomicU64; N]> {
    (0..bytes / 8 / N)
        .map(|_| std::array::from_fn(|_| AtomicU64::new(0)))
        .collect()
}

fn post(memory: &[CompletionPlace], index: usize, tail: Tail, result: u64) {
    let [first, last] = &memory[index];
    first.store(result, Ordering::Relaxed);
    last.store(tail.into_bits(), Ordering::Release);
}

fn tail(phase: bool, command_id: u16) -> Tail {
    Tail::new()
        .with_phase(phase)
        .with_tag(TAG)
        .with_queue(QUEUE)
        .with_command_id(command_id)
}

fn completion(command_id: u16, status_code: u16, result: u64) -> Entry {
    let tail = Tail::new()
        .with_command_id(command_id)
        .with_status_code(status_code & 0x7FFF);
    Entry { tail, result }
}

/// A command that keeps `held` alive.
fn begin<T>(commands: &mut Commands<Option<T>>, held: T) -> Result<(Token, u16), Full> {
    let mut given = 0;
    let keep = |id, place: &mut Option<T>| {
        given = id;
        *place = Some(held);
        Ok(())
    };
    let token = commands.begin(keep, |full| full)?;
    Ok((token, given))
}

#[test]
fn entries_lie_one_after_the_other_and_wrap() {
    let memory = memory(SubmissionRing::bytes(1));
    let mut ring = SubmissionRing::default();
    let nop = IoCommand::Nop.encode().fenced();
    let entry = |id| nop.with_id(id);
    for id in 1..=3 {
        ring.write(&memory, &SubmissionWords::new(nop), id);
    }
    assert_eq!(ring.tail(), 3);
    let words: Vec<u64> = memory
        .iter()
        .flatten()
        .map(|word| word.load(Ordering::Relaxed))
        .collect();
    let first: [u64; 8] = zerocopy::transmute!(entry(3));
    let second: [u64; 8] = zerocopy::transmute!(entry(2));
    assert_eq!(words[..8], first);
    assert_eq!(words[8..], second);
    assert_eq!(Submission::SIZE, 64);
}

#[test]
fn a_completion_is_seen_once_and_the_phase_turns_with_each_lap() {
    let memory = memory(CompletionRing::bytes(1));
    let mut ring = CompletionRing::new(QUEUE, TAG);
    for lap in 0..4u16 {
        for index in 0..2u16 {
            assert_eq!(ring.next(&memory), None);
            post(
                &memory,
                usize::from(index),
                tail(lap % 2 == 0, lap * 2 + index),
                7,
            );
            assert!(ring.has_next(&memory));
            let entry = ring.next(&memory).unwrap();
            assert_eq!(
                (entry.tail.command_id(), entry.result),
                (lap * 2 + index, 7)
            );
        }
    }
    assert_eq!((ring.head(), ring.strays()), (8, 0));
}

#[test]
fn a_completion_of_a_former_life_or_another_queue_waits_to_be_overwritten() {
    let memory = memory(CompletionRing::bytes(1));
    let mut ring = CompletionRing::new(QUEUE, TAG);
    for stray in [tail(true, 1).with_tag(1), tail(true, 1).with_queue(9)] {
        post(&memory, 0, stray, 0);
        assert_eq!((ring.next(&memory), ring.next(&memory)), (None, None));
        assert!(!ring.has_next(&memory));
    }
    assert_eq!(ring.strays(), 2);
    post(&memory, 0, tail(true, 5), 0);
    assert_eq!(
        ring.next(&memory).map(|entry| entry.tail.command_id()),
        Some(5)
    );
}

#[test]
fn a_status_that_does_not_exist_ends_its_command_as_an_error() {
    let mut commands = Commands::new(2, SERIAL);
    let (token, id) = begin(&mut commands, ()).unwrap();
    assert_eq!(commands.end(completion(id, 0x7FFF, 0)), Some(token));
    assert!(matches!(commands.collect(token), Ok(Ended::Unknown(_))));
}

#[test]
fn a_completion_that_is_said_twice_ends_nothing_twice() {
    let mut commands = Commands::new(1, SERIAL);
    let (first, id) = begin(&mut commands, ()).unwrap();
    assert!(commands.end(completion(id, 0, 0)).is_some());
    assert!(commands.end(completion(id, 0, 0)).is_none());
    commands.collect(first).unwrap();
    let (second, next) = begin(&mut commands, ()).unwrap();
    // The same place, another identifier: the old completion is still nobody's.
    assert_ne!(id, next);
    assert!(commands.end(completion(id, 0, 0)).is_none());
    assert_eq!(commands.collect(first), Err(Pending::Unknown));
    assert_eq!(commands.collect(second), Err(Pending::Running));
    assert_eq!(commands.unmatched(), 2);
}

#[test]
fn what_outlives_a_queue_is_what_its_commands_hold_and_no_table_of_them() {
    let held = std::rc::Rc::new(());
    let mut commands = Commands::new(10, SERIAL);
    begin(&mut commands, held.clone()).unwrap();
    begin(&mut commands, held.clone()).unwrap();
    commands.lose_all();
    let kept = commands.into_kept();
    assert_eq!(kept.len(), 2);
    assert_eq!(std::rc::Rc::strong_count(&held), 3);
    drop(kept);
    assert_eq!(std::rc::Rc::strong_count(&held), 1);
}

#[test]
fn what_a_lost_command_holds_is_kept_until_it_is_released() {
    let held = std::rc::Rc::new(());
    let mut commands = Commands::new(1, SERIAL);
    let (token, _) = begin(&mut commands, held.clone()).unwrap();
    commands.lose_all();
    assert_eq!(commands.collect(token), Ok(Ended::Lost));
    assert_eq!(commands.collect(token), Err(Pending::Unknown));
    assert_eq!(std::rc::Rc::strong_count(&held), 2);
    // Its place is not used again: there are two.
    assert!(begin(&mut commands, held.clone()).is_ok());
    assert!(begin(&mut commands, held.clone()).is_err());
    assert_eq!(std::rc::Rc::strong_count(&held), 3);
    drop(commands);
    assert_eq!(std::rc::Rc::strong_count(&held), 1);
}

#[test]
fn a_token_of_another_queue_is_unknown() {
    let mut commands = Commands::new(2, SERIAL);
    let mut others = Commands::new(2, SERIAL + 1);
    let (token, id) = begin(&mut commands, ()).unwrap();
    let (other, same) = begin(&mut others, ()).unwrap();
    assert_eq!(id, same);
    assert_eq!(commands.collect(other), Err(Pending::Unknown));
    assert!(!commands.contains(other) && commands.contains(token));
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    End(usize),
    EndAndCollect(usize),
    Bogus(u16, u16),
    Collect(usize),
    CollectOldest,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Begin),
        any::<usize>().prop_map(Step::End),
        any::<usize>().prop_map(Step::EndAndCollect),
        any::<(u16, u16)>().prop_map(|(id, status)| Step::Bogus(id, status)),
        any::<usize>().prop_map(Step::Collect),
        Just(Step::CollectOldest),
    ]
}

proptest! {
    #[test]
    fn no_memory_makes_the_completion_ring_panic(
        words in proptest::collection::vec(any::<u64>(), 32),
        phase_bits in any::<u64>(),
    ) {
        let memory = memory(CompletionRing::bytes(4));
        for (i, (cell, word)) in memory.iter().flatten().zip(words).enumerate() {
            // Half of them with queue and tag right, so that more than the first check is reached.
            let tail = Tail::from_bits(word).with_queue(QUEUE).with_tag(TAG);
            let word = if phase_bits >> i & 1 == 1 { tail.into_bits() } else { word };
            cell.store(word, Ordering::Relaxed);
        }
        let mut ring = CompletionRing::new(QUEUE, TAG);
        let mut commands = Commands::new(4, SERIAL);
        for _ in 0..8 {
            let _ = begin(&mut commands, ());
        }
        let mut ended = 0;
        for _ in 0..64 {
            if let Some(entry) = ring.next(&memory) {
                ended += u32::from(commands.end(entry).is_some());
            }
        }
        prop_assert!(ring.head() <= 16);
        prop_assert_eq!(commands.in_flight(), 8 - ended);
    }

    #[test]
    fn every_command_ends_once_whatever_order_the_chip_and_the_caller_choose(
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut commands = Commands::new(2, SERIAL);
        let mut running = Vec::new();
        let mut ended = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Begin => match begin(&mut commands, number) {
                    Ok((token, id)) => running.push((token, id)),
                    Err(full) => {
                        prop_assert_eq!(running.len() + ended.len(), 4);
                        prop_assert_eq!(full.in_flight as usize, running.len());
                        prop_assert_eq!(full.uncollected as usize, ended.len());
                    }
                },
                Step::End(which) if !running.is_empty() => {
                    let (token, id) = running.remove(which % running.len());
                    prop_assert_eq!(commands.command_id(token), Some(id));
                    prop_assert_eq!(commands.end(completion(id, 0, u64::from(id))), Some(token));
                    ended.push((token, id));
                }
                Step::EndAndCollect(which) if !running.is_empty() => {
                    let (token, id) = running.remove(which % running.len());
                    prop_assert_eq!(commands.end_and_collect(completion(id, 0, 7)), Some(token));
                    prop_assert_eq!(commands.collect(token), Err(Pending::Unknown));
                }
                Step::Bogus(id, status) if !running.iter().any(|(_, known)| *known == id) => {
                    prop_assert_eq!(commands.end(completion(id, status, 0)), None);
                }
                Step::Collect(which) if !ended.is_empty() => {
                    let (token, id) = ended.remove(which % ended.len());
                    let expected = Ended::Completed { status: Status::Success, result: u64::from(id) };
                    prop_assert_eq!(commands.collect(token), Ok(expected));
                    prop_assert_eq!(commands.collect(token), Err(Pending::Unknown));
                }
                Step::CollectOldest => {
                    let found = commands.collect_oldest().map(|(token, _)| token);
                    let expected = (!ended.is_empty()).then(|| ended.remove(0).0);
                    prop_assert_eq!(found, expected);
                }
                Step::End(_) | Step::EndAndCollect(_) | Step::Bogus(..) | Step::Collect(_) => {}
            }
            prop_assert_eq!(commands.in_flight() as usize, running.len());
        }
    }
}
