//! Injects faults into one chip, one after the other, and holds what is seen against what should be.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auk_health::operator::Order;
use auk_health::verdict::HealthState;
use auk_health::{AgentHandle, client};
use auk_sim::host::{SimulatedChip, SimulatedHost};
use auk_sim::inject::{Injection, Verb};
use fastrand::Rng;

use super::cases::{Case, Sight};
use super::ledger::{Ledger, Signal};

/// How long a fault may take to befall the chip, to be seen, and the job to be back at work afterwards.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rest between two faults, in which nothing may be seen.
const QUIET: Duration = Duration::from_millis(150);
/// Longest wait for the agent to take an order.
const ORDER: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(2);

/// What became of a kind of fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) injected: u64,
    pub(super) detected: u64,
    pub(super) recovered: u64,
    /// Longest time from the fault to when all was seen, and from its end to the next right answer.
    pub(super) detection: Duration,
    pub(super) recovery: Duration,
}

/// What all directors write to.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) outcomes: BTreeMap<&'static str, Outcome>,
    /// What cannot be: seen without a fault, or not seen with one.
    pub(super) unexplained: Vec<String>,
}

/// What the directors of a soak share.
pub(super) struct Scene<'a> {
    pub(super) host: &'a SimulatedHost,
    pub(super) agent: &'a AgentHandle,
    pub(super) record: &'a Mutex<Record>,
    pub(super) stop: &'a AtomicBool,
    /// The user wants to end now: what is under way is given up.
    pub(super) hurry: &'a AtomicBool,
    /// What is mixed.
    pub(super) cases: Vec<Case>,
}

impl Scene<'_> {
    pub(super) fn note(&self, note: impl FnOnce(&mut Record)) {
        note(
            &mut self
                .record
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One chip and its job.
pub(super) struct Director<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) chip: &'a SimulatedChip,
    pub(super) ledger: &'a Ledger,
}

impl Director<'_> {
    /// Goes through the whole mix in ever another order, until it is told to stop.
    pub(super) fn direct(&self, seed: u64) {
        let mut random = Rng::with_seed(seed);
        let mut deck: Vec<Case> = Vec::new();
        self.await_work();
        self.ledger.take_signals();
        while !self.scene.stopping() {
            let Some(case) = deck.pop() else {
                deck.clone_from(&self.scene.cases);
                random.shuffle(&mut deck);
                continue;
            };
            let skip = random.u64(0..200);
            self.play(case, skip);
            std::thread::sleep(QUIET);
            let signals = self.ledger.take_signals();
            // A busy machine makes results late as well.
            for signal in signals.iter().filter(|signal| !signal.is_late()) {
                self.unexplained(&format!("without a fault: {signal:?}"));
            }
        }
    }

    fn play(&self, mut case: Case, skip: u64) {
        let name = case.verb.name();
        if case.wish.is_none() && case.verb.entry().occasion != auk_sim::inject::Occasion::Now {
            case.when.skip = skip;
        }
        for sight in case.sights {
            self.clear(*sight);
        }
        let standing: Vec<_> = case.sights.iter().map(|sight| self.says(*sight)).collect();
        let acted_before = self.acted(name);
        let target = self.chip.bdf.to_string();
        let injection = Injection::new(target.clone(), case.verb.clone()).when(case.when.clone());
        if let Err(error) = self.scene.host.inject(&injection) {
            // A queue that is to be stuck may be away at the moment.
            tracing::debug!(%error, "not injected");
            return;
        }
        if let Some(wish) = case.wish {
            self.ledger.wish(wish);
        }
        let injected = Instant::now();
        let acted = self.eventually(|| self.acted(name) > acted_before);
        let met = Instant::now();
        let mut signals = Vec::new();
        let seen = acted
            && self.eventually(|| {
                signals.extend(self.ledger.take_signals());
                let mut sights = case.sights.iter().zip(&standing);
                sights.all(|(sight, stands)| *stands || self.is_seen(*sight, &signals))
            });
        let detection = met.elapsed();
        // What needs no heal goes on for a while, so that the work meets it.
        if case.sights.is_empty() {
            std::thread::sleep(QUIET);
        }
        let end = Injection::new(target, case.end());
        if let Err(error) = self.scene.host.inject(&end) {
            self.unexplained(&format!("{name} could not be ended: {error}"));
        }
        let ended = Instant::now();
        let recovered = self.await_work();
        self.ledger.take_signals();
        let recovery = ended.elapsed();
        if !acted {
            // Interrupts are lost only where the job waits for them.
            if self.scene.stopping() || name == "interrupt-lost" {
                return;
            }
            self.unexplained(&format!(
                "{name} did not happen in {:?}",
                injected.elapsed()
            ));
            return;
        }
        if !seen && !self.scene.stopping() {
            let found = signals.last();
            self.unexplained(&format!(
                "{name} was not seen as {:?}; the last that was seen is {found:?}",
                case.sights
            ));
        }
        if !recovered {
            self.unexplained(&format!("no right answer in {PATIENCE:?} after {name}"));
        }
        let stopping = self.scene.stopping();
        self.scene.note(|record| {
            let outcome = record.outcomes.entry(name).or_default();
            // A fault that the end of the soak cut short says nothing.
            if stopping && !(seen && recovered) {
                return;
            }
            outcome.injected += 1;
            outcome.detected += u64::from(seen);
            outcome.recovered += u64::from(recovered);
            outcome.detection = outcome.detection.max(detection);
            outcome.recovery = outcome.recovery.max(recovery);
        });
    }

    fn acted(&self, name: &str) -> u64 {
        self.chip.chip.faults().get(name).copied().unwrap_or(0)
    }

    /// Whether a check of the agent holds something against the chip.
    fn says(&self, sight: Sight) -> bool {
        let Sight::Check(check) = sight else {
            return false;
        };
        let status = self.scene.agent.status();
        let component = status.component(&self.chip.bdf.to_string());
        let verdict = component.and_then(|component| component.verdict(check));
        verdict.is_some_and(|verdict| verdict.state != HealthState::Healthy)
    }

    /// Has the agent drop what a check holds against the chip, so that it can be seen to find it again. Some of it stands
    /// until the firmware was restarted.
    fn clear(&self, sight: Sight) {
        let Sight::Check(check) = sight else {
            return;
        };
        let order = Order::Clear {
            component: self.chip.bdf.to_string(),
            check: Some(check.to_owned()),
            reason: "the soak injects the next fault".to_owned(),
        };
        match client::order(self.scene.host.root(), &order, ORDER) {
            Ok(_) => {
                self.eventually(|| !self.says(sight));
            }
            Err(error) => tracing::debug!(%error, check, "not cleared"),
        }
    }

    fn is_seen(&self, sight: Sight, signals: &[Signal]) -> bool {
        match sight {
            Sight::Error => signals
                .iter()
                .any(|signal| matches!(signal, Signal::Error(_))),
            Sight::Wrong => signals
                .iter()
                .any(|signal| matches!(signal, Signal::Wrong(_))),
            Sight::Strays => signals
                .iter()
                .any(|signal| matches!(signal, Signal::Strays(_))),
            Sight::Late => signals
                .iter()
                .any(|signal| matches!(signal, Signal::Late(_))),
            Sight::Check(_) => self.says(sight),
        }
    }

    /// Waits for right answers to come again: two, for the first may have been under way.
    fn await_work(&self) -> bool {
        let before = self.ledger.counts().acknowledged;
        self.eventually(|| self.ledger.counts().acknowledged >= before + 2)
    }

    fn eventually(&self, mut is_so: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if is_so() {
                return true;
            }
            if Instant::now() >= deadline || self.scene.hurry.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn unexplained(&self, what: &str) {
        let line = format!("{}: {what}", self.chip.bdf);
        self.scene.note(|record| record.unexplained.push(line));
    }
}

/// The verb by which a whole host is ended.
pub(super) const KILL: Verb = Verb::ProcessKill;
