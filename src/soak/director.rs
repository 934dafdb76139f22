//! Injects faults into one chip, one after the other, and holds what is seen against what should be.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use auk_health::operator::Order;
use auk_health::verdict::HealthState;
use auk_health::{AgentHandle, client};
use auk_sim::host::{SimulatedChip, SimulatedHost};
use auk_sim::inject::{Injection, Occasion};
use fastrand::Rng;

use super::cases::{Case, Sight};
use super::ledger::{Ledger, Signal, Wish};

/// How long a fault may take to befall the chip, to be seen, and the job to be back at work afterwards.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rest between two faults, in which nothing may be seen.
pub(super) const QUIET: Duration = Duration::from_millis(150);
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

impl Outcome {
    /// One more of them.
    pub(super) fn add(
        &mut self,
        (seen, detection): (bool, Duration),
        (recovered, recovery): (bool, Duration),
    ) {
        self.injected += 1;
        self.detected += u64::from(seen);
        self.recovered += u64::from(recovered);
        self.detection = self.detection.max(detection);
        self.recovery = self.recovery.max(recovery);
    }
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
    /// So many occasions of a fault at most pass before it happens.
    pub(super) skips: u64,
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

    /// What a check of the agent says of a component.
    pub(super) fn says(&self, bdf: &str, check: &str) -> Option<HealthState> {
        let status = self.agent.status();
        Some(status.component(bdf)?.verdict(check)?.state)
    }

    /// What the agent says of a component, all in all.
    pub(super) fn state(&self, bdf: &str) -> Option<HealthState> {
        Some(self.agent.status().component(bdf)?.state)
    }

    /// Why the agent calls a component what it does.
    pub(super) fn reasons(&self, bdf: &str) -> String {
        let status = self.agent.status();
        let verdicts = status.component(bdf).map(|component| &*component.verdicts);
        let ill = verdicts.unwrap_or_default().iter();
        let ill = ill.filter(|verdict| verdict.counts && verdict.state != HealthState::Healthy);
        let reasons = ill.map(|verdict| format!("{}: {}", verdict.check, verdict.reason));
        reasons.collect::<Vec<_>>().join("; ")
    }

    /// Has the agent drop what a check, or all that it knows, holds against a component. False when it cannot be dropped as yet.
    pub(super) fn clear(&self, bdf: &str, check: Option<&str>) -> bool {
        let state = match check {
            Some(check) => self.says(bdf, check),
            None => self.state(bdf),
        };
        if state == Some(HealthState::Healthy) {
            return true;
        }
        let order = Order::Clear {
            component: bdf.to_owned(),
            check: check.map(str::to_owned),
            reason: "the soak injects the next fault".to_owned(),
        };
        let cleared = client::order(self.host.root(), &order, ORDER);
        if let Err(error) = &cleared {
            tracing::debug!(%error, check, "not cleared");
        }
        cleared.is_ok()
    }

    /// Waits for something, for so long at most. False when it did not come.
    pub(super) fn until(&self, patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if is_so() {
                return true;
            }
            if Instant::now() >= deadline || self.hurry.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
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
            let skip = random.u64(0..self.scene.skips);
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
        if case.wish.is_none() && case.verb.entry().occasion != Occasion::Now {
            case.when.skip = skip;
        }
        for sight in case.sights {
            if let Some(check) = sight.check()
                && !self.clear(check)
            {
                let held = self.scene.reasons(&self.chip.bdf.to_string());
                return self.unexplained(&format!(
                    "{check} holds on to what was before {name}: {held}"
                ));
            }
        }
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
        let acted = self
            .scene
            .until(PATIENCE, || self.acted(name) > acted_before);
        let met = Instant::now();
        let mut signals = Vec::new();
        let seen = acted
            && self.scene.until(PATIENCE, || {
                signals.extend(self.ledger.take_signals());
                let mut sights = case.sights.iter();
                sights.all(|sight| self.is_seen(*sight, &signals))
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
            // A fault that the end of the soak cut short says nothing.
            if stopping && !(seen && recovered) {
                return;
            }
            let outcome = record.outcomes.entry(name).or_default();
            outcome.add((seen, detection), (recovered, recovery));
        });
    }

    fn acted(&self, name: &str) -> u64 {
        self.chip.chip.faults().get(name).copied().unwrap_or(0)
    }

    fn says(&self, check: &str) -> Option<HealthState> {
        self.scene.says(&self.chip.bdf.to_string(), check)
    }

    /// Has the agent drop what a check holds against the chip, so that it can be seen to find it again, and waits until it says that
    /// all is well. What no order clears a restart and a self-test do.
    fn clear(&self, check: &str) -> bool {
        // What the agent knew before the last fault was over is not to be acted upon.
        let is_there = || self.says("presence") == Some(HealthState::Healthy);
        if check != "presence" {
            self.scene.until(PATIENCE, is_there);
        }
        if !self.scene.clear(&self.chip.bdf.to_string(), Some(check)) {
            self.ledger.wish(Wish::Cure);
        }
        let is_well = || self.says(check) == Some(HealthState::Healthy);
        let cleared = self.scene.until(PATIENCE, is_well);
        self.ledger.take_signals();
        cleared || self.scene.stopping()
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
            Sight::Check(check) => matches!(
                self.says(check),
                Some(HealthState::Degraded | HealthState::Unhealthy)
            ),
            Sight::Blind(check) => self.says(check) == Some(HealthState::Unobservable),
        }
    }

    /// Waits for right answers to come again: two, for the first may have been under way.
    fn await_work(&self) -> bool {
        let before = self.ledger.counts().acknowledged;
        self.scene
            .until(PATIENCE, || self.ledger.counts().acknowledged >= before + 2)
    }

    fn unexplained(&self, what: &str) {
        let line = format!("{}: {what}", self.chip.bdf);
        self.scene.note(|record| record.unexplained.push(line));
    }
}
