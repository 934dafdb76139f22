//! The kernel log through the agent: each line of interest once, gaps and storms told, the right component blamed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use auk_health::kernel_log::follow::{Follower, GAP, LINE, Named, STORM};
use auk_health::kernel_log::source::Source;
use auk_health::store::{self, Event, Query, Store, StoreSettings};
use auk_health::time::{Moment, millis};
use auk_health::verdict::{Admit, HealthState};
use auk_health::{Agent, AgentHandle, Status, client};
use proptest::prelude::*;
use tree::{CHIP, NIC, Tree};

const SOON: Duration = Duration::from_secs(30);
const FAULT: &str = "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1000 [fault reason 0x05] PTE Write \
                     access is not set";
const HUNG: &str = "INFO: task kworker/u8:1:42 blocked for more than 122 seconds.";

/// A host whose kernel says what a test has it say.
struct Host {
    tree: Tree,
    next: u64,
}

impl Host {
    fn new() -> Self {
        let tree = Tree::new();
        fs::create_dir(tree.root().join("dev")).unwrap();
        let mut host = Self { tree, next: 0 };
        host.says(&["Linux version 6.12.43"]);
        host
    }

    fn log(&self) -> PathBuf {
        self.tree.root().join("dev/kmsg")
    }

    fn says(&mut self, lines: &[&str]) {
        self.says_with(3, lines);
    }

    fn says_with(&mut self, priority: u32, lines: &[&str]) {
        let mut text = String::new();
        let micros = Moment::now().uptime.as_micros();
        for line in lines {
            writeln!(text, "{priority},{},{micros},-;{line}", self.next).unwrap();
            self.next += 1;
        }
        let mut log = File::options().create(true).append(true).open(self.log());
        log.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Records that were overwritten before anybody read them.
    fn loses(&mut self, count: u64) {
        self.next += count;
    }

    fn agent(&self) -> AgentHandle {
        Agent::builder(self.tree.root())
            .state_directory(self.tree.root().join("state"))
            .interval(Duration::from_millis(50))
            .slow_interval(Duration::from_millis(100))
            .start()
            .unwrap()
    }

    /// The events of a kind, once there are so many.
    fn events(&self, kind: &str, least: usize) -> Vec<Event> {
        let start = Instant::now();
        loop {
            let query = Query::default();
            let page =
                client::fetch_events(self.tree.root(), &query, Duration::ZERO, SOON).unwrap();
            let mut events = page.events;
            events.retain(|event| event.record.kind == kind);
            if events.len() >= least {
                return events;
            }
            assert!(
                start.elapsed() < SOON,
                "{} {kind}: {events:#?}",
                events.len()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn wait(agent: &AgentHandle, what: &str, mut condition: impl FnMut(&Status) -> bool) -> Status {
    match agent.wait_until(SOON, |status| condition(status)) {
        Ok(status) => status,
        Err(error) => panic!("{what}: {error}: {:#?}", agent.status().components),
    }
}

fn state(status: &Status, component: &str, check: &str) -> Option<HealthState> {
    Some(status.component(component)?.verdict(check)?.state)
}

#[test]
fn each_line_of_interest_is_told_once_and_blames_whom_it_is_about() {
    let mut host = Host::new();
    let agent = host.agent();
    host.says(&[
        FAULT,
        "e1000e 0000:41:00.0 eth0: NIC Link is Down",
        "usb 1-1: new device",
        HUNG,
    ]);
    // A process may write what it likes.
    host.says_with(12, &[FAULT]);
    let events = host.events(LINE, 3);
    let told: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event.record.component.as_deref(),
                event.record.details["rule"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some(CHIP), "iommu_fault"),
            (Some(NIC), "link_down"),
            (None, "hung_task")
        ]
    );
    assert!(events.iter().all(|event| event.stored));
    agent.stop().unwrap();

    // The next agent has seen them.
    let agent = host.agent();
    host.says(&[FAULT]);
    assert_eq!(host.events(LINE, 4).len(), 4);
    assert!(host.events(GAP, 0).is_empty());
    agent.stop().unwrap();
}

#[test]
fn a_gap_is_an_event_while_the_agent_runs_and_when_it_comes_back() {
    let mut host = Host::new();
    let agent = host.agent();
    host.says(&[FAULT]);
    host.events(LINE, 1);
    host.loses(7);
    host.says(&[FAULT]);
    let gaps = host.events(GAP, 1);
    assert_eq!(gaps[0].record.details["count"], 7);
    host.events(LINE, 2);
    agent.stop().unwrap();

    host.says(&["nothing of interest"; 3]);
    host.loses(100);
    host.says(&[FAULT]);
    let agent = host.agent();
    let gaps = host.events(GAP, 2);
    assert_eq!(gaps[1].record.details["count"], 100);
    assert_eq!(host.events(LINE, 3).len(), 3);
    agent.stop().unwrap();
}

#[test]
fn a_hundred_thousand_lines_at_once_are_counted_and_the_others_are_told_in_time() {
    let mut host = Host::new();
    let agent = host.agent();
    wait(&agent, "a first round", |status| status.agent.rounds > 2);
    let before = agent.status().agent.resident_bytes;
    host.says(&vec![FAULT; 100_000]);
    host.says(&[HUNG]);
    let lines = host.events(LINE, 11);
    let of_fault = |event: &&Event| event.record.component.as_deref() == Some(CHIP);
    assert_eq!(
        lines.iter().filter(of_fault).count(),
        10,
        "what is kept of a storm"
    );
    assert_eq!(lines.last().unwrap().record.details["rule"], "hung_task");
    wait(&agent, "a storm of all lines", |status| {
        let chip = status.component(CHIP);
        let verdict = chip.and_then(|chip| chip.verdict("iommu_faults"));
        verdict.is_some_and(|verdict| {
            verdict.state == HealthState::Degraded && verdict.reason.contains("100000")
        })
    });
    assert!(host.events(GAP, 0).is_empty(), "a plain file loses nothing");
    let grown = agent.status().agent.resident_bytes.saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    agent.stop().unwrap();
}

#[test]
fn what_a_storm_had_more_is_told_in_a_line_when_its_time_is_over() {
    let mut host = Host::new();
    host.says(&vec![FAULT; 500]);
    let mut source = Source::open(host.tree.root()).unwrap();
    let mut follower = Follower::after(None);
    let now = Moment::now();
    let batch = follower
        .read(&mut source, now, 10_000, |_| Vec::new())
        .unwrap();
    assert_eq!(batch.kept.records.len(), 10);
    assert!(batch.kept.events.is_empty());
    let later = Moment {
        uptime: now.uptime + Duration::from_secs(61),
        unix_ms: now.unix_ms + millis(Duration::from_secs(61)),
    };
    let batch = follower
        .read(&mut source, later, 10_000, |_| Vec::new())
        .unwrap();
    assert_eq!(batch.kept.events.len(), 1);
    let event = &batch.kept.events[0];
    assert_eq!(
        (event.kind.as_str(), &event.details["count"]),
        (STORM, &serde_json::json!(490))
    );
    let heard = follower.take_heard(CHIP);
    assert_eq!((heard.len(), heard[0].count), (1, 500));
}

#[test]
fn an_agent_that_stops_tells_what_it_had_only_counted() {
    let mut host = Host::new();
    let agent = host.agent();
    host.says(&[FAULT; 300]);
    host.events(LINE, 10);
    assert!(host.events(STORM, 0).is_empty(), "its minute is not over");
    agent.stop().unwrap();
    let agent = host.agent();
    let storms = host.events(STORM, 1);
    assert_eq!(storms.len(), 1);
    assert_eq!(storms[0].record.details["count"], 290);
    assert_eq!(storms[0].record.component.as_deref(), Some(CHIP));
    agent.stop().unwrap();
}

/// A kill at any moment leaves what is in the file: never a line without what follows from it.
#[test]
fn once_a_line_is_stored_so_is_what_it_was_judged_to_mean() {
    let mut host = Host::new();
    let agent = host.agent();
    wait(&agent, "a first round", |status| status.agent.rounds > 2);
    let file = store::file(&host.tree.root().join("state"));
    let reader = rusqlite::Connection::open(file).unwrap();
    host.says(&["vfio-pci 0000:01:00.0: not ready 65535ms after FLR; giving up"]);
    let start = Instant::now();
    let memory = loop {
        // One statement sees the file at one moment.
        let found: (i64, Option<String>) = reader
            .query_row(
                "SELECT (SELECT count(*) FROM kernel_log WHERE text LIKE '%giving up'),
                        (SELECT value FROM states WHERE name LIKE 'component %0000:01:00.0')",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        if found.0 == 1 {
            break found.1.unwrap_or_default();
        }
        assert!(start.elapsed() < SOON);
    };
    assert!(
        memory.contains("did not answer for a minute after a reset"),
        "{memory}"
    );
    agent.stop().unwrap();
}

/// What of the follower is asked in these tests: a host that is up for so long, whose kernel's clock is off.
fn moment(uptime: u64) -> Moment {
    Moment {
        uptime: Duration::from_secs(uptime),
        unix_ms: 1_700_000_000_000 + 1000 * uptime,
    }
}

#[test]
fn a_line_of_now_is_of_now_though_the_kernels_clock_is_minutes_off_after_months() {
    let months = 120 * 86_400;
    for off in [-1500, 1500] {
        let host = Host::new();
        let stamp = |at: u64| (at.checked_add_signed(off).unwrap()) * 1_000_000;
        fs::write(host.log(), format!("6,0,{},-;up\n", stamp(months - 100))).unwrap();
        let mut source = Source::open(host.tree.root()).unwrap();
        let mut follower = Follower::after(None);
        let mut read = |at: u64| {
            let batch = follower
                .read(&mut source, moment(at), 100, |_| Vec::new())
                .unwrap();
            let heard = follower.take_heard(CHIP);
            (batch.kept.records, heard)
        };
        read(months);
        let mut log = File::options().append(true).open(host.log()).unwrap();
        writeln!(log, "3,1,{},-;{FAULT}", stamp(months + 1)).unwrap();
        let (records, heard) = read(months + 1);
        assert!(heard[0].age <= Duration::from_secs(1), "{off}: {heard:?}");
        let at = records[0].0.at_unix_ms;
        assert!(
            moment(months + 1).unix_ms - at <= 1000,
            "{off}: {records:?}"
        );
        // After ten minutes in which nothing could be read it is known by how much the clock is off.
        writeln!(log, "3,2,{},-;{FAULT}", stamp(months + 301)).unwrap();
        let (_, heard) = read(months + 601);
        let wrong = heard[0].age.abs_diff(Duration::from_secs(300));
        assert!(wrong <= Duration::from_secs(1), "{off}: {heard:?}");
    }
}

#[test]
fn an_address_without_segment_blames_nobody_where_several_segments_have_it() {
    let mut host = Host::new();
    let devices = host.tree.root().join("sys/bus/pci/devices");
    // Not watched, and as good a guess as the chip.
    fs::create_dir(devices.join("0001:01:00.0")).unwrap();
    let agent = host.agent();
    let with_segment = "vfio-pci 0000:01:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0019 address=0x0 flags=0x0020]";
    host.says(&[FAULT; 9]);
    host.says(&[with_segment]);
    let events = host.events(LINE, 10);
    let (doubtful, certain) = events.split_at(9);
    for event in doubtful {
        assert_eq!(event.record.component, None, "{event:?}");
        assert!(
            event.record.summary.contains("cannot tell which"),
            "{event:?}"
        );
        assert_eq!(
            event.record.details["may_be"],
            serde_json::json!([CHIP, "0001:01:00.0"])
        );
    }
    assert_eq!(certain[0].record.component.as_deref(), Some(CHIP));
    let status = wait(&agent, "two more rounds", |status| status.agent.rounds > 5);
    assert_eq!(
        state(&status, CHIP, "iommu_faults"),
        Some(HealthState::Healthy)
    );
    agent.stop().unwrap();
}

#[test]
fn an_address_without_segment_is_of_the_segment_that_has_it() {
    let host = Host::new();
    let line = "DMAR: [DMA Read NO_PASID] Request device [3d:00.0] fault addr 0x1000";
    fs::write(host.log(), format!("3,0,0,-;{line}\n")).unwrap();
    let blamed = |known: &[&str]| {
        let known: Vec<String> = known.iter().map(|bdf| (*bdf).to_owned()).collect();
        let mut source = Source::open(host.tree.root()).unwrap();
        let functions = |named: Named<'_>| {
            assert_eq!(named, Named::InSomeSegment("3d:00.0"));
            known.clone()
        };
        let batch = Follower::after(None)
            .read(&mut source, moment(1), 100, functions)
            .unwrap();
        batch.blamed
    };
    assert_eq!(blamed(&["0002:3d:00.0"]), ["0002:3d:00.0"]);
    // One that is gone is taken for one of the first segment.
    assert_eq!(blamed(&[]), ["0000:3d:00.0"]);
}

#[test]
fn what_was_said_in_weeks_is_heard_by_the_minute_and_not_as_of_now() {
    let host = Host::new();
    let week = 7 * 86_400;
    let mut text = String::new();
    for line in 0..=1000 {
        let micros = week * 1_000_000 * line / 1000;
        writeln!(text, "3,{},{micros},-;{FAULT}", line + 1).unwrap();
    }
    fs::write(host.log(), text).unwrap();
    let now = Moment {
        uptime: Duration::from_secs(week),
        unix_ms: 1_700_000_000_000,
    };
    let mut source = Source::open(host.tree.root()).unwrap();
    let mut follower = Follower::after(None);
    follower
        .read(&mut source, now, 10_000, |_| Vec::new())
        .unwrap();
    let heard = follower.take_heard(CHIP);
    let now = heard.iter().filter(|heard| heard.age.is_zero());
    assert_eq!(now.map(|heard| heard.count).sum::<u64>(), 1);
    assert!(heard.len() <= 120, "{}", heard.len());
}

#[test]
fn an_old_name_of_an_interface_leads_to_its_function() {
    let mut host = Host::new();
    host.says(&[
        "e1000e 0000:41:00.0 eth7: (PCI Express:2.5GT/s:Width x1) 52:54:00:12:34:56",
        "NETDEV WATCHDOG: eth7 (e1000e): transmit queue 0 timed out",
        "e1000e 0000:41:00.0 eth0: renamed from eth7",
        "NETDEV WATCHDOG: eth0 (e1000e): transmit queue 0 timed out",
    ]);
    let agent = host.agent();
    let events = host.events(LINE, 2);
    assert!(
        events
            .iter()
            .all(|event| event.record.component.as_deref() == Some(NIC))
    );
    agent.stop().unwrap();
}

#[test]
fn a_line_has_the_counters_read_early() {
    let mut host = Host::new();
    let agent = Agent::builder(host.tree.root())
        .interval(Duration::from_millis(100))
        .slow_interval(Duration::from_secs(3600))
        .start()
        .unwrap();
    // Past the first looks, which are thorough.
    wait(&agent, "eight rounds", |status| status.agent.rounds > 8);
    let counters = host.tree.device(CHIP).join("aer_dev_correctable");
    fs::write(counters, "RxErr 44\nTOTAL_ERR_COR 44\n").unwrap();
    host.says(&[
        "pcieport 0000:00:01.0: AER: Correctable error message received from 0000:01:00.0",
        "vfio-pci 0000:01:00.0: PCIe Bus Error: severity=Correctable, type=Physical Layer, (Receiver ID)",
    ]);
    wait(&agent, "44 errors", |status| {
        let chip = status.component(CHIP);
        chip.and_then(|chip| chip.aer)
            .is_some_and(|aer| aer.correctable == 44)
    });
    agent.stop().unwrap();
}

#[test]
fn an_uncorrectable_memory_error_of_the_host_lets_no_job_start_on_it() {
    let mut host = Host::new();
    let agent = host.agent();
    host.says(&[
        "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0 (channel:1 slot:0)",
    ]);
    let status = wait(&agent, "the host", |status| {
        status
            .component("host")
            .is_some_and(|host| host.state == HealthState::Unhealthy)
    });
    let nic = status.component(NIC).unwrap();
    assert_eq!(nic.admission.answer, Admit::No, "{nic:#?}");
    assert!(
        nic.admission.reason.contains("machine_checks"),
        "{}",
        nic.admission.reason
    );
    assert_ne!(nic.state, HealthState::Unhealthy, "the NIC itself is well");
    agent.stop().unwrap();
    // It stands over a restart of the agent.
    let agent = host.agent();
    wait(&agent, "the host", |status| {
        status
            .component("host")
            .is_some_and(|host| host.state == HealthState::Unhealthy)
    });
    agent.stop().unwrap();
}

#[test]
fn a_log_that_comes_later_is_followed_and_a_host_without_one_has_no_host_component() {
    let mut host = Host::new();
    fs::remove_file(host.log()).unwrap();
    let agent = host.agent();
    let status = wait(&agent, "rounds", |status| status.agent.rounds > 3);
    assert!(status.component("host").is_none());
    let verdict = status
        .component(CHIP)
        .unwrap()
        .verdict("iommu_faults")
        .unwrap();
    assert!(!verdict.counts);
    agent.stop().unwrap();
    host.says(&["back"]);
    let agent = host.agent();
    wait(&agent, "the host", |status| {
        state(status, "host", "kernel_log") == Some(HealthState::Healthy)
    });
    agent.stop().unwrap();
}

#[test]
fn a_log_that_may_not_be_read_is_unobservable_and_leaves_the_devices_alone() {
    // A directory in its place is as unreadable to root as to anybody.
    let host = Host::new();
    fs::remove_file(host.log()).unwrap();
    fs::create_dir(host.log()).unwrap();
    let agent = host.agent();
    let status = wait(&agent, "the host", |status| {
        status.component("host").is_some()
    });
    let verdict = status
        .component("host")
        .unwrap()
        .verdict("kernel_log")
        .unwrap();
    assert_eq!(verdict.state, HealthState::Unobservable);
    assert!(
        verdict.counts && verdict.reason.contains("dev/kmsg"),
        "{verdict:#?}"
    );
    let status = wait(&agent, "a healthy NIC", |status| {
        status
            .component(NIC)
            .is_some_and(|nic| nic.state == HealthState::Healthy)
    });
    assert_eq!(status.component(NIC).unwrap().admission.answer, Admit::Yes);
    agent.stop().unwrap();
}

#[test]
fn a_log_that_cannot_be_stored_is_unobservable_and_is_read_on_when_it_can() {
    let mut host = Host::new();
    let agent = host.agent();
    wait(&agent, "the host", |status| {
        state(status, "host", "kernel_log") == Some(HealthState::Healthy)
    });
    let file = store::file(&host.tree.root().join("state"));
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first shows that nothing can be written.
    let start = Instant::now();
    while state(&agent.status(), "host", "kernel_log") == Some(HealthState::Healthy) {
        assert!(start.elapsed() < SOON, "{:#?}", agent.status().store);
        host.says(&[FAULT]);
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = agent.status();
    let verdict = status.component("host").unwrap().verdict("kernel_log");
    let verdict = verdict.unwrap();
    assert_eq!(verdict.state, HealthState::Unobservable);
    assert!(verdict.reason.contains("cannot be stored"), "{verdict:#?}");
    host.says(&[HUNG]);
    other.execute_batch("ROLLBACK").unwrap();
    wait(&agent, "what was said meanwhile", |status| {
        state(status, "host", "kernel_log") == Some(HealthState::Healthy)
            && state(status, "host", "stalls") == Some(HealthState::Degraded)
    });
    agent.stop().unwrap();
}

#[test]
fn what_was_read_is_kept_with_the_lines_so_that_no_kill_makes_them_double_or_lost() {
    let mut host = Host::new();
    host.says(&[FAULT, HUNG]);
    host.loses(3);
    host.says(&[FAULT]);
    let state = host.tree.root().join("state");
    fs::create_dir(&state).unwrap();
    let read = |after| {
        let mut source = Source::open(host.tree.root()).unwrap();
        let mut follower = Follower::after(after);
        follower
            .read(&mut source, Moment::now(), 100, |_| Vec::new())
            .unwrap()
            .kept
    };
    let open = || Store::open(&state, "this-boot", &StoreSettings::default(), 1).unwrap();
    let store = open();
    let batch = read(None);
    assert_eq!((batch.records.len(), batch.events.len()), (3, 1));
    assert_eq!(store.append_kernel(1, batch.clone()).unwrap().len(), 4);
    // The same again, as after a disk that did not answer in time.
    assert!(store.append_kernel(1, batch).unwrap().is_empty());
    // A kill: the next agent reads on from what is in the file.
    drop(store);
    let store = open();
    let seen = store.last_kernel_sequence().unwrap();
    assert_eq!(seen, Some(6));
    assert!(read(seen).is_empty());
    store.close(1);
}

/// What happens between two reads of the log.
#[derive(Clone, Debug)]
enum Step {
    Says(u64),
    Loses(u64),
    Reads,
    Restarts,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..20u64).prop_map(Step::Says),
        2 => (1..50u64).prop_map(Step::Loses),
        3 => Just(Step::Reads),
        1 => Just(Step::Restarts),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_lost_and_whoever_is_restarted_each_record_is_seen_once_or_told_as_lost(steps in steps()) {
        let mut host = Host::new();
        let mut source = Source::open(host.tree.root()).unwrap();
        let mut follower = Follower::after(None);
        // The first record was said before.
        let mut said = vec![0];
        let (mut kept, mut lost) = (Vec::new(), 0);
        for step in steps.into_iter().chain([Step::Says(1), Step::Reads]) {
            match step {
                Step::Says(count) => {
                    for _ in 0..count {
                        said.push(host.next);
                        // A component of its own each time, so that none is one of a storm.
                        let line = format!("vfio-pci {:04x}:01:00.0: vfio_bar_restore: reset recovery - restoring BARs", host.next);
                        host.says(&[&line]);
                    }
                }
                Step::Loses(count) => host.loses(count),
                Step::Reads => {
                    let batch = follower.read(&mut source, Moment::now(), 100_000, |_| Vec::new()).unwrap().kept;
                    kept.extend(batch.records.iter().map(|(record, _)| record.sequence));
                    let gaps = batch.events.iter().map(|gap| gap.details["count"].as_u64().unwrap());
                    lost += gaps.sum::<u64>();
                }
                Step::Restarts => {
                    follower = Follower::after(follower.seen());
                    source = Source::open(host.tree.root()).unwrap();
                }
            }
        }
        said.remove(0);
        prop_assert_eq!(&kept, &said);
        prop_assert_eq!(kept.len() as u64 + 1 + lost, host.next);
    }
}
