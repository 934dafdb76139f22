//! The file, from the inside: one writer, each batch a transaction.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::Value;

use super::record::{Event, KernelRecord, Query, Record};
use super::{Batch, States, signed, unsigned};

/// Name of the mark that says up to which id events were removed.
const FORGOTTEN: &str = "events_forgotten_through";

/// An open database.
pub(super) struct Database {
    pub(super) connection: Connection,
    /// Number of the present boot.
    boot: i64,
    /// What the states were when they were last written, so that only changes are.
    written: BTreeMap<String, u64>,
}

/// What a database knows when it is opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) last_id: u64,
    pub(super) cursors: BTreeMap<String, u64>,
}

impl Database {
    pub(super) fn new(
        connection: Connection,
        boot_id: &str,
        now_unix_ms: u64,
    ) -> rusqlite::Result<Self> {
        connection.execute(
            "INSERT INTO boots (boot_id, first_unix_ms) VALUES (?1, ?2) ON CONFLICT (boot_id) DO NOTHING",
            params![boot_id, signed(now_unix_ms)],
        )?;
        let boot = connection.query_row(
            "SELECT number FROM boots WHERE boot_id = ?1",
            [boot_id],
            |row| row.get(0),
        )?;
        Ok(Self {
            connection,
            boot,
            written: BTreeMap::new(),
        })
    }

    pub(super) fn known(&self) -> rusqlite::Result<Known> {
        let mut statement = self
            .connection
            .prepare("SELECT name, cursor FROM consumers")?;
        let cursors = statement
            .query_map([], |row| {
                Ok((row.get::<_, String>(0)?, unsigned(row.get(1)?)))
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Known {
            last_id: last_id(&self.connection)?,
            cursors,
        })
    }

    /// Writes a batch, all or nothing. What an earlier try wrote already is left as it is.
    pub(super) fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let boot = self.boot;
        let transaction = self.connection.transaction()?;
        for event in &batch.events {
            insert(&transaction, boot, event)?;
        }
        for (name, cursor) in &batch.cursors {
            transaction.execute(
                "INSERT INTO consumers (name, cursor) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor",
                params![name, signed(*cursor)],
            )?;
        }
        for name in &batch.dismissed {
            transaction.execute("DELETE FROM consumers WHERE name = ?1", [name])?;
        }
        let written = match &batch.states {
            Some(states) => Some(write_states(&transaction, states, &self.written)?),
            None => None,
        };
        transaction.commit()?;
        self.written.extend(written.into_iter().flatten());
        Ok(())
    }

    /// Keeps records of the kernel log, with the event that each gives rise to, other events, and up to where the log
    /// was read; the ids of the events that are new.
    pub(super) fn write_kernel(
        &mut self,
        records: &[(KernelRecord, Option<Event>)],
        others: &[Event],
        seen: Option<u64>,
    ) -> rusqlite::Result<Vec<u64>> {
        let boot = self.boot;
        let transaction = self.connection.transaction()?;
        let floor: i64 = transaction.query_row(
            "SELECT kernel_floor FROM boots WHERE number = ?1",
            [boot],
            |row| row.get(0),
        )?;
        let mut new = Vec::new();
        if seen.is_none_or(|seen| signed(seen) > floor) {
            for event in others {
                insert(&transaction, boot, event)?;
                new.push(event.id);
            }
        }
        for (record, event) in records {
            let sequence = signed(record.sequence);
            if sequence <= floor {
                continue;
            }
            let inserted = transaction.execute(
                "INSERT INTO kernel_log (boot, sequence, at_unix_ms, priority, text)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (boot, sequence) DO NOTHING",
                params![
                    boot,
                    sequence,
                    signed(record.at_unix_ms),
                    record.priority,
                    record.text
                ],
            )?;
            if let (1, Some(event)) = (inserted, event) {
                insert(&transaction, boot, event)?;
                new.push(event.id);
            }
        }
        if let Some(seen) = seen {
            transaction.execute(
                "UPDATE boots SET kernel_floor = max(kernel_floor, ?2) WHERE number = ?1",
                [boot, signed(seen)],
            )?;
        }
        transaction.commit()?;
        Ok(new)
    }

    /// The greatest sequence number of this boot's kernel log that was kept.
    pub(super) fn last_kernel_sequence(&self) -> rusqlite::Result<Option<u64>> {
        let last: i64 = self.connection.query_row(
            "SELECT max(coalesce((SELECT max(sequence) FROM kernel_log WHERE boot = ?1), -1), kernel_floor)
             FROM boots WHERE number = ?1",
            [self.boot],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(last).ok())
    }

    pub(super) fn states(&self) -> rusqlite::Result<BTreeMap<String, String>> {
        let mut statement = self.connection.prepare("SELECT name, value FROM states")?;
        statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    }

    pub(super) fn boot(&self) -> i64 {
        self.boot
    }
}

fn insert(transaction: &Transaction<'_>, boot: i64, event: &Event) -> rusqlite::Result<usize> {
    let Record {
        at_unix_ms,
        kind,
        component,
        summary,
        details,
    } = &event.record;
    transaction
        .prepare_cached(
            "INSERT INTO events (id, boot, at_unix_ms, kind, component, summary, details)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            signed(event.id),
            boot,
            signed(*at_unix_ms),
            kind,
            component,
            summary,
            details.to_string()
        ])
}

/// Writes those of the states that are not in the file as they are; what each now is.
fn write_states(
    transaction: &Transaction<'_>,
    states: &States,
    written: &BTreeMap<String, u64>,
) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut now = BTreeMap::new();
    for (name, value) in &states.parts {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        let hash = hasher.finish();
        if written.get(name) != Some(&hash) {
            transaction.execute(
                "INSERT INTO states (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                params![name, value],
            )?;
        }
        now.insert(name.clone(), hash);
    }
    if !states.all {
        return Ok(now);
    }
    // Those of a former agent are not in `written`, so the file is asked.
    let mut statement = transaction.prepare("SELECT name FROM states")?;
    let kept: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in kept.iter().filter(|name| !states.parts.contains_key(*name)) {
        transaction.execute("DELETE FROM states WHERE name = ?1", [name])?;
    }
    Ok(now)
}

/// The greatest id that was given; it outlives its event.
pub(super) fn last_id(connection: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = connection
        .query_row(
            "SELECT seq FROM sqlite_sequence WHERE name = 'events'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok(unsigned(last.unwrap_or(0)))
}

/// Up to which id events are kept no more.
pub(super) fn forgotten_through(connection: &Connection) -> rusqlite::Result<u64> {
    let mark: Option<i64> = connection
        .query_row(
            "SELECT value FROM marks WHERE name = ?1",
            [FORGOTTEN],
            |row| row.get(0),
        )
        .optional()?;
    Ok(unsigned(mark.unwrap_or(0)))
}

pub(super) fn mark_forgotten(connection: &Connection, through: i64) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT INTO marks (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
            params![FORGOTTEN, through],
        )
        .map(drop)
}

/// The events that are asked for, oldest first, and one more than the limit if there are more.
pub(super) fn events(connection: &Connection, query: &Query) -> rusqlite::Result<Vec<Event>> {
    let order = if query.newest { "DESC" } else { "ASC" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, boot_id, at_unix_ms, kind, component, summary, details
         FROM events JOIN boots ON boots.number = events.boot
         WHERE id > ?1 AND at_unix_ms >= ?2 AND (?3 IS NULL OR component = ?3)
         ORDER BY id {order}"
    ))?;
    let mut rows = statement.query(params![
        signed(query.after),
        signed(query.since.unwrap_or(0)),
        query.component,
    ])?;
    let mut events = Vec::new();
    while events.len() <= query.limit()
        && let Some(row) = rows.next()?
    {
        let event = event(row)?;
        if query.takes(&event) {
            events.push(event);
        }
    }
    if query.newest {
        events.reverse();
    }
    Ok(events)
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let details: String = row.get(6)?;
    Ok(Event {
        id: unsigned(row.get(0)?),
        boot_id: row.get(1)?,
        stored: true,
        record: Record {
            at_unix_ms: unsigned(row.get(2)?),
            kind: row.get(3)?,
            component: row.get(4)?,
            summary: row.get(5)?,
            // What is no JSON was written by nobody; the summary still stands.
            details: serde_json::from_str(&details).unwrap_or(Value::Null),
        },
    })
}
