//! What tests of injected faults share.

use std::time::Duration;

use auk_asic::completion::Tail;
use auk_asic::io::IoCommand;
use auk_sim::inject::{Injection, Trigger, Verb};

use super::{Queue, Rig, eventually, small};

/// What shows that something does not happen.
pub const WHILE: Duration = Duration::from_millis(30);

pub fn rig() -> (Rig, Queue) {
    let mut rig = Rig::new(small());
    let queue = rig.queue(1);
    (rig, queue)
}

pub fn inject(rig: &Rig, verb: Verb) {
    rig.chip.inject(verb).unwrap();
}

pub fn inject_when(rig: &Rig, verb: Verb, when: Trigger) {
    let injection = Injection::new("", verb).when(when);
    rig.chip.inject_when(&injection).unwrap();
}

pub fn nops(rig: &mut Rig, queue: &mut Queue, count: usize) {
    for _ in 0..count {
        queue.push(rig, IoCommand::Nop.encode());
    }
    queue.ring(rig);
}

pub fn tails(rig: &Rig, queue: &mut Queue, count: usize) -> Vec<Tail> {
    (0..count)
        .map(|_| eventually("a completion", || queue.raw(rig)))
        .collect()
}

pub fn ids(rig: &Rig, queue: &mut Queue, count: usize) -> Vec<u16> {
    let tails = tails(rig, queue, count);
    tails.iter().map(Tail::command_id).collect()
}

pub fn nothing_more(rig: &Rig, queue: &mut Queue) {
    std::thread::sleep(WHILE);
    assert_eq!(queue.raw(rig), None);
}
