//! `auk agent` killed at random points of a stream of events: all that it told, by whatever way, is in its store, nothing is
//! there twice, ids grow, and each change goes on where the last one of its check stopped, over all kills. 50 kills, 1,000
//! with `AUK_LONG=1`; the choices are repeated with `AUK_SEED`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;
#[path = "../health/tests/support/tree.rs"]
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

use auk_health::client::{self, ClientError};
use auk_health::operator::{Mode, Order};
use auk_health::store::{Event, Query, Reader, state_directory};
use auk_health::verdict::{HealthState, Transition};
use cli_support::{SOON, command};
use host::{CHIP, NIC, Tree};

/// All is looked at as often as it may be. The hook is run for each error that the stream makes.
const CONFIG: &str = "
[agent]
interval = \"50 ms\"
slow_interval = \"50 ms\"
read_deadline = \"50 ms\"

[hook.note]
command = [\"/bin/sh\", \"-c\", \"echo $AUK_EVENT_ID >> TRACE\"]
on = [\"degraded\"]
";

#[test]
fn whatever_was_told_before_a_kill_is_stored_once_and_in_order() {
    let long = env::var("AUK_LONG").is_ok_and(|long| long == "1");
    let kills = if long { 1000 } else { 50 };
    let seed = match env::var("AUK_SEED") {
        Ok(seed) => seed.parse().expect("AUK_SEED is a number"),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .subsec_nanos()
            .into(),
    };
    println!("{kills} kills, AUK_SEED={seed}");
    let begin = Instant::now();
    let mut bench = Bench::new(seed);
    for _ in 0..kills {
        let told = bench.killed();
        bench.check(&told);
    }
    bench.check_hooks();
    println!(
        "{} events, of them {} orders and {} changes, {} told by the journal and {} by the socket before a kill; \
         none is missing, none is there twice; in {:.0} s",
        bench.stored.len(),
        bench.orders.len(),
        bench.changes,
        bench.by_journal,
        bench.by_socket,
        begin.elapsed().as_secs_f64()
    );
    assert!(bench.by_socket > kills && bench.by_journal > kills);
}

/// What one agent told before it was killed.
#[derive(Default)]
struct Told {
    /// Orders that were answered, by the number in their reason.
    orders: Vec<u64>,
    /// Events that came over the socket.
    events: Vec<Event>,
    /// Ids that the journal has.
    journal: Vec<u64>,
}

struct Bench {
    tree: Tree,
    random: Random,
    /// Number of the next order, and of the next error.
    next: u64,
    /// All that was found in the store so far, without where it is on disk.
    stored: BTreeMap<u64, Event>,
    last_id: u64,
    orders: BTreeSet<u64>,
    states: BTreeMap<(String, Option<String>), HealthState>,
    changes: usize,
    by_journal: usize,
    by_socket: usize,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let tree = Tree::new();
        let directory = tree.root().join("etc/auk");
        fs::create_dir_all(&directory).unwrap();
        let trace = tree.root().join("hook");
        let config = CONFIG.replace("TRACE", trace.to_str().unwrap());
        fs::write(directory.join("agent.toml"), config).unwrap();
        Self {
            tree,
            random: Random(seed | 1),
            next: 0,
            stored: BTreeMap::new(),
            last_id: 0,
            orders: BTreeSet::new(),
            states: BTreeMap::new(),
            changes: 0,
            by_journal: 0,
            by_socket: 0,
        }
    }

    fn agent(&self) -> Child {
        command(&["agent"])
            .arg("--root")
            .arg(self.tree.root())
            .env("AUK_LOG", "auk_health=info")
            .env_remove("JOURNAL_STREAM")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Starts an agent, has things happen, and kills it in their midst.
    fn killed(&mut self) -> Told {
        let lives = Duration::from_micros(self.random.below(350_000));
        let mut agent = self.agent();
        let mut stderr = agent.stderr.take().unwrap();
        let journal = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let dead = AtomicBool::new(false);
        let (root, after) = (self.tree.root().to_owned(), self.last_id);
        let mut told = Told::default();
        thread::scope(|scope| {
            let follower = scope.spawn(|| follow(&root, after, &dead));
            let stream = scope.spawn(|| self.stream(&dead));
            thread::sleep(lives);
            agent.kill().unwrap();
            agent.wait().unwrap();
            dead.store(true, Ordering::Relaxed);
            told.orders = stream.join().unwrap();
            told.events = follower.join().unwrap();
        });
        told.journal = ids(&journal.join().unwrap());
        told
    }

    /// Has things happen until the agent is dead; the orders that it answered.
    fn stream(&mut self, dead: &AtomicBool) -> Vec<u64> {
        let mut answered = Vec::new();
        while !dead.load(Ordering::Relaxed) {
            self.next += 1;
            let number = self.next;
            let reason = format!("order {number}");
            let order = match self.random.below(4) {
                0 => Order::Hold {
                    component: CHIP.to_owned(),
                    reason,
                    seconds: None,
                },
                1 => Order::Clear {
                    component: NIC.to_owned(),
                    check: Some("aer_uncorrectable".to_owned()),
                    reason,
                },
                2 => {
                    let errors = format!("TOTAL_ERR_NONFATAL {number}\n");
                    let file = self.tree.device(NIC).join("aer_dev_nonfatal");
                    fs::write(file, errors).unwrap();
                    thread::sleep(Duration::from_millis(self.random.below(60)));
                    continue;
                }
                _ => Order::Switch {
                    check: "throttle".to_owned(),
                    mode: Some(match self.random.below(2) {
                        0 => Mode::Off,
                        _ => Mode::On,
                    }),
                    reason,
                },
            };
            match client::order(self.tree.root(), &order, SOON) {
                Ok(_) => answered.push(number),
                // It has only just started, or there is nothing to clear.
                Err(ClientError::Refused { .. }) => {}
                Err(ClientError::NoAgent { .. }) => thread::sleep(Duration::from_millis(2)),
                Err(error @ ClientError::Timeout { .. }) => panic!("{error}"),
                // Killed in the midst of its answer.
                Err(_) => {}
            }
        }
        answered
    }

    /// Looks at what is new in the store, and whether all that was told is there.
    fn check(&mut self, told: &Told) {
        let Ok(reader) = Reader::open(&state_directory(self.tree.root())) else {
            // Killed before there was a file.
            assert!(told.events.is_empty() && told.orders.is_empty() && told.journal.is_empty());
            assert!(self.stored.is_empty());
            return;
        };
        loop {
            let page = reader.events(&Query {
                after: self.last_id,
                ..Query::default()
            });
            let page = page.unwrap();
            for event in page.events {
                self.take(event);
            }
            if !page.more {
                break;
            }
        }
        for event in &told.events {
            assert!(event.stored, "{event:?}");
            assert_eq!(
                self.stored.get(&event.id),
                Some(event),
                "told by the socket"
            );
        }
        for id in &told.journal {
            assert!(
                self.stored.contains_key(id),
                "event {id} told by the journal"
            );
        }
        for number in &told.orders {
            assert!(self.orders.contains(number), "order {number} was answered");
        }
        self.by_socket += told.events.len();
        self.by_journal += told.journal.len();
    }

    fn take(&mut self, event: Event) {
        assert!(event.id > self.last_id, "{event:?} after {}", self.last_id);
        self.last_id = event.id;
        if let Some(done) = event.order() {
            let (Order::Hold { reason, .. }
            | Order::Clear { reason, .. }
            | Order::Switch { reason, .. }) = &done.order
            else {
                panic!("nobody ordered this: {done:?}");
            };
            let number = reason.strip_prefix("order ").unwrap().parse().unwrap();
            let last = self.orders.last().copied().unwrap_or(0);
            assert!(number > last, "order {number} after {last}");
            self.orders.insert(number);
        }
        if let Some(change) = event.transition() {
            self.changes += 1;
            let Transition {
                component,
                check,
                from,
                to,
                ..
            } = change;
            let before = self.states.insert((component, check), to);
            // What a check is at first is unobservable, and is not told.
            let expected = before.or(from.filter(|from| *from == HealthState::Unobservable));
            assert_eq!(from, expected, "{event:?} after {before:?}");
            assert_ne!(from, Some(to), "{event:?}");
        }
        self.stored.insert(event.id, event);
    }

    /// Lets one more agent run what is not run yet, and looks whether hooks were told of all.
    fn check_hooks(&mut self) {
        let wanted = |events: &BTreeMap<u64, Event>| -> BTreeSet<u64> {
            let degraded = events.values().filter(|event| {
                let change = event.transition();
                change.is_some_and(|change| {
                    change.check.is_none() && change.to == HealthState::Degraded
                })
            });
            degraded.map(|event| event.id).collect()
        };
        let wanted = wanted(&self.stored);
        let mut agent = self.agent();
        let mut missing = wanted.clone();
        let begin = Instant::now();
        while !missing.is_empty() {
            assert!(
                begin.elapsed() < 4 * SOON,
                "hooks were not told of {missing:?}"
            );
            thread::sleep(Duration::from_millis(50));
            let trace = fs::read_to_string(self.tree.root().join("hook")).unwrap_or_default();
            for id in trace.lines() {
                missing.remove(&id.parse().unwrap());
            }
        }
        agent.kill().unwrap();
        agent.wait().unwrap();
        println!("{} changes were told to a hook", wanted.len());
        assert!(!wanted.is_empty());
    }
}

/// What comes over the socket, until the agent is dead.
fn follow(root: &Path, after: u64, dead: &AtomicBool) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while !dead.load(Ordering::Relaxed) {
        let query = Query {
            after: events.last().map_or(after, |event| event.id),
            ..Query::default()
        };
        match client::fetch_events(root, &query, Duration::from_secs(1), SOON) {
            Ok(page) => events.extend(page.events),
            Err(ClientError::NoAgent { .. }) => thread::sleep(Duration::from_millis(2)),
            // Killed in the midst of its answer.
            Err(_) => {}
        }
    }
    events
}

/// The ids of the events in a journal. The last line may have been cut short.
fn ids(journal: &str) -> Vec<u64> {
    let whole = journal.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines();
    lines
        .filter(|line| line.contains(" stored="))
        .filter_map(|line| {
            let (_, rest) = line.split_once(" event=")?;
            let (id, rest) = rest.split_once(' ')?;
            assert!(rest.starts_with("stored=true"), "{line}");
            id.parse().ok()
        })
        .collect()
}

/// xorshift64* (Vigna 2016): the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}
