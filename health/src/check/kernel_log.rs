//! What the kernel says: a check a topic, all of one kind. A line is one sign beside others; where the kernel counts the
//! same thing, its counters judge, and the line is told only.

use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::life::Life;
use super::over_time::{Growth, Latch, Window};
use super::own_doing::OwnDoing;
use super::{Check, Finding, View};
use crate::config::{self, Keys, Section};
use crate::facts::{FactKind, Heard, Kind};
use crate::kernel_log::rules::{self, Rule, Topic, Weight};
use crate::kernel_log::source;
use crate::verdict::{Action, Confidence, Evidence};

/// So many lines in a time.
type Rate = (u64, Duration);

/// Limits of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    degraded: Rate,
    /// A storm of what no job can have caused; `None` where no number of lines makes a component unhealthy.
    storm: Option<Rate>,
}

impl Section for Limits {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let windows = Duration::from_secs(60)..=Duration::from_secs(86_400);
        let why = "so many lines are more than an accident";
        keys.within("degraded_count", &mut self.degraded.0, 1..=1_000_000, why);
        let why = "the time in which degraded_count is too many";
        keys.within(
            "degraded_window",
            &mut self.degraded.1,
            windows.clone(),
            why,
        );
        let Some(storm) = &mut self.storm else { return };
        let why = "VT-d and AMD-Vi print at most 10 in 5 s, so this is minutes of nothing else";
        keys.within("storm_count", &mut storm.0, 1..=1_000_000, why);
        let why = "the time in which storm_count is a storm";
        keys.within("storm_window", &mut storm.1, windows, why);
        let names = ["storm_count", "degraded_count"];
        keys.require(self.degraded.0 < storm.0, &names, || {
            format!("more than degraded_count, which is {}", self.degraded.0)
        });
    }
}

/// Limits of all topics.
#[derive(Clone, Debug)]
pub(crate) struct AllLimits {
    iommu_faults: Limits,
    pcie_errors: Limits,
    reset_failures: Limits,
    driver_errors: Limits,
    machine_checks: Limits,
    stalls: Limits,
    out_of_memory: Limits,
}

impl Default for AllLimits {
    fn default() -> Self {
        let of = |count, minutes: u64| Limits {
            degraded: (count, Duration::from_secs(60 * minutes)),
            storm: None,
        };
        Self {
            // A job that dies with its transfers under way makes a few.
            iommu_faults: Limits {
                storm: Some((300, Duration::from_secs(600))),
                ..of(10, 10)
            },
            // As many as `aer_correctable` takes for too many, in lines of a kernel that prints 10 in 5 s at most.
            pcie_errors: of(50, 10),
            reset_failures: of(3, 10),
            driver_errors: of(3, 10),
            // A module that corrects errors now and then is as it should be.
            machine_checks: of(100, 24 * 60),
            stalls: of(3, 60),
            // One may be the fault of one process.
            out_of_memory: of(3, 60),
        }
    }
}

impl AllLimits {
    /// Those of the check of a name.
    pub(crate) fn of(&mut self, check: &str) -> Option<&mut Limits> {
        let all = [
            (IommuFaults::NAME, &mut self.iommu_faults),
            (PcieErrors::NAME, &mut self.pcie_errors),
            (ResetFailures::NAME, &mut self.reset_failures),
            (DriverErrors::NAME, &mut self.driver_errors),
            (MachineChecks::NAME, &mut self.machine_checks),
            (Stalls::NAME, &mut self.stalls),
            (OutOfMemory::NAME, &mut self.out_of_memory),
        ];
        all.into_iter()
            .find_map(|(name, limits)| (name == check).then_some(limits))
    }
}

/// What makes a topic a check.
trait Judged: Send {
    const NAME: &'static str;
    const TOPIC: Topic;
    /// What to do after a line that is trouble, and after one that ends all work.
    const SERIOUS: Action;
    const FATAL: Action;

    fn limits(limits: &AllLimits) -> &Limits;
}

macro_rules! topics {
    ($($topic:ident, $field:ident, $name:literal, $serious:ident, $fatal:ident;)+) => {
        $(
            #[derive(Debug)]
            struct $topic;

            impl Judged for $topic {
                const NAME: &'static str = $name;
                const TOPIC: Topic = Topic::$topic;
                const SERIOUS: Action = Action::$serious;
                const FATAL: Action = Action::$fatal;

                fn limits(limits: &AllLimits) -> &Limits {
                    &limits.$field
                }
            }
        )+
    };
}

topics! {
    IommuFaults, iommu_faults, "iommu_faults", Watch, Reset;
    PcieErrors, pcie_errors, "logged_pcie_errors", Watch, Reset;
    ResetFailures, reset_failures, "reset_failures", Reset, Reboot;
    DriverErrors, driver_errors, "driver_errors", Reset, Reset;
    MachineChecks, machine_checks, "machine_checks", Watch, Drain;
    Stalls, stalls, "stalls", Watch, Reboot;
    OutOfMemory, out_of_memory, "out_of_memory", Watch, Watch;
}

/// The checks of a PCI function.
pub(super) fn of_function() -> Vec<Box<dyn Check>> {
    vec![
        Box::<Logged<IommuFaults>>::default(),
        Box::<Logged<PcieErrors>>::default(),
        Box::<Logged<ResetFailures>>::default(),
        Box::<Logged<DriverErrors>>::default(),
    ]
}

/// The checks of the host.
pub(super) fn of_host() -> Vec<Box<dyn Check>> {
    vec![
        Box::<Followed>::default(),
        Box::<Logged<MachineChecks>>::default(),
        Box::<Logged<Stalls>>::default(),
        Box::<Logged<OutOfMemory>>::default(),
    ]
}

/// The check of a topic.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Logged<T> {
    lines: Window,
    /// What it did while no job had it.
    #[serde(default)]
    own: OwnDoing,
    storm: Window,
    latch: Latch,
    storm_latch: Latch,
    /// The last line that was weighed: an agent that was killed may have read on from before it.
    #[serde(default)]
    weighed: Option<u64>,
    /// The last line that was held against the component.
    last: Option<Line>,
    open: Option<Open>,
    /// Whether the kernel counts PCIe errors here; not known before it was read.
    counted: Option<bool>,
    #[serde(skip)]
    topic: PhantomData<fn() -> T>,
}

/// A line that weighed something.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    rule: String,
    sequence: u64,
    text: String,
    at_unix_ms: u64,
    /// Whether it may be about the time before the boot.
    #[serde(default)]
    left_over: bool,
}

/// A line that nothing has made good yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    line: Line,
    #[serde(flatten)]
    life: Life,
}

impl<T> Default for Logged<T> {
    fn default() -> Self {
        Self {
            lines: Window::default(),
            own: OwnDoing::default(),
            weighed: None,
            storm: Window::default(),
            latch: Latch::default(),
            storm_latch: Latch::default(),
            last: None,
            open: None,
            counted: None,
            topic: PhantomData,
        }
    }
}

impl Line {
    fn of(heard: &Heard, view: &View<'_>) -> Self {
        Self {
            rule: heard.rule.clone(),
            sequence: heard.sequence,
            text: heard.text.clone(),
            at_unix_ms: view
                .now
                .unix_ms
                .saturating_sub(crate::time::millis(heard.age)),
            left_over: is_left_over(heard, view),
        }
    }

    fn why(&self) -> &'static str {
        rules::named(&self.rule).map_or("the kernel complains of it", |rule| rule.why)
    }

    fn evidence(&self, limit: String) -> Evidence {
        Evidence {
            what: self.rule.clone(),
            found: self.text.clone(),
            limit,
            source: format!("{}, record {}", source::NAME, self.sequence),
            at_unix_ms: self.at_unix_ms,
        }
    }
}

impl<T: Judged> Check for Logged<T> {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::KernelLog]
    }

    fn at_first(&self) -> Finding {
        Finding::not_applicable("the kernel log is not followed here")
    }

    /// A boot takes everything anew: links, memory, tasks.
    fn rebooted(&mut self) {
        *self = Self::default();
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let heard = match &view.facts.kernel_log {
            Some(Ok(heard)) => heard,
            _ => {
                let why = "the kernel log is not read; see the host's kernel_log";
                // What was said stands; that no more is heard makes nothing good.
                return Err(match self.is_trouble() {
                    true => Finding::blind(why),
                    false => Finding::not_applicable(why),
                });
            }
        };
        self.learn(view);
        // What is counted is judged where it is counted.
        if T::TOPIC == Topic::PcieErrors && self.counted != Some(false) {
            let why = "the kernel counts PCIe errors here, and aer_correctable and aer_uncorrectable judge by that";
            return Err(Finding::not_applicable(why));
        }
        let weighed = self.weigh(heard, view);
        let now = view.now.uptime;
        let clear_after = view.settings.clear_after;
        let limits = T::limits(&view.settings.limits.kernel_log);
        let lines = sum(&weighed.counted, &mut self.lines, now, limits.degraded.1);
        let bad = !weighed.counted.is_empty() || weighed.serious;
        let too_many = lines >= limits.degraded.0 || weighed.serious;
        let degraded = self.latch.update(now, too_many, bad, clear_after);
        let storm = limits.storm.filter(|(most, window)| {
            for (at, count) in &weighed.counted {
                self.own.add(*at, *count);
            }
            let own = self.own.settle(view);
            let sum = sum(&own, &mut self.storm, now, *window);
            self.storm_latch
                .update(now, sum >= *most, !own.is_empty(), clear_after)
        });
        Ok(self.finding(view, lines, degraded, storm))
    }
}

/// What the lines of a look come to.
#[derive(Default)]
struct Weighed {
    /// How many were printed when, by the clock of looks.
    counted: Vec<(Duration, u64)>,
    serious: bool,
}

/// Adds what happened to a window, each at its time, and gives the window's sum.
fn sum(happened: &[(Duration, u64)], window: &mut Window, now: Duration, span: Duration) -> u64 {
    for (at, count) in happened {
        window.add(*at, span, Growth::at_once(*count));
    }
    window.add(now, span, Growth::at_once(0))
}

impl<T: Judged> Logged<T> {
    /// Whether something is held against the component.
    fn is_trouble(&self) -> bool {
        self.open.is_some() || self.latch.holds() || self.storm_latch.holds()
    }

    /// Takes what else the look saw: whether the kernel counts, and whether a chip has a new life.
    fn learn(&mut self, view: &View<'_>) {
        if let Some(Ok(aer)) = &view.facts.aer {
            self.counted = Some(aer.is_some());
        }
        let Ok((vitals, _)) = view.vitals() else {
            return;
        };
        self.open.take_if(|open| open.life.is_made_good(vitals));
    }

    fn weigh(&mut self, heard: &[Heard], view: &View<'_>) -> Weighed {
        let mut weighed = Weighed::default();
        let before = self.weighed;
        let limits = T::limits(&view.settings.limits.kernel_log);
        let storm = limits.storm.map_or(Duration::ZERO, |(_, window)| window);
        let window = limits.degraded.1.max(storm);
        let mut heard: Vec<&Heard> = heard.iter().collect();
        heard.sort_by_key(|heard| std::cmp::Reverse(heard.age));
        for heard in heard {
            let of_topic = |rule: &&Rule| rule.topic == T::TOPIC;
            let Some(rule) = rules::named(&heard.rule).filter(of_topic) else {
                continue;
            };
            if before.is_some_and(|before| heard.sequence <= before) {
                continue;
            }
            self.weighed = self.weighed.max(Some(heard.sequence));
            let weight = match rule.weight {
                Weight::Fatal if is_left_over(heard, view) => Weight::Serious,
                weight => weight,
            };
            let weighs = match weight {
                Weight::Note => false,
                Weight::Counted => heard.age < window && !at_boot(heard, view),
                Weight::Serious => heard.age < view.settings.clear_after,
                // Time proves nothing.
                Weight::Fatal => true,
            };
            if !weighs {
                continue;
            }
            let line = Line::of(heard, view);
            match weight {
                Weight::Fatal => {
                    let vitals = view.vitals().ok();
                    self.open = Some(Open {
                        line: line.clone(),
                        life: Life::of(vitals.map(|(vitals, _)| vitals)),
                    });
                }
                Weight::Serious => weighed.serious = true,
                _ => {
                    let at = view.now.uptime.saturating_sub(heard.age);
                    weighed.counted.push((at, heard.count));
                }
            }
            self.last = Some(line);
        }
        weighed
    }

    fn finding(&self, view: &View<'_>, lines: u64, degraded: bool, storm: Option<Rate>) -> Finding {
        let limits = T::limits(&view.settings.limits.kernel_log);
        if let Some(Open { line, life }) = &self.open {
            let over = match life.is_known() {
                true => "no new life with a passed self-test since",
                false => "nothing but a boot or a person's word says that it is over",
            };
            let reason = format!("{}; {over}", line.why());
            return Finding::unhealthy(reason, T::FATAL).with(line.evidence("none".to_owned()));
        }
        let Some(line) = self.last.as_ref().filter(|_| degraded || storm.is_some()) else {
            return Finding::healthy(match lines {
                0 => "the kernel says nothing of the kind".to_owned(),
                lines => format!("{lines} in {}", config::duration(limits.degraded.1)),
            });
        };
        let less_than =
            |(most, window): Rate| format!("less than {most} in {}", config::duration(window));
        let within = config::duration(limits.degraded.1);
        if let Some(rate) = storm {
            let reason = format!(
                "{}, all the time and with no job on it: {lines} in {within}",
                line.why()
            );
            return Finding::unhealthy(reason, T::FATAL)
                .with(line.evidence(less_than(rate)))
                .sure(Confidence::Medium);
        }
        let serious = rules::named(&line.rule)
            .is_some_and(|rule| matches!(rule.weight, Weight::Serious | Weight::Fatal));
        let (reason, action, limit) = match serious {
            true if line.left_over => (
                format!(
                    "{}, as the kernel said when it had just booted: it may have been before the boot",
                    line.why()
                ),
                T::SERIOUS,
                "none".to_owned(),
            ),
            true => (line.why().to_owned(), T::SERIOUS, "none".to_owned()),
            false => (
                format!("{}: {lines} in {within}{}", line.why(), whose(view, limits)),
                Action::Watch,
                less_than(limits.degraded),
            ),
        };
        let finding = Finding::degraded(reason, action)
            .with(line.evidence(limit))
            .sure(Confidence::Medium);
        Finding {
            // A job that opens what did not come back finds nothing there.
            hold: serious && T::TOPIC == Topic::ResetFailures,
            ..finding
        }
    }
}

/// Who may be at fault as well: a function goes where the job that has it sends it.
fn whose(view: &View<'_>, limits: &Limits) -> String {
    match &view.facts.holder {
        Some(holder) if limits.storm.is_some() => format!(
            "; process {} ({}) has it, and may have sent it there",
            holder.pid, holder.comm
        ),
        _ => String::new(),
    }
}

/// Whether a line may be about the time before the boot.
fn is_left_over(heard: &Heard, view: &View<'_>) -> bool {
    rules::named(&heard.rule).is_some_and(|rule| rule.left_over) && at_boot(heard, view)
}

/// Whether a line is of the time in which links train and drivers load.
fn at_boot(heard: &Heard, view: &View<'_>) -> bool {
    let at = view.now.uptime.saturating_sub(heard.age);
    let grace = view.settings.boot_grace;
    let booted = view.settings.booted;
    booted.is_some_and(|booted| at.saturating_sub(booted) < grace)
}

/// Whether the log can be followed at all.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Followed;

impl Check for Followed {
    fn name(&self) -> &'static str {
        "kernel_log"
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::KernelLog]
    }

    fn at_first(&self) -> Finding {
        Finding::not_applicable("this host shows no kernel log")
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        debug_assert_eq!(view.kind, Kind::Host);
        match &view.facts.kernel_log {
            Some(Ok(_)) => Ok(Finding::healthy("it is followed")),
            Some(Err(error)) => Err(Finding::blind(error.to_string())),
            None => Err(Finding::blind("it was not read")),
        }
    }
}
