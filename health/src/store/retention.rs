//! What is kept for how long.

use rusqlite::{Connection, params};

use super::database::{Database, mark_forgotten};
use super::{StoreSettings, signed};
use crate::time::millis;

/// Events that are kept whatever their age: a clock that jumps ahead by years must not wipe the
/// record of a host.
const ALWAYS_KEPT: i64 = 1000;
/// Of what is there, an eighth is removed at a time when the file is too big: often enough to
/// stay near the limit, seldom enough to cost nothing.
const SHARE: i64 = 8;

impl Database {
    /// Bytes in use.
    pub(super) fn bytes(&self) -> rusqlite::Result<u64> {
        let pragma = |name| {
            self.connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
        };
        let pages = pragma("page_count")? - pragma("freelist_count")?;
        Ok(super::unsigned(pages.saturating_mul(pragma("page_size")?)))
    }

    /// Removes what is too old, and the oldest of what is too much.
    pub(super) fn retain(
        &mut self,
        settings: &StoreSettings,
        now_unix_ms: u64,
    ) -> rusqlite::Result<()> {
        let cutoff = now_unix_ms.saturating_sub(millis(settings.keep));
        self.forget_old(signed(cutoff))?;
        let mut before = u64::MAX;
        loop {
            let bytes = self.bytes()?;
            // Without progress there is nothing left that may go.
            if bytes <= settings.most_bytes || bytes >= before {
                break;
            }
            before = bytes;
            self.forget_share()?;
        }
        // One step of this statement is one page, so it has to be read to its end.
        let mut vacuum = self.connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    fn forget_old(&mut self, cutoff: i64) -> rusqlite::Result<()> {
        let boot = self.boot();
        let transaction = self.connection.transaction()?;
        // Up to the first that is young enough: ids without gaps in what is kept.
        let through: i64 = transaction.query_row(
            "SELECT min(
                coalesce((SELECT min(id) - 1 FROM events WHERE at_unix_ms >= ?1), 9223372036854775807),
                coalesce((SELECT max(id) FROM events), 0) - ?2)",
            params![cutoff, ALWAYS_KEPT],
            |row| row.get(0),
        )?;
        forget_events(&transaction, through)?;
        transaction.execute(
            "DELETE FROM kernel_log WHERE boot <> ?1 AND at_unix_ms < ?2",
            params![boot, cutoff],
        )?;
        transaction.execute(
            "DELETE FROM boots WHERE number <> ?1 AND first_unix_ms < ?2
             AND NOT EXISTS (SELECT 1 FROM events WHERE boot = number)
             AND NOT EXISTS (SELECT 1 FROM kernel_log WHERE boot = number)",
            params![boot, cutoff],
        )?;
        transaction.commit()
    }

    fn forget_share(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let through: Option<i64> = transaction.query_row(
            "SELECT max(id) FROM (SELECT id FROM events ORDER BY id
             LIMIT (SELECT (count(*) + ?1 - 1) / ?1 FROM events))",
            [SHARE],
            |row| row.get(0),
        )?;
        if let Some(through) = through {
            forget_events(&transaction, through)?;
        }
        let boots: Vec<(i64, i64)> = transaction
            .prepare(
                "SELECT boot, max(sequence) FROM (SELECT boot, sequence FROM kernel_log
                 ORDER BY boot, sequence LIMIT (SELECT (count(*) + ?1 - 1) / ?1 FROM kernel_log))
                 GROUP BY boot",
            )?
            .query_map([SHARE], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (boot, sequence) in boots {
            // The kernel may still have them; they must not come in a second time.
            transaction.execute(
                "UPDATE boots SET kernel_floor = max(kernel_floor, ?2) WHERE number = ?1",
                [boot, sequence],
            )?;
            transaction.execute(
                "DELETE FROM kernel_log WHERE boot = ?1 AND sequence <= ?2",
                [boot, sequence],
            )?;
        }
        transaction.commit()
    }
}

fn forget_events(connection: &Connection, through: i64) -> rusqlite::Result<()> {
    let forgotten = connection.execute("DELETE FROM events WHERE id <= ?1", [through])?;
    if forgotten > 0 {
        mark_forgotten(connection, through)?;
    }
    Ok(())
}
