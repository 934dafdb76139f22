//! A writer that is killed at random points of an event stream: what it was told to be stored is
//! there, in order, and nothing is there twice. 50 points, 1,000 with `AUK_LONG=1`; the run is
//! repeated with `AUK_SEED`.
//!
//! This program is both: started with a directory in `AUK_STORE_WRITER` it is the writer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, io, thread};

use auk_health::store::{
    self, Event, KernelRecord, Query, Reader, Record, States, Store, StoreSettings,
};

const WRITER: &str = "AUK_STORE_WRITER";
const NOW: u64 = 1_700_000_000_000;
/// Name of the state that holds the number of the last event.
const LAST: &str = "last";
/// How many records the writer's kernel log has room for.
const RING: u64 = 40;

fn main() {
    if let Ok(directory) = env::var(WRITER) {
        write(directory.as_ref());
    }
    let points = match env::var("AUK_LONG") {
        Ok(long) if long == "1" => 1000,
        _ => 50,
    };
    let seed = match env::var("AUK_SEED") {
        Ok(seed) => seed.parse().expect("AUK_SEED is a number"),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64,
    };
    println!("\nstore_kill: {points} points, AUK_SEED={seed}");
    let start = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random(seed | 1);
    let mut seen = Seen::default();
    for _ in 0..points {
        let acknowledged = killed(directory.path(), &mut random);
        seen.check(directory.path(), &acknowledged);
    }
    seen.check_all(directory.path());
    println!(
        "store_kill: {} events and {} kernel records, none lost, none twice, in {:.1} s ... ok\n",
        seen.events,
        seen.kernel.len(),
        start.elapsed().as_secs_f64()
    );
}

fn settings() -> StoreSettings {
    StoreSettings {
        deadline: Duration::from_secs(30),
        ..StoreSettings::default()
    }
}

fn record(kind: &str, number: u64) -> Record {
    Record {
        at_unix_ms: NOW,
        kind: kind.to_owned(),
        component: None,
        summary: number.to_string(),
        details: serde_json::Value::Null,
    }
}

/// Goes on where the last one was killed, and says after each batch what is stored.
fn write(directory: &Path) -> ! {
    let store = Store::open(directory, "boot", &settings(), NOW).unwrap();
    let states = store.states().unwrap();
    let mut last: u64 = states.get(LAST).map_or(0, |last| last.parse().unwrap());
    let mut random = Random(u64::from(std::process::id()) << 20 | 1);
    // The kernel log as it would be read from its start: most of it is known already.
    let mut sequence = store
        .last_kernel_sequence()
        .unwrap()
        .map_or(0, |last| last.saturating_sub(RING));
    loop {
        let numbers = last + 1..=last + 1 + random.below(5);
        last = *numbers.end();
        let parts = BTreeMap::from([(LAST.to_owned(), last.to_string())]);
        let records = numbers.map(|number| record("stream", number)).collect();
        let told = store.append(NOW, records, Some(States { parts, all: true }));
        say(&told);
        let entries = (sequence..sequence + 1 + random.below(8)).map(|sequence| {
            let kernel = KernelRecord {
                sequence,
                at_unix_ms: NOW,
                priority: 3,
                text: format!("record {sequence}"),
            };
            (kernel, Some(record("kernel", sequence)))
        });
        let entries: Vec<_> = entries.collect();
        sequence += entries.len() as u64;
        say(&store.append_kernel(NOW, entries.into()).unwrap());
    }
}

fn say(events: &[Event]) {
    let mut text = String::new();
    for event in events {
        assert!(event.stored, "{event:?}");
        let Record { kind, summary, .. } = &event.record;
        text.push_str(&format!("{} {kind} {summary}\n", event.id));
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// Runs a writer, kills it somewhere, and gives what it said to be stored.
fn killed(directory: &Path, random: &mut Random) -> Vec<(u64, String)> {
    let mut writer = Command::new(env::current_exe().unwrap())
        .env(WRITER, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut line = String::new();
    for _ in 0..random.below(60) {
        line.clear();
        lines.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the writer ended by itself");
        said.push(line.clone());
    }
    // Within the next batch, wherever in it that is; also while the file is opened.
    thread::sleep(Duration::from_micros(random.below(4000)));
    writer.kill().unwrap();
    writer.wait().unwrap();
    loop {
        line.clear();
        if lines.read_line(&mut line).unwrap() == 0 {
            break;
        }
        said.push(line.clone());
    }
    let whole = said.iter().filter_map(|line| line.strip_suffix('\n'));
    whole
        .map(|line| {
            let (id, what) = line.split_once(' ').unwrap();
            (id.parse().unwrap(), what.to_owned())
        })
        .collect()
}

/// What was found in the store so far.
#[derive(Default)]
struct Seen {
    last_id: u64,
    events: u64,
    /// Number of the last event of the stream.
    stream: u64,
    kernel: BTreeSet<u64>,
}

impl Seen {
    /// Looks at what is new since the last time.
    fn check(&mut self, directory: &Path, acknowledged: &[(u64, String)]) {
        let Ok(reader) = Reader::open(directory) else {
            // Killed before there was a file.
            assert!(acknowledged.is_empty() && self.events == 0);
            return;
        };
        let mut found = BTreeMap::new();
        loop {
            let page = reader
                .events(&Query {
                    after: self.last_id,
                    ..Query::default()
                })
                .unwrap();
            for event in page.events {
                assert!(event.id > self.last_id);
                self.last_id = event.id;
                self.take(&event);
                let Record { kind, summary, .. } = event.record;
                found.insert(event.id, format!("{kind} {summary}"));
            }
            if !page.more {
                break;
            }
        }
        for (id, what) in acknowledged {
            assert_eq!(found.get(id), Some(what), "event {id} was stored");
        }
        drop(reader);
        // Only read, so that the next writer finds the file as the killed one left it.
        let file = rusqlite::Connection::open_with_flags(
            store::file(directory),
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        )
        .unwrap();
        let number = |query: &str| -> Option<u64> {
            let text: Option<String> = file.query_row(query, [], |row| row.get(0)).unwrap();
            text.map(|text| text.parse().unwrap())
        };
        // The state was written with the event that it belongs to, or not at all.
        let last = number("SELECT max(value) FROM states WHERE name = 'last'");
        assert_eq!(last.unwrap_or(0), self.stream);
        let sequence = number("SELECT cast(max(sequence) AS TEXT) FROM kernel_log");
        assert_eq!(sequence, self.kernel.last().copied());
    }

    fn take(&mut self, event: &Event) {
        self.events += 1;
        let number: u64 = event.record.summary.parse().unwrap();
        match event.record.kind.as_str() {
            "stream" => {
                assert_eq!(number, self.stream + 1, "the stream goes on without a gap");
                self.stream = number;
            }
            "kernel" => {
                assert!(self.kernel.insert(number), "kernel record {number} twice");
            }
            other => panic!("an event of kind {other}: {event:?}"),
        }
    }

    fn check_all(&self, directory: &Path) {
        let mut anew = Self::default();
        anew.check(directory, &[]);
        assert_eq!(
            (anew.events, anew.last_id, anew.stream),
            (self.events, self.last_id, self.stream)
        );
        let expected: BTreeSet<u64> = (0..self.kernel.len() as u64).collect();
        assert_eq!(anew.kernel, expected);
    }
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
