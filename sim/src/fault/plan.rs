//! Faults that wait for their occasion.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use auk_asic::io::IoOpcode;

use crate::inject::{Injection, Occasion, Trigger, Verb};

/// An occasion as it is met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub(crate) occasion: Occasion,
    pub(crate) queue: Option<u16>,
    pub(crate) opcode: Option<u8>,
    pub(crate) register: Option<u64>,
}

impl Met {
    pub(crate) const fn of(occasion: Occasion) -> Self {
        Self {
            occasion,
            queue: None,
            opcode: None,
            register: None,
        }
    }

    pub(crate) const fn on_queue(self, queue: u16) -> Self {
        Self {
            queue: Some(queue),
            ..self
        }
    }

    pub(crate) const fn with_opcode(self, opcode: u8) -> Self {
        Self {
            opcode: Some(opcode),
            ..self
        }
    }

    pub(crate) const fn at_register(self, register: u64) -> Self {
        Self {
            register: Some(register),
            ..self
        }
    }
}

/// One fault that waits.
#[derive(Debug)]
struct Waiting {
    verb: Verb,
    when: Trigger,
    occasion: Occasion,
    /// Not before; for what happens by the clock, the next time.
    due: Instant,
    passed: u64,
    acted: u64,
    chance: fastrand::Rng,
}

impl Waiting {
    /// Whether it happens now that this is met.
    fn meets(&mut self, met: Met, now: Instant) -> bool {
        let differs = |wanted: Option<u64>, found: Option<u64>| wanted.is_some() && wanted != found;
        if self.occasion != met.occasion
            || now < self.due
            || differs(self.when.queue.map(u64::from), met.queue.map(u64::from))
            || differs(
                self.when.opcode.map(|opcode| u64::from(opcode.code())),
                met.opcode.map(u64::from),
            )
            || differs(self.when.register, met.register)
            || !befalls(&self.verb, met)
        {
            return false;
        }
        self.passed += 1;
        self.passed > self.when.skip
            && (self.when.one_in <= 1 || self.chance.u64(0..self.when.one_in) == 0)
    }

    fn is_over(&self) -> bool {
        self.when.times != 0 && self.acted >= self.when.times
    }
}

/// Whether the fault can befall this: a command with that opcode, and of what goes through no queue only what is computed.
fn befalls(verb: &Verb, met: Met) -> bool {
    let is_of_self_test = met.occasion == Occasion::Command && met.queue.is_none();
    if is_of_self_test && !matches!(verb, Verb::ResultFlip) {
        return false;
    }
    let only: &[IoOpcode] = match verb {
        Verb::DmaUnmapped => &[IoOpcode::Copy, IoOpcode::Fill, IoOpcode::Launch],
        Verb::DmaShort => &[IoOpcode::Copy, IoOpcode::Fill],
        Verb::CopyFlip => &[IoOpcode::Copy],
        Verb::ResultFlip => &[IoOpcode::Launch],
        _ => return true,
    };
    met.opcode
        .is_some_and(|opcode| only.iter().any(|only| only.code() == opcode))
}

/// The faults of a chip that wait, and how often each has happened.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    waiting: Vec<Waiting>,
    /// Bit n: one waits for the occasion with the number n.
    watched: u8,
    acted: BTreeMap<&'static str, u64>,
}

impl Plan {
    /// Has a fault wait.
    pub(crate) fn add(&mut self, injection: &Injection, now: Instant) {
        let Injection { verb, when, .. } = injection;
        self.waiting.push(Waiting {
            occasion: when.occasion(verb),
            due: now + Duration::from_millis(when.after_ms),
            passed: 0,
            acted: 0,
            chance: fastrand::Rng::with_seed(when.seed),
            verb: verb.clone(),
            when: when.clone(),
        });
        self.look();
    }

    /// Nothing waits any more.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.look();
    }

    fn look(&mut self) {
        self.waiting.retain(|waiting| !waiting.is_over());
        let bits = self.waiting.iter().map(|waiting| bit(waiting.occasion));
        self.watched = bits.fold(0, |watched, bit| watched | bit);
    }

    /// Whether anything waits for this.
    #[inline]
    pub(crate) fn watches(&self, occasion: Occasion) -> bool {
        self.watched & bit(occasion) != 0
    }

    /// What happens now that this is met.
    #[cold]
    pub(crate) fn meet(&mut self, met: Met, now: Instant) -> Vec<Verb> {
        let mut happens = Vec::new();
        for waiting in &mut self.waiting {
            if waiting.meets(met, now) {
                waiting.acted += 1;
                happens.push(waiting.verb.clone());
            }
        }
        self.note(&happens);
        happens
    }

    /// What happens by the clock until now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Verb> {
        let mut happens = Vec::new();
        for waiting in &mut self.waiting {
            while waiting.occasion == Occasion::Now && waiting.due <= now && !waiting.is_over() {
                waiting.acted += 1;
                waiting.due += Duration::from_millis(waiting.when.every_ms.max(1));
                happens.push(waiting.verb.clone());
            }
        }
        self.note(&happens);
        happens
    }

    fn note(&mut self, happens: &[Verb]) {
        for verb in happens {
            *self.acted.entry(verb.name()).or_default() += 1;
        }
        if !happens.is_empty() {
            self.look();
        }
    }

    /// When something happens by the clock next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let timed = self.waiting.iter();
        timed
            .filter(|waiting| waiting.occasion == Occasion::Now)
            .map(|waiting| waiting.due)
            .min()
    }

    /// How often each fault has happened, by its name.
    pub(crate) const fn acted(&self) -> &BTreeMap<&'static str, u64> {
        &self.acted
    }
}

const fn bit(occasion: Occasion) -> u8 {
    1 << occasion as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(verb: Verb, when: Trigger) -> (Plan, Instant) {
        let now = Instant::now();
        let mut plan = Plan::default();
        plan.add(&Injection::new("chip", verb).when(when), now);
        (plan, now)
    }

    const COPY: Met = Met::of(Occasion::Completion)
        .on_queue(2)
        .with_opcode(IoOpcode::Copy.code());

    #[test]
    fn a_fault_happens_once_at_its_next_occasion() {
        let (mut plan, now) = plan(Verb::CompletionDrop, Trigger::default());
        assert!(plan.watches(Occasion::Completion) && !plan.watches(Occasion::Command));
        assert_eq!(plan.meet(COPY, now), [Verb::CompletionDrop]);
        assert!(!plan.watches(Occasion::Completion));
        assert_eq!(plan.meet(COPY, now), []);
        assert_eq!(plan.acted()["completion-drop"], 1);
    }

    #[test]
    fn occasions_are_let_go_until_all_that_is_said_holds() {
        let when = Trigger {
            queue: Some(2),
            opcode: Some(crate::inject::Opcode::Copy),
            skip: 2,
            after_ms: 50,
            times: 2,
            ..Trigger::default()
        };
        let (mut plan, now) = plan(Verb::CompletionDrop, when);
        let later = now + Duration::from_millis(50);
        assert_eq!(plan.meet(COPY, now), [], "too early");
        assert_eq!(plan.meet(COPY.on_queue(1), later), []);
        let nop = COPY.with_opcode(IoOpcode::Nop.code());
        assert_eq!(plan.meet(nop, later), []);
        let happened: Vec<_> = (0..6).map(|_| plan.meet(COPY, later).len()).collect();
        assert_eq!(happened, [0, 0, 1, 1, 0, 0]);
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed_and_near_its_rate() {
        let run = |seed| {
            let when = Trigger {
                one_in: 10,
                times: 0,
                seed,
                ..Trigger::default()
            };
            let (mut plan, now) = plan(Verb::CompletionDrop, when);
            (0..10_000)
                .map(|_| !plan.meet(COPY, now).is_empty())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let hits = run(7).into_iter().filter(|hit| *hit).count();
        assert!((850..1150).contains(&hits), "{hits}");
    }

    #[test]
    fn what_happens_by_the_clock_is_caught_up_with() {
        let when = Trigger {
            after_ms: 100,
            every_ms: 10,
            times: 3,
            ..Trigger::default()
        };
        let (mut plan, now) = plan(Verb::EccUe, when);
        assert_eq!(plan.next_due(), Some(now + Duration::from_millis(100)));
        assert_eq!(plan.due(now), []);
        assert_eq!(plan.due(now + Duration::from_millis(110)).len(), 2);
        assert_eq!(plan.due(now + Duration::from_secs(9)).len(), 1);
        assert_eq!(plan.next_due(), None);
    }

    #[test]
    fn a_wrong_bit_befalls_only_what_has_data() {
        let (mut plan, now) = plan(Verb::CopyFlip, Trigger::default());
        let command = |opcode: IoOpcode| {
            Met::of(Occasion::Command)
                .on_queue(1)
                .with_opcode(opcode.code())
        };
        assert_eq!(plan.meet(command(IoOpcode::Nop), now), []);
        assert_eq!(plan.meet(command(IoOpcode::Copy), now), [Verb::CopyFlip]);
    }
}
