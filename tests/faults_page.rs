//! What the agent says of each fault of the catalogue: `docs/faults.md`, made by
//! `cargo test --test faults_page -- --ignored`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod faults_support;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use auk_health::verdict::{HealthState, Transition};
use auk_sim::inject::{Injection, Target, Trigger, Verb};
use faults_support::page::{Table, page, without_numbers};
use faults_support::{NIC, Ward, Work, at_once, run_for_another};

const TABLE: &str = "agent.tsv";
const COLUMNS: [&str; 7] = [
    "fault",
    "injected",
    "the agent says",
    "evidence",
    "to do, new jobs",
    "within",
    "found by",
];
/// Hosts that are played at a time: each waits for hearts to beat most of the time.
const AT_ONCE: usize = 12;

/// A fault, how it comes to happen, and how long it is watched.
struct Scenario {
    injection: Injection,
    /// What happened before, and is not looked at.
    after: Option<Verb>,
    /// What else is said of it.
    how: &'static str,
    work: Work,
    /// Happens so often, a minute after the other.
    minutes: u32,
    looks: u32,
    /// Who finds it, where the agent is not to.
    found_by: &'static str,
}

impl Scenario {
    fn of(verb: Verb) -> Self {
        Self {
            injection: at_once(verb),
            after: None,
            how: "",
            work: Work::Nothing,
            minutes: 0,
            looks: 16,
            found_by: "",
        }
    }

    fn on(self, target: &str) -> Self {
        let injection = Injection {
            target: target.to_owned(),
            ..self.injection
        };
        Self { injection, ..self }
    }

    fn when(self, when: Trigger) -> Self {
        let injection = self.injection.when(when);
        Self { injection, ..self }
    }

    fn how(self, how: &'static str) -> Self {
        Self { how, ..self }
    }

    fn with(self, work: Work) -> Self {
        Self { work, ..self }
    }

    fn after(self, verb: Verb, how: &'static str) -> Self {
        let after = Some(verb);
        Self { after, how, ..self }
    }

    fn each_minute(self, minutes: u32) -> Self {
        Self {
            minutes,
            looks: 1,
            ..self
        }
    }

    fn watched(self, looks: u32) -> Self {
        Self { looks, ..self }
    }

    fn found_by(self, found_by: &'static str) -> Self {
        Self { found_by, ..self }
    }

    /// As it would be written on the command line.
    fn injected(&self) -> String {
        let Injection { target, verb, when } = &self.injection;
        let mut words = vec![verb.name().to_owned()];
        let written = serde_json::to_value(verb).unwrap();
        for parameter in verb.entry().parameters {
            let value = written[parameter.name].to_string();
            if parameter.default != Some(value.as_str()) {
                let flag = parameter.name.replace('_', "-");
                words.push(format!("--{flag} {}", value.trim_matches('"')));
            }
        }
        if when.times > 1 {
            words.push(format!("--times {}", when.times));
        }
        if verb.entry().target == Target::Device {
            words.push(if target == NIC { "NIC" } else { "CHIP" }.to_owned());
        }
        let mut text = format!("`{}`", words.join(" "));
        if self.minutes > 0 {
            text += " a minute";
        }
        if !self.how.is_empty() {
            text += ", ";
            text += self.how;
        }
        text
    }

    /// Works until it has happened: on a machine that is busy, what is waited for may have come before anybody waits.
    fn provoke(&self, ward: &mut Ward) {
        const TRIES: u32 = 200;
        let name = self.injection.verb.name();
        let so_often = |ward: &Ward| ward.befell(name) >= self.injection.when.times;
        let mut tries = 0;
        while self.work != Work::Nothing && !so_often(ward) {
            assert!(tries < TRIES, "{name} did not happen");
            ward.work(self.work);
            tries += 1;
        }
    }

    fn play(&self) -> Played {
        let kills = self.injection.verb == Verb::ProcessKill;
        let mut ward = if kills {
            Ward::in_a_process()
        } else {
            Ward::new()
        };
        if let Some(verb) = &self.after {
            let injection = Injection::new(self.injection.target.clone(), verb.clone());
            ward.inject(&injection);
            ward.looks(6);
            ward.forget();
        }
        let begun = ward.now();
        for _ in 0..self.minutes {
            ward.inject(&self.injection);
            ward.minute();
        }
        if self.minutes == 0 {
            ward.inject(&self.injection);
            self.provoke(&mut ward);
        }
        ward.looks(self.looks);
        let name = self.injection.verb.name();
        let target = self.injection.target.clone();
        let ill =
            |change: &Transition| change.check.is_none() && change.to >= HealthState::Degraded;
        let others: Vec<_> = ward
            .changes()
            .iter()
            .filter(|(_, change)| change.component != target && ill(change))
            .collect();
        // The host takes all of its devices along.
        assert!(
            others.is_empty() || kills,
            "{name} changed another's verdict: {others:#?}"
        );
        let mut own = ward.changes().iter();
        let worst = own
            .by_ref()
            .filter(|(_, change)| change.component == target && ill(change))
            .rev()
            .max_by_key(|(_, change)| change.to)
            .cloned();
        let component = ward.component(&target);
        let comm = fs::read_to_string("/proc/self/comm").unwrap();
        let comm = comm.trim().to_owned();
        let played = match worst {
            None => Played {
                said: match component.state {
                    HealthState::Healthy => "healthy".to_owned(),
                    state => format!("{state}: {}", component.reason),
                },
                evidence: String::new(),
                action: format!("{}, {}", component.action, component.admission.answer),
                within: None,
            },
            Some((at, change)) => Played {
                said: format!("{}: {}", change.to, change.reason.replace(&comm, "job")),
                evidence: change.evidence.first().map_or_else(String::new, |found| {
                    let source = found.source.replace(&ward.root(), "");
                    let (what, found, limit) = (&found.what, &found.found, &found.limit);
                    format!("{what} {found} (limit: {limit}; {source})")
                }),
                action: format!("{}, {}", component.action, component.admission.answer),
                within: Some(at - begun),
            },
        };
        ward.end();
        played
    }
}

/// What came of it.
struct Played {
    said: String,
    evidence: String,
    action: String,
    within: Option<Duration>,
}

/// A bound that a time is within, in words.
fn bound(time: Duration) -> u64 {
    const BOUNDS: [u64; 7] = [3, 6, 15, 40, 90, 400, 900];
    let seconds = time.as_secs();
    BOUNDS
        .into_iter()
        .find(|bound| seconds <= *bound)
        .unwrap_or(seconds)
}

const DRIVER: &str = "the driver: the command has no or a wrong end";
const KNOWN: &str = "known answers: see below";
const SUMS: &str = "checksums over what was copied";

fn scenarios() -> Vec<Scenario> {
    let of = Scenario::of;
    let silent = |verb| of(verb).watched(6);
    let times = |times| Trigger {
        times,
        ..Trigger::default()
    };
    let mut all = vec![];
    for verb in [
        Verb::CompletionDrop,
        Verb::CompletionDelay { ms: 100 },
        Verb::CompletionDuplicate,
        Verb::CompletionCorrupt,
        Verb::CompletionWrongId,
        Verb::CompletionWrongQueue,
        Verb::CompletionStaleTag { ms: 20 },
        Verb::CompletionReorder,
    ] {
        all.push(silent(verb).with(Work::Nops).found_by(DRIVER));
    }
    let interrupts = "the driver, which looks without one as well";
    all.extend([
        silent(Verb::InterruptLost)
            .with(Work::Sleep)
            .found_by(interrupts),
        silent(Verb::InterruptSpurious { vector: 1 }).found_by(interrupts),
        silent(Verb::InterruptStorm {
            vector: 1,
            for_ms: 1000,
        })
        .found_by(interrupts),
        silent(Verb::DoorbellIgnored)
            .with(Work::Nops)
            .found_by("the driver: commands time out"),
        silent(Verb::QueueStuck {
            number: 1,
            for_ms: 0,
        })
        .found_by("the driver: commands time out"),
        silent(Verb::DmaUnmapped)
            .with(Work::Copy)
            .found_by("the driver: DmaFault; the kernel log has a line"),
        of(Verb::DmaUnmapped)
            .when(times(12))
            .with(Work::Copy)
            .found_by("the driver as well"),
        silent(Verb::DmaShort).with(Work::Copy).found_by(SUMS),
        silent(Verb::CopyFlip).with(Work::Copy).found_by(SUMS),
        silent(Verb::ResultFlip).with(Work::Product).found_by(KNOWN),
        silent(Verb::EccCe { count: 1 }).found_by("the counter, in `auk status` and metrics"),
        of(Verb::EccCe { count: 150 }),
        of(Verb::EccCe { count: 1200 }),
        of(Verb::EccUe),
        of(Verb::EccUeUnused),
        of(Verb::PageRetired { count: 1 }),
        of(Verb::PageRetired { count: 64 }),
        of(Verb::Temperature {
            celsius: 97,
            for_ms: 0,
        })
        .watched(70),
        of(Verb::Temperature {
            celsius: 102,
            for_ms: 0,
        }),
        of(Verb::Temperature {
            celsius: 110,
            for_ms: 0,
        }),
        of(Verb::Throttle { for_ms: 0 }),
        of(Verb::PowerCap { for_ms: 0 }),
        silent(Verb::SensorStuck { for_ms: 0 })
            .found_by("nobody from outside: an idle chip's sensors stand still as well"),
        of(Verb::SensorNonsense { for_ms: 0 }),
        of(Verb::FirmwareHang),
        of(Verb::FirmwareCrash),
        of(Verb::BootLoop)
            .with(Work::Restart)
            .how("and a restart of the firmware"),
        of(Verb::ImageRefused)
            .with(Work::Restart)
            .how("and a restart of the firmware"),
        silent(Verb::ImageRot { slot: 0 }).found_by("the next boot from that slot"),
        silent(Verb::SlowBoot { ms: 1000 })
            .with(Work::Restart)
            .how("and a restart of the firmware")
            .found_by("the driver, when it is longer than the chip advertises"),
        of(Verb::ResetHang { for_ms: 0 })
            .with(Work::Reset)
            .how("and a reset"),
        of(Verb::ResetDead).with(Work::Reset).how("and a reset"),
        of(Verb::ResetFails)
            .with(Work::Reset)
            .how("and a reset")
            .watched(80),
        silent(Verb::BarOnes { for_ms: 0 })
            .found_by("the driver; the agent reads no BAR of a chip in use"),
        of(Verb::ConfigOnes { for_ms: 0 }),
        silent(Verb::SlowRegisters { ms: 5, for_ms: 0 }).found_by("the driver: it waits longer"),
        of(Verb::LinkWidth { lanes: 4 }).watched(45),
        of(Verb::LinkWidth { lanes: 4 }).on(NIC).watched(45),
        of(Verb::LinkSpeed { generation: 3 }).watched(45),
        of(Verb::LinkSpeed { generation: 3 }).on(NIC).watched(45),
        silent(Verb::LinkFlap {
            count: 1,
            down_ms: 50,
        })
        .found_by("the driver, if it reads just then; a look or two of ones is a link that trains"),
        silent(Verb::AerCorrectable { count: 1 }).found_by("the kernel's counters and log"),
        of(Verb::AerCorrectable { count: 20 }).each_minute(7),
        of(Verb::AerCorrectable { count: 20 })
            .on(NIC)
            .each_minute(7),
        of(Verb::AerNonfatal { count: 1 }),
        of(Verb::AerNonfatal { count: 1 }).on(NIC),
        of(Verb::AerFatal { count: 1 }),
        of(Verb::AerFatal { count: 1 }).on(NIC),
        of(Verb::Replays { count: 20 }).each_minute(7),
        of(Verb::Remove),
        of(Verb::Remove).on(NIC),
        of(Verb::Return).after(Verb::Remove, "after `remove`"),
        of(Verb::Return)
            .on(NIC)
            .after(Verb::Remove, "after `remove`"),
        of(Verb::ProcessKill)
            .how("of a host in a process of its own")
            .found_by("the driver as well: the connection is closed"),
        of(Verb::CarrierFlap {
            count: 3,
            down_ms: 20,
        }),
        of(Verb::CarrierFlap {
            count: 1,
            down_ms: 3_600_000,
        })
        .watched(30),
        of(Verb::PortSpeed { mbit: 100_000 }).watched(60),
        of(Verb::PortErrors { count: 100 }).each_minute(7),
        of(Verb::PortErrors { count: 3000 }).each_minute(7),
        of(Verb::PortDrops { count: 100_000 }).each_minute(12),
        of(Verb::RdmaPort { up: false }).watched(95),
        silent(Verb::DriverReload).found_by("nobody: it is no fault of the NIC"),
        silent(Verb::InterfaceRename {
            name: "ens1".to_owned(),
        })
        .found_by("nobody: it is no fault of the NIC, and its counts go on"),
        silent(Verb::NicFirmware {
            firmware: "28.40.1000".to_owned(),
        })
        .found_by("the manifest's `nic_firmware`, by ethtool, which a simulated host has not"),
        silent(Verb::Heal).found_by("nothing happened"),
    ]);
    all
}

fn row(scenario: &Scenario, played: &Played, within: &str) -> Vec<String> {
    let healthy = played.within.is_none();
    vec![
        scenario.injection.verb.name().to_owned(),
        scenario.injected(),
        played.said.clone(),
        played.evidence.clone(),
        if healthy && played.said == "healthy" {
            String::new()
        } else {
            played.action.clone()
        },
        within.to_owned(),
        scenario.found_by.to_owned(),
    ]
}

/// Plays all, several at a time, in order.
fn play() -> Vec<(Scenario, Played)> {
    let all = scenarios();
    let next = Mutex::new(0..all.len());
    let played: Mutex<Vec<Option<Played>>> = Mutex::new(all.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(number) = next.lock().unwrap().next() else {
                        return;
                    };
                    let what = all[number].play();
                    played.lock().unwrap()[number] = Some(what);
                }
            });
        }
    });
    let played = played.into_inner().unwrap().into_iter().flatten();
    all.into_iter().zip(played).collect()
}

#[test]
fn the_agent_says_of_each_fault_what_the_table_says_and_of_no_other_device_anything() {
    let kept = Table::read(TABLE);
    assert_eq!(
        kept.columns, COLUMNS,
        "make it anew: cargo test --test faults_page -- --ignored"
    );
    let played = play();
    assert_eq!(kept.rows.len(), played.len(), "make it anew");
    let mut wrong = Vec::new();
    for ((scenario, played), kept) in played.iter().zip(&kept.rows) {
        let within = &kept[5];
        let made = row(scenario, played, within);
        let same = kept
            .iter()
            .zip(&made)
            .all(|(kept, made)| without_numbers(kept) == without_numbers(made));
        let limit = within.trim_end_matches(" s").parse::<u64>().ok();
        // Twice as long is no other thing, on a machine that is busy.
        let in_time = match (played.within, limit) {
            (Some(took), Some(limit)) => took.as_secs() <= 2 * limit,
            (took, limit) => took.is_none() && limit.is_none(),
        };
        if !same || !in_time {
            wrong.push((kept, made, played.within));
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong:#?}\nmake it anew: cargo test --test faults_page -- --ignored"
    );
}

#[test]
#[ignore = "runs a host for another test"]
fn a_host_for_another_process() {
    run_for_another();
}

#[test]
fn every_fault_of_the_catalogue_is_in_the_table() {
    let kept = Table::read(TABLE);
    for entry in Verb::CATALOGUE {
        let there = kept.rows.iter().any(|row| row[0] == entry.name);
        assert!(there, "{} is in no scenario", entry.name);
    }
    // Those of others must be of faults that there are, or they would be left out of the page.
    for row in kept.rows.iter().chain(&Table::read("driver.tsv").rows) {
        let there = Verb::CATALOGUE.iter().any(|entry| entry.name == row[0]);
        assert!(there, "no fault {}", row[0]);
    }
}

#[test]
fn the_page_is_what_the_tables_give() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    let kept = fs::read_to_string(path).unwrap();
    assert!(
        kept == page(SILENT),
        "docs/faults.md is stale; make it anew: cargo test --test faults_page -- --ignored page"
    );
}

#[test]
#[ignore = "writes data/faults/agent.tsv and docs/faults.md anew"]
fn the_agents_table_is_made_anew() {
    let rows: Vec<_> = play()
        .iter()
        .map(|(scenario, played)| {
            let within = played.within.map(|took| format!("{} s", bound(took)));
            row(scenario, played, &within.unwrap_or_default())
        })
        .collect();
    let columns = COLUMNS.map(str::to_owned).to_vec();
    Table { columns, rows }.write(TABLE);
    write_page();
}

#[test]
#[ignore = "writes docs/faults.md anew, of the tables as they are"]
fn the_page_is_made_anew() {
    write_page();
}

fn write_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md");
    fs::write(path, page(SILENT)).unwrap();
}

const SILENT: &str = include_str!("../data/faults/silent.md");
