//! What the store keeps, and what it does when it cannot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use auk_health::store::{
    self, Event, KernelRecord, Query, Reader, Record, States, Store, StoreError, StoreSettings,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: u64 = 1_700_000_000_000;
const DAY: u64 = 86_400_000;

fn settings() -> StoreSettings {
    StoreSettings {
        // A slow machine must not make a sound disk look late.
        deadline: Duration::from_secs(30),
        retry: Duration::ZERO,
        ..StoreSettings::default()
    }
}

fn open(directory: &Path) -> Store {
    Store::open(directory, "boot-1", &settings(), NOW).unwrap()
}

fn record(at_unix_ms: u64, summary: &str) -> Record {
    Record {
        at_unix_ms,
        kind: "test".to_owned(),
        component: Some("0000:01:00.0".to_owned()),
        summary: summary.to_owned(),
        details: json!({"text": summary}),
    }
}

fn append(store: &Store, summary: &str) -> Event {
    let mut events = store.append(NOW, vec![record(NOW, summary)], None);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

fn summaries(store: &Store) -> Vec<String> {
    let page = store.events(&Query::default()).unwrap();
    let events = page.events.into_iter();
    events.map(|event| event.record.summary).collect()
}

fn parts(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn states(of: &[(&str, &str)], all: bool) -> Option<States> {
    let parts = parts(of);
    Some(States { parts, all })
}

fn set_aside(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".corrupt-"))
        .collect();
    names.sort();
    names
}

#[test]
fn events_and_states_are_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let told = store.append(
        NOW,
        vec![record(NOW, "one"), record(NOW + 1, "two")],
        states(&[("a", "1"), ("b", "2")], true),
    );
    assert!(told.iter().all(|event| event.stored), "{told:?}");
    store.append(NOW, Vec::new(), states(&[("b", "3")], false));
    assert_eq!(store.states().unwrap(), parts(&[("a", "1"), ("b", "3")]));
    store.append(NOW, Vec::new(), states(&[("b", "4")], true));
    store.close(NOW);

    let store = Store::open(directory.path(), "boot-2", &settings(), NOW).unwrap();
    assert_eq!(store.states().unwrap(), parts(&[("b", "4")]));
    assert_eq!(store.events(&Query::default()).unwrap().events, told);
    let third = append(&store, "three");
    assert!(third.id > told[1].id);
    assert_eq!(
        (told[0].boot_id.as_str(), third.boot_id.as_str()),
        ("boot-1", "boot-2")
    );
    store.close(NOW);
}

#[test]
fn a_page_holds_no_more_than_asked_for_and_says_that_there_is_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for number in 0..5 {
        append(&store, &number.to_string());
    }
    let mut query = Query {
        limit: Some(2),
        ..Query::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = store.events(&query).unwrap();
        query.after = page.events.last().map_or(query.after, |event| event.id);
        seen.extend(page.events.into_iter().map(|event| event.record.summary));
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    let of_another = Query {
        component: Some("0000:02:00.0".to_owned()),
        ..Query::default()
    };
    assert!(store.events(&of_another).unwrap().events.is_empty());
}

#[test]
fn a_consumer_is_given_what_it_did_not_acknowledge_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    append(&store, "before it came");
    assert!(store.pending(NOW, "hooks", 10).unwrap().events.is_empty());
    let one = append(&store, "one");
    append(&store, "two");
    let given = store.pending(NOW, "hooks", 10).unwrap();
    assert_eq!(given.events.len(), 2);
    store.ack(NOW, "hooks", one.id);
    store.close(NOW);
    let store = open(directory.path());
    let given = store.pending(NOW, "hooks", 10).unwrap();
    assert_eq!(given.events.len(), 1);
    assert_eq!(given.events[0].record.summary, "two");
    assert!(!given.lost);
    // To acknowledge what was acknowledged gives nothing back.
    store.ack(NOW, "hooks", 0);
    assert_eq!(store.pending(NOW, "hooks", 10).unwrap(), given);
}

#[test]
fn a_consumer_that_was_dismissed_begins_anew_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.enlist(NOW, "hooks");
    append(&store, "before");
    store.dismiss(NOW, "hooks");
    store.close(NOW);
    let store = open(directory.path());
    append(&store, "between");
    store.enlist(NOW, "hooks");
    append(&store, "after");
    let pending = store.pending(NOW, "hooks", 10).unwrap();
    let summaries: Vec<_> = pending.events.iter().map(|e| &e.record.summary).collect();
    assert_eq!(summaries, ["after"]);
}

#[test]
fn a_kernel_record_comes_in_once_however_often_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let entry = |sequence: u64| {
        let kernel = KernelRecord {
            sequence,
            at_unix_ms: NOW,
            priority: 3,
            text: format!("record {sequence}"),
        };
        (kernel, Some(record(NOW, &format!("event {sequence}"))))
    };
    let store = open(directory.path());
    assert_eq!(store.last_kernel_sequence().unwrap(), None);
    let first = store.append_kernel(NOW, (0..3).map(entry).collect::<Vec<_>>().into());
    assert_eq!(first.unwrap().len(), 3);
    let second = store.append_kernel(NOW, (1..5).map(entry).collect::<Vec<_>>().into());
    assert_eq!(second.unwrap().len(), 2);
    assert_eq!(store.last_kernel_sequence().unwrap(), Some(4));
    store.close(NOW);
    let store = open(directory.path());
    assert!(
        store
            .append_kernel(NOW, (0..5).map(entry).collect::<Vec<_>>().into())
            .unwrap()
            .is_empty()
    );
    store.close(NOW);
    // In another boot the kernel counts from zero again.
    let store = Store::open(directory.path(), "boot-2", &settings(), NOW).unwrap();
    assert_eq!(store.last_kernel_sequence().unwrap(), None);
    let again = store.append_kernel(NOW, vec![entry(0)].into()).unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(summaries(&store).len(), 6);
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_begun_that_says_so() {
    for damage in [b"no database at all, and longer than a header of sqlite is, which has a hundred bytes. So.".as_slice(), &[0; 8192]] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let before = append(&store, "before");
        store.close(NOW);
        let file = store::file(directory.path());
        fs::write(&file, damage).unwrap();

        let store = open(directory.path());
        let told = store.append(NOW, vec![record(NOW, "after")], None);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0].record.kind, "store_set_aside");
        assert!(told.iter().all(|event| event.stored && event.id > before.id));
        let kept = set_aside(directory.path());
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert!(told[0].record.summary.contains(&kept[0]), "{told:?}");
        assert_eq!(fs::read(directory.path().join(&kept[0])).unwrap(), damage);
    }
}

#[test]
fn a_page_in_the_middle_that_is_damaged_is_found_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let records = (0..500)
        .map(|number| record(NOW, &"x".repeat(number)))
        .collect();
    store.append(NOW, records, None);
    store.close(NOW);
    let file = store::file(directory.path());
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 8192 * 4096;
    bytes[middle..middle + 4096].fill(0xA5);
    fs::write(&file, bytes).unwrap();
    let store = open(directory.path());
    let told = store.tick(NOW);
    assert_eq!(told[0].record.kind, "store_set_aside", "{told:?}");
}

#[test]
fn only_the_last_few_damaged_files_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        fs::write(store::file(directory.path()), vec![0x55; 4096]).unwrap();
        open(directory.path()).close(NOW);
    }
    assert_eq!(set_aside(directory.path()).len(), 3);
}

#[test]
fn the_file_of_another_program_is_not_written_into() {
    let directory = tempfile::tempdir().unwrap();
    let file = store::file(directory.path());
    let foreign = rusqlite::Connection::open(&file).unwrap();
    foreign
        .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
        .unwrap();
    drop(foreign);
    let store = open(directory.path());
    let told = store.tick(NOW);
    assert!(
        told[0].record.summary.contains("another program"),
        "{told:?}"
    );
    let kept = directory.path().join(&set_aside(directory.path())[0]);
    let theirs = rusqlite::Connection::open(kept).unwrap();
    let row: i64 = theirs
        .query_row("SELECT x FROM theirs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(row, 1);
}

#[test]
fn a_file_of_a_newer_agent_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).close(NOW);
    let file = store::file(directory.path());
    let newer = rusqlite::Connection::open(&file).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let before = fs::read(&file).unwrap();
    let error = Store::open(directory.path(), "boot-1", &settings(), NOW)
        .err()
        .unwrap();
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("newer agent"), "{error}");
    assert!(matches!(
        Reader::open(directory.path()),
        Err(StoreError::Newer { found: 99, .. })
    ));
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(set_aside(directory.path()).is_empty());
}

#[test]
fn a_directory_that_cannot_be_made_costs_nothing_but_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "a file where the directory should be").unwrap();
    let store = open(&state);
    let told = store.append(NOW, vec![record(NOW, "one")], None);
    assert_eq!(told[0].record.kind, "store_unwritable");
    assert!(told.iter().all(|event| !event.stored), "{told:?}");
    assert!(!store.status().writable);
    // What waits can be asked for by those who know the rest.
    let after = told[0].id - 1;
    let page = store.events(&Query {
        after,
        ..Query::default()
    });
    assert_eq!(page.unwrap().events, told);

    fs::remove_file(&state).unwrap();
    let told = store.tick(NOW + 7000);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].record.kind, "store_writable");
    assert!(
        told[0].record.summary.contains("after 7 s: 2 events"),
        "{told:?}"
    );
    assert!(told[0].stored);
    assert!(store.status().writable);
    let kept = store.events(&Query::default()).unwrap().events;
    assert_eq!(kept.len(), 3);
    assert!(kept.is_sorted_by_key(|event| event.id));
    assert!(kept.iter().all(|event| event.stored));
}

#[test]
fn a_consumer_of_a_file_that_could_not_be_opened_at_first_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let store = open(&state);
    store.pending(NOW, "hooks", 10).unwrap();
    append(&store, "not acknowledged");
    store.close(NOW);
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&state, &elsewhere).unwrap();
    fs::write(&state, "a file where the directory should be").unwrap();
    let store = open(&state);
    // Nothing is known of the past; the answer may be late, and must not be a new beginning.
    let _ = store.pending(NOW, "hooks", 10);
    store.append(NOW, vec![record(NOW, "waits")], None);
    fs::remove_file(&state).unwrap();
    fs::rename(&elsewhere, &state).unwrap();
    store.tick(NOW);
    let given = store.pending(NOW, "hooks", 10).unwrap().events;
    assert_eq!(given[0].record.summary, "not acknowledged", "{given:?}");
    assert!(given.iter().any(|event| event.record.summary == "waits"));
}

#[test]
fn memory_is_bounded_and_what_is_lost_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::write(&state, "").unwrap();
    let settings = StoreSettings {
        most_unwritten: 10,
        ..settings()
    };
    let store = Store::open(&state, "boot-1", &settings, NOW).unwrap();
    for number in 0..100 {
        store.append(NOW, vec![record(NOW, &number.to_string())], None);
    }
    let status = store.status();
    assert_eq!((status.unwritten, status.lost), (10, 91));
    fs::remove_file(&state).unwrap();
    let told = store.tick(NOW);
    assert!(told[0].record.summary.contains("91 are lost"), "{told:?}");
    let kept = summaries(&store);
    assert_eq!(kept.len(), 11);
    assert_eq!(kept[0], "90");
}

#[test]
fn a_big_append_to_a_sound_disk_loses_nothing_to_the_bound_of_memory() {
    let directory = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        most_unwritten: 1,
        ..settings()
    };
    let store = Store::open(directory.path(), "boot-1", &settings, NOW).unwrap();
    let records = (0..50).map(|number| record(NOW, &number.to_string()));
    let told = store.append(NOW, records.collect(), None);
    assert!(told.iter().all(|event| event.stored));
    assert_eq!(summaries(&store).len(), 50);
}

#[test]
fn what_is_too_old_goes_and_a_clock_that_jumps_takes_nothing_recent_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.pending(NOW, "slow", 1).unwrap();
    let old = (0..1500).map(|number| record(NOW - 40 * DAY, &number.to_string()));
    store.append(NOW, old.collect(), None);
    let last = append(&store, "young");
    store.close(NOW);
    // 20 years ahead, all are too old; the last thousand stay.
    let store = Store::open(directory.path(), "boot-1", &settings(), NOW + 7300 * DAY).unwrap();
    let page = store.events(&Query::default()).unwrap();
    assert_eq!(page.events.len(), 1000);
    assert_eq!(page.events.last().unwrap().id, last.id);
    assert_eq!(page.forgotten_through, last.id - 1000);
    assert!(store.pending(NOW, "slow", 1).unwrap().lost);
    // An id is never given again.
    assert!(append(&store, "next").id > last.id);
}

#[test]
fn a_file_that_is_too_big_loses_its_oldest_and_becomes_smaller() {
    let directory = tempfile::tempdir().unwrap();
    let settings = StoreSettings {
        most_bytes: 256 << 10,
        ..settings()
    };
    let store = Store::open(directory.path(), "boot-1", &settings, NOW).unwrap();
    let kernel = |sequence| {
        let kernel = KernelRecord {
            sequence,
            at_unix_ms: NOW,
            priority: 3,
            text: "k".repeat(500),
        };
        (kernel, None)
    };
    store
        .append_kernel(NOW, (0..1000).map(kernel).collect::<Vec<_>>().into())
        .unwrap();
    let text = "x".repeat(1000);
    for _ in 0..600 {
        store.append(NOW, vec![record(NOW, &text)], None);
    }
    let last = append(&store, "last");
    let known = store.last_kernel_sequence().unwrap();
    store.close(NOW);
    let store = Store::open(directory.path(), "boot-1", &settings, NOW).unwrap();
    assert!(store.append(NOW, vec![record(NOW, "more")], None)[0].stored);
    assert!(store.status().bytes <= 256 << 10, "{:?}", store.status());
    let page = store.events(&Query::default()).unwrap();
    assert_eq!(page.events.last().unwrap().id, last.id + 1);
    assert!(page.forgotten_through > 0);
    // Records of the kernel log that were forgotten do not come in a second time.
    assert_eq!(store.last_kernel_sequence().unwrap(), known);
    let with_event = |sequence| (kernel(sequence).0, Some(record(NOW, "again")));
    let again = store.append_kernel(NOW, (0..1000).map(with_event).collect::<Vec<_>>().into());
    assert!(again.unwrap().is_empty());
    store.close(NOW);
    let size = fs::metadata(store::file(directory.path())).unwrap().len();
    assert!(size <= 256 << 10, "{size}");
}

#[test]
fn a_reader_sees_what_is_kept_beside_a_writer_after_it_and_after_its_death() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Reader::open(directory.path()).is_err());
    let store = open(directory.path());
    append(&store, "one");
    let seen = |directory: &Path| {
        let reader = Reader::open(directory).unwrap();
        reader.events(&Query::default()).unwrap().events.len()
    };
    assert_eq!(seen(directory.path()), 1);
    // A copy taken now is what a killed agent leaves: a log that nobody has worked in.
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    assert_eq!(seen(copy.path()), 1);
    store.close(NOW);
    assert_eq!(seen(directory.path()), 1);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let at = 0..=i64::MAX as u64;
    (
        at,
        any::<String>(),
        any::<Option<String>>(),
        any::<String>(),
        any_value(),
    )
        .prop_map(|(at_unix_ms, kind, component, summary, details)| Record {
            at_unix_ms,
            kind,
            component,
            summary,
            details,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_kept_comes_back_as_it_was(
        records in prop::collection::vec(any_record(), 0..8),
        states in prop::collection::btree_map(any::<String>(), any::<String>(), 0..8),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let told = store.append(NOW, records.clone(), Some(States { parts: states.clone(), all: true }));
        store.close(NOW);
        let store = open(directory.path());
        prop_assert_eq!(&store.events(&Query::default()).unwrap().events, &told);
        prop_assert!(told.iter().map(|event| &event.record).eq(&records));
        prop_assert_eq!(store.states().unwrap(), states);
        for event in &told {
            let text = serde_json::to_string(event).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Event>(&text).unwrap(), event);
        }
    }

    #[test]
    fn whatever_the_rows_hold_they_are_read(
        rows in prop::collection::vec((1..i64::MAX, any::<i64>(), ".*", any::<Option<String>>(), ".*"), 1..8),
        query in (any::<u64>(), any::<Option<u64>>(), any::<bool>(), any::<bool>()),
    ) {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).close(NOW);
        let file = rusqlite::Connection::open(store::file(directory.path())).unwrap();
        for (id, at, kind, component, details) in rows {
            let row = (id, at, kind, component, details);
            let insert = "INSERT OR IGNORE INTO events VALUES (?1, 1, ?2, ?3, ?4, '', ?5)";
            file.execute(insert, row).unwrap();
        }
        drop(file);
        let (after, since, newest, news) = query;
        let query = Query { after, since, newest, news, ..Query::default() };
        let events = Reader::open(directory.path()).unwrap().events(&query).unwrap();
        let store = open(directory.path());
        prop_assert_eq!(store.events(&query).unwrap().events, events.events);
        store.append(NOW, vec![record(NOW, "one")], None);
    }

    #[test]
    fn a_file_of_any_bytes_is_opened_or_set_aside(bytes in prop::collection::vec(any::<u8>(), 0..6000), with_header in any::<bool>()) {
        let directory = tempfile::tempdir().unwrap();
        let mut contents = bytes;
        if with_header {
            contents.splice(..0, *b"SQLite format 3\0");
        }
        fs::write(store::file(directory.path()), contents).unwrap();
        // A version above ours may be read out of noise.
        if let Ok(store) = Store::open(directory.path(), "boot-1", &settings(), NOW) {
            let told = store.append(NOW, vec![record(NOW, "one")], None);
            prop_assert!(told.iter().all(|event| event.stored), "{:?}", told);
        }
    }
}
