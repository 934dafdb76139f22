//! Interfaces of a kernel: what the agent tells of a carrier that comes and goes, and of an interface that is moved, renamed,
//! deleted and made anew. One end of a veth pair is the agent's NIC, in namespaces of this test's own; that takes root.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;
mod netns_support;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use auk_health::store::Event;
use auk_health::verdict::{Admit, HealthState};
use netns_support::{Elsewhere, Machine, NIC, Notifications, changes, is_possible, run};
use nix::sys::signal::Signal;

fn long() -> bool {
    std::env::var_os("AUK_LONG").is_some()
}

/// Pauses of random length, by xorshift64.
struct Pauses(u64);

impl Pauses {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let seed = std::env::var("AUK_SEED")
            .map_or(now.as_micros() as u64 | 1, |seed| seed.parse().unwrap());
        println!("AUK_SEED={seed}");
        Self(seed)
    }

    /// From 20 ms to so many.
    fn next(&mut self, most: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(20 + self.0 % (most - 20))
    }
}

/// Whether more wants to run than there are processors.
fn is_busy() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    load > thread::available_parallelism().unwrap().get() as f64
}

/// Has the carrier of `port0` go and come back.
fn flap(down: Duration) {
    run("ip link set far0 down");
    thread::sleep(down);
    run("ip link set far0 up");
}

/// A machine whose NIC an agent watches and finds healthy; `None` where this test cannot have one.
fn watched(what: &str) -> Option<Machine> {
    if !is_possible(what) {
        return None;
    }
    let mut machine = Machine::new();
    machine.start_agent();
    machine.nic("a healthy NIC", |nic| nic.state == HealthState::Healthy);
    Some(machine)
}

/// Whether one of these events says something.
fn says(events: &[Event], what: &str) -> bool {
    events
        .iter()
        .any(|event| event.record.summary.contains(what))
}

/// The carrier's changes as the kernel counts them, since so many ups and downs.
fn counted(machine: &Machine, (ups, downs): (u64, u64)) -> (u64, u64) {
    (
        machine.count("port0", "carrier_up_count") - ups,
        machine.count("port0", "carrier_down_count") - downs,
    )
}

fn before(machine: &Machine) -> (u64, u64) {
    counted(machine, (0, 0))
}

#[test]
fn each_flap_is_counted_and_told_soon_after_the_kernel_has() {
    let Some(machine) = watched("flaps of a veth pair") else {
        return;
    };
    let start = before(&machine);
    let flaps = if long() { 1000 } else { 50 };
    let most = if long() { 3000 } else { 400 };

    let (tell, notified) = mpsc::channel();
    let notifications = Notifications::open();
    // Reads in this namespace until the process ends.
    thread::spawn(move || {
        loop {
            let counts = notifications.next("port0");
            if tell.send((counts, Instant::now())).is_err() {
                return;
            }
        }
    });
    let flapping = thread::spawn(move || {
        let mut pauses = Pauses::new();
        for _ in 0..flaps {
            flap(pauses.next(most));
            thread::sleep(pauses.next(most));
        }
    });
    let mut told = Vec::new();
    let (mut last, mut sum) = (0, (0, 0));
    let deadline = Instant::now() + Duration::from_secs(if long() { 7200 } else { 120 });
    while sum != (flaps, flaps) && Instant::now() < deadline {
        let (events, id) = machine.events(last);
        last = id;
        let now = Instant::now();
        for event in events {
            let count = |key: &str| event.record.details[key].as_u64().unwrap();
            let (ups, downs) = changes(std::slice::from_ref(&event));
            sum = (sum.0 + ups, sum.1 + downs);
            told.push((
                (count("carrier_up_count"), count("carrier_down_count")),
                now,
            ));
        }
    }
    flapping.join().unwrap();
    assert_eq!(
        counted(&machine, start),
        (flaps, flaps),
        "the kernel's own count"
    );
    assert_eq!(sum, (flaps, flaps), "what was told");

    // For each of the kernel's messages the first event that has what it says.
    let mut late: Vec<Duration> = notified
        .try_iter()
        .filter(|((ups, downs), _)| (*ups, *downs) > start)
        .map(|((ups, downs), at)| {
            let event = told
                .iter()
                .find(|((up, down), _)| *up >= ups && *down >= downs);
            event.unwrap().1.saturating_duration_since(at)
        })
        .collect();
    late.sort();
    let percentile = |percent: usize| late[(late.len() - 1) * percent / 100];
    let (p50, p99) = (percentile(50), percentile(99));
    println!(
        "{flaps} flaps: {} messages, told after {p50:?} (p50), {p99:?} (p99)",
        late.len()
    );
    // One late turn of a virtual machine is a p99 of the short form: it holds half of them to the promise, and the long form
    // all but one in a hundred.
    let promise = Duration::from_millis(100);
    assert!(
        p50 <= promise,
        "told after {p50:?}, and {promise:?} is promised"
    );
    let busy = is_busy();
    if long() && busy {
        eprintln!(
            "SKIPPED: the promise of 100 ms: others use this machine, and nobody's turn comes in time"
        );
    }
    let most = if long() && !busy {
        promise
    } else {
        Duration::from_secs(5)
    };
    assert!(p99 <= most, "told after {p99:?}, and {most:?} is promised");

    let nic = machine.nic("all flaps in the status document", |nic| {
        nic.port.and_then(|port| port.carrier_down) == Some(start.1 + flaps)
    });
    assert_eq!(
        nic.verdict("carrier_flaps").unwrap().state,
        HealthState::Unhealthy
    );
}

#[test]
fn more_messages_than_the_agent_can_take_are_told_as_lost_and_no_flap_is() {
    let Some(machine) = watched("a storm of messages") else {
        return;
    };
    let start = before(&machine);
    machine.signal_agent(Signal::SIGSTOP);
    // A message takes about 2 KiB of the socket's buffer of 208 KiB.
    for _ in 0..10 {
        flap(Duration::from_millis(1));
    }
    for mtu in 0..400 {
        run(&format!("ip link set port0 mtu {}", 1400 + mtu % 2));
    }
    flap(Duration::from_millis(1));
    machine.signal_agent(Signal::SIGCONT);
    let told = machine.told("all flaps", |events| {
        changes(events) == counted(&machine, start)
            && events
                .iter()
                .any(|event| event.record.kind == "link_messages_lost")
    });
    assert_eq!(changes(&told), (11, 11));
}

#[test]
fn a_port_that_somebody_sets_down_and_up_again_at_once_has_not_flapped() {
    let Some(machine) = watched("an interface set down by hand") else {
        return;
    };
    let start = before(&machine);
    for _ in 0..12 {
        run("ip link set port0 down");
        run("ip link set port0 up");
    }
    let (ups, downs) = counted(&machine, start);
    assert!(downs >= 12, "{ups} {downs}");
    let nic = machine.nic("all of them in the status document", |nic| {
        nic.port.and_then(|port| port.carrier_down) == Some(start.1 + downs)
    });
    assert_eq!(
        nic.verdict("carrier_flaps").unwrap().state,
        HealthState::Healthy
    );
    machine.told("who set it down", |events| {
        changes(events) == (ups, downs) && says(events, "was set down")
    });
}

#[test]
fn an_interface_that_is_moved_away_is_not_gone_and_is_watched_again_after_its_return() {
    let Some(machine) = watched("an interface in another namespace") else {
        return;
    };
    let elsewhere = Elsewhere::new();
    machine.hide("port0");
    run(&format!("ip link set port0 netns {}", elsewhere.pid()));
    let nic = machine.nic("a NIC without its interface", |nic| {
        let carrier = nic.verdict("carrier").unwrap();
        !carrier.counts && carrier.reason.contains("namespace")
    });
    assert_eq!(nic.state, HealthState::Healthy, "{}", nic.reason);
    machine.told("that it left", |events| says(events, "is gone"));
    // The namespace is this thread's, and not the process's.
    let (there, here) = (elsewhere.pid(), nix::unistd::gettid());
    run(&format!(
        "nsenter --net=/proc/{there}/ns/net ip link set port0 netns {here}"
    ));
    run("ip link set port0 up");
    machine.show("port0");
    let nic = machine.nic("a NIC that is back", |nic| {
        nic.verdict("carrier").unwrap().state == HealthState::Healthy
    });
    assert_eq!(nic.state, HealthState::Healthy, "{}", nic.reason);
    assert_eq!(
        nic.verdict("carrier_flaps").unwrap().state,
        HealthState::Healthy
    );
    machine.told("that it is back", |events| says(events, "is here again"));
}

#[test]
fn an_interface_that_is_renamed_stays_the_same_nic_with_its_counts() {
    let Some(machine) = watched("an interface that is renamed") else {
        return;
    };
    for _ in 0..2 {
        flap(Duration::from_millis(100));
    }
    machine.hide("port0");
    // A kernel before 6.3 renames none that is up.
    run("ip link set port0 down");
    run("ip link set port0 name ens1");
    run("ip link set ens1 up");
    machine.show("ens1");
    let nic = machine.nic("the new name", |nic| {
        nic.identity.interface.as_deref() == Some("ens1")
            && nic.verdict("carrier").unwrap().state == HealthState::Healthy
    });
    assert_eq!(nic.state, HealthState::Healthy, "{}", nic.reason);
    assert_eq!(nic.bdf, NIC);
    let told = machine.told("the new name", |events| says(events, "is called ens1"));
    assert!(
        told.iter()
            .all(|event| event.record.component.as_deref() == Some(NIC))
    );
}

#[test]
fn an_interface_that_is_deleted_and_made_anew_is_not_ill_and_its_counts_begin_anew() {
    let Some(machine) = watched("an interface that is made anew") else {
        return;
    };
    for _ in 0..2 {
        flap(Duration::from_millis(100));
    }
    machine.hide("port0");
    run("ip link delete port0");
    let nic = machine.nic("a NIC without an interface", |nic| {
        !nic.verdict("carrier").unwrap().counts
    });
    assert!(nic.state < HealthState::Degraded, "{}", nic.reason);
    run(netns_support::ADD);
    run("ip link set far0 up");
    run("ip link set port0 up");
    machine.show("port0");
    let nic = machine.nic("a NIC with another interface", |nic| {
        nic.verdict("carrier").unwrap().state == HealthState::Healthy
    });
    assert_eq!(nic.state, HealthState::Healthy, "{}", nic.reason);
    assert_eq!(nic.admission.answer, Admit::Yes, "{}", nic.admission.reason);
    let port = nic.port.unwrap();
    assert!(port.carrier_down <= Some(1), "{port:?}");
}
