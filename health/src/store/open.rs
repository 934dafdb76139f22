//! Opening the file: its checks, and what becomes of one that fails them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::StoreError;
use super::schema::{self, APPLICATION, MIGRATIONS};

/// Readers never block a writer in WAL mode; this is for a second writer, as `sqlite3` would be.
const BUSY: Duration = Duration::from_millis(500);
/// Bytes that the log may keep on disk once its contents are in the database.
const WAL_KEPT: i64 = 1 << 20;
/// Pages in memory, in KiB (negative, as SQLite wants it): the agent has 20 MB for all.
const CACHE: i64 = -512;
/// SQLite's name for no file at all.
pub(super) const MEMORY: &str = ":memory:";
/// Damaged files that are kept for whoever wants to know.
const SET_ASIDE_KEPT: usize = 3;

/// An open file, and what had to be done about the one before it.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) set_aside: Option<SetAside>,
}

/// A damaged file that was moved out of the way.
#[derive(Clone, Debug)]
pub(super) struct SetAside {
    pub(super) to: PathBuf,
    pub(super) why: String,
}

enum Bad {
    Damaged(String),
    Other(StoreError),
}

impl From<StoreError> for Bad {
    fn from(error: StoreError) -> Self {
        Self::Other(error)
    }
}

/// Opens the file for writing. A damaged one is set aside and a new one begun.
pub(super) fn open(path: &Path, now_unix_ms: u64) -> Result<Opened, StoreError> {
    if path == Path::new(MEMORY) {
        return match open_sound(path) {
            Ok(connection) => Ok(Opened {
                connection,
                set_aside: None,
            }),
            Err(Bad::Other(error)) => Err(error),
            Err(Bad::Damaged(reason)) => Err(StoreError::Unwritable {
                path: path.to_owned(),
                reason,
            }),
        };
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(|source| StoreError::Io {
        doing: "create the state directory",
        path: directory.to_owned(),
        source,
    })?;
    let why = match open_sound(path) {
        Ok(connection) => {
            return Ok(Opened {
                connection,
                set_aside: None,
            });
        }
        Err(Bad::Other(error)) => return Err(error),
        Err(Bad::Damaged(why)) => why,
    };
    let to = set_aside(path, now_unix_ms).map_err(|source| StoreError::Io {
        doing: "set aside the damaged",
        path: path.to_owned(),
        source,
    })?;
    match open_sound(path) {
        Ok(connection) => Ok(Opened {
            connection,
            set_aside: Some(SetAside { to, why }),
        }),
        Err(Bad::Other(error)) => Err(error),
        // A new file that reads as damaged: the disk does that.
        Err(Bad::Damaged(why)) => Err(StoreError::Unwritable {
            path: path.to_owned(),
            reason: format!("a new file is damaged at once: {why}"),
        }),
    }
}

/// Opens the file for reading alone, beside an agent or without one.
pub(super) fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let failed = |doing, source| sql(doing, path, source);
    // A file that was closed well has no log. Then nobody writes, and without `immutable` SQLite
    // would want to create one, in a directory that may not be ours.
    let wal = with_suffix(path, "-wal");
    let closed = fs::metadata(&wal).map_or(true, |wal| wal.len() == 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri(path, closed), flags)
        .map_err(|source| failed("open", source))?;
    connection
        .busy_timeout(BUSY)
        .map_err(|source| failed("open", source))?;
    let found = schema::version(&connection).map_err(|source| failed("read", source))?;
    let known = schema::version_of(MIGRATIONS);
    let path = path.to_owned();
    match found {
        _ if found > known => Err(StoreError::Newer { path, found, known }),
        _ if found < known => Err(StoreError::Older { path, found, known }),
        _ => Ok(connection),
    }
}

/// A `file:` URI (RFC 3986: all but unreserved characters escaped).
fn uri(path: &Path, immutable: bool) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    if immutable {
        uri.push_str("?immutable=1");
    }
    uri
}

fn open_sound(path: &Path) -> Result<Connection, Bad> {
    let failed = |doing, source| verdict(doing, path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|source| failed("open", source))?;
    let version = prepare(&connection).map_err(|source| failed("open", source))?;
    let known = schema::version_of(MIGRATIONS);
    if version > known {
        let path = path.to_owned();
        let found = version;
        return Err(StoreError::Newer { path, found, known }.into());
    }
    check(&connection, version).map_err(|source| failed("check", source))??;
    schema::migrate(&mut connection, MIGRATIONS).map_err(|source| failed("migrate", source))?;
    connection
        .pragma_update(None, "foreign_keys", true)
        .map_err(|source| failed("open", source))?;
    Ok(connection)
}

/// Sets the connection up; the file's version.
fn prepare(connection: &Connection) -> rusqlite::Result<u32> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "cache_size", CACHE)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let version = schema::version(connection)?;
    if version > schema::version_of(MIGRATIONS) {
        // Nothing of it is touched.
        return Ok(version);
    }
    // Has an effect on an empty file alone, and only before it is one with a log.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_KEPT, |_| Ok(()))?;
    // Each commit is on disk when it returns: what brings a chip down may bring its host down.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(version)
}

/// Whether what is in the file can be believed.
fn check(connection: &Connection, version: u32) -> rusqlite::Result<Result<(), Bad>> {
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if (version > 0 || tables > 0) && application != APPLICATION {
        let why = format!("it is the file of another program (application id {application:#x})");
        return Ok(Err(Bad::Damaged(why)));
    }
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok(match said.as_str() {
        "ok" => Ok(()),
        _ => Err(Bad::Damaged(said.replace('\n', " "))),
    })
}

fn verdict(doing: &'static str, path: &Path, source: rusqlite::Error) -> Bad {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Bad::Damaged(source.to_string())
        }
        _ => Bad::Other(sql(doing, path, source)),
    }
}

pub(super) fn sql(doing: &'static str, path: &Path, source: rusqlite::Error) -> StoreError {
    StoreError::Sql {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// Moves a file and its log out of the way; where to.
fn set_aside(path: &Path, now_unix_ms: u64) -> io::Result<PathBuf> {
    let prefix = with_suffix(path, ".corrupt-");
    let mut stamp = now_unix_ms;
    let to = loop {
        let to = with_suffix(&prefix, &stamp.to_string());
        if !to.exists() {
            break to;
        }
        stamp += 1;
    };
    fs::rename(path, &to)?;
    for suffix in ["-wal", "-shm"] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&to, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    forget_oldest(&prefix);
    Ok(to)
}

/// Keeps the last few that were set aside, so that a failing disk does not fill itself.
fn forget_oldest(prefix: &Path) {
    let (Some(directory), Some(name)) = (prefix.parent(), prefix.file_name()) else {
        return;
    };
    let name = name.to_string_lossy().into_owned();
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let mut stamps: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            file.to_str()?.strip_prefix(&name)?.parse().ok()
        })
        .collect();
    stamps.sort_unstable();
    let surplus = stamps.len().saturating_sub(SET_ASIDE_KEPT);
    for stamp in &stamps[..surplus] {
        let file = with_suffix(prefix, &stamp.to_string());
        for suffix in ["", "-wal", "-shm"] {
            // Most have neither; one that stays is in nobody's way.
            let _ = fs::remove_file(with_suffix(&file, suffix));
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
