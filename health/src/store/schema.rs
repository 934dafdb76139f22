//! What the file looks like, and how an older one becomes one of today.

use rusqlite::Connection;

/// `PRAGMA application_id` of a store: "AukH".
pub(super) const APPLICATION: i32 = 0x4175_6B48;

/// Each brings a file from the version of its place in the list to the next. One that was
/// released is never changed.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE boots (
        number INTEGER PRIMARY KEY,
        boot_id TEXT NOT NULL UNIQUE,
        first_unix_ms INTEGER NOT NULL,
        -- Records of its kernel log up to here were kept once, and are no more.
        kernel_floor INTEGER NOT NULL DEFAULT -1
    ) STRICT;
    CREATE TABLE events (
        -- AUTOINCREMENT never gives an id again, even when all events are gone.
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        boot INTEGER NOT NULL REFERENCES boots (number),
        at_unix_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        component TEXT,
        summary TEXT NOT NULL,
        details TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_time ON events (at_unix_ms);
    CREATE INDEX events_by_component ON events (component, id);
    CREATE TABLE states (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE consumers (
        name TEXT PRIMARY KEY,
        cursor INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE kernel_log (
        boot INTEGER NOT NULL REFERENCES boots (number),
        sequence INTEGER NOT NULL,
        at_unix_ms INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (boot, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE marks (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
"];

/// The version of a file that all migrations have been applied to.
pub(super) const fn version_of(migrations: &[&str]) -> u32 {
    migrations.len() as u32
}

/// The version of a file; 0 for one that is empty.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Applies what lacks. Each step is a transaction, so that a file is always of one version.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let found = version(connection)?;
    for (from, migration) in (0..).zip(migrations) {
        if from < found {
            continue;
        }
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", from + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (7);";
    const SECOND: &str = "ALTER TABLE a ADD COLUMN y TEXT NOT NULL DEFAULT 'new';";

    #[test]
    fn a_file_of_any_earlier_version_becomes_one_of_today_and_keeps_its_rows() {
        for applied in 0..=2 {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, &[FIRST, SECOND][..applied]).unwrap();
            migrate(&mut connection, &[FIRST, SECOND]).unwrap();
            let row = connection.query_row("SELECT x, y FROM a", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            });
            assert_eq!(row.unwrap(), (7, "new".to_owned()));
            assert_eq!(version(&connection).unwrap(), 2);
        }
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = "ALTER TABLE a ADD COLUMN y TEXT; SELECT nonsense;";
        assert!(migrate(&mut connection, &[FIRST, broken]).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
        assert!(connection.execute("SELECT y FROM a", []).is_err());
        migrate(&mut connection, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn every_migration_can_be_applied() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        assert_eq!(version(&connection).unwrap(), version_of(MIGRATIONS));
    }
}
