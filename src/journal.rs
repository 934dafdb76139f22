//! The way into systemd's journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): entries with fields.
//!
//! A journald that does not read must not hold up the agent's loop, so the socket never waits for it. What it does not take
//! is dropped, counted, and said once it takes entries again.

use std::fmt::{self, Write};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

const SOCKET: &str = "/run/systemd/journal/socket";
const IDENTIFIER: &str = "auk";
/// What fields' names begin with: `AUK_COMPONENT`.
const PREFIX: &str = "AUK_";
/// Longest value, so that an entry of a dozen fields is a datagram that the kernel takes.
const LONGEST: usize = 8 << 10;

/// A journald, while it takes entries and while it does not.
pub(crate) struct Journal {
    socket: UnixDatagram,
    dropped: AtomicU64,
}

impl Journal {
    /// The journald of this machine.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        // An entry without fields, which is none, says whether somebody is there, be it too busy at the moment.
        match socket.send_to(&[], SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(Self {
                socket,
                dropped: AtomicU64::new(0),
            }),
        }
    }

    /// Sends an entry, or counts it. Each time by the path, so that a journald that was started anew is found.
    fn put(&self, entry: &Entry) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            let mut gap = Entry::new(Level::WARN);
            let message =
                format!("{dropped} log entries were dropped: the journal did not take them");
            gap.field("MESSAGE", &message);
            if self.socket.send_to(&gap.0, SOCKET).is_ok() {
                self.dropped.fetch_sub(dropped, Ordering::Relaxed);
            }
        }
        if self.socket.send_to(&entry.0, SOCKET).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::new(*metadata.level());
        entry.field("TARGET", metadata.target());
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry.field("CODE_FILE", file);
            entry.field("CODE_LINE", &line.to_string());
        }
        event.record(&mut entry);
        self.put(&entry);
    }
}

/// An entry's bytes.
struct Entry(Vec<u8>);

impl Entry {
    fn new(level: Level) -> Self {
        let mut entry = Self(Vec::with_capacity(512));
        // Priorities of syslog(3).
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            Level::DEBUG | Level::TRACE => "7",
        };
        entry.field("PRIORITY", priority);
        entry.field("SYSLOG_IDENTIFIER", IDENTIFIER);
        entry
    }

    /// A name that the protocol allows, and a value.
    fn field(&mut self, name: &str, value: &str) {
        let value = &value[..value.floor_char_boundary(LONGEST)];
        self.0.extend(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend((value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.field("MESSAGE", value),
            name => self.field(&allowed(name), value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // A value that cannot be told leaves the rest of the entry.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

/// A field's name in the journal: capital letters, digits and underscores.
fn allowed(name: &str) -> String {
    let capital = |character: char| match character.to_ascii_uppercase() {
        allowed @ ('A'..='Z' | '0'..='9') => allowed,
        _ => '_',
    };
    PREFIX.chars().chain(name.chars().map(capital)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_more_than_a_line_comes_with_its_length() {
        let mut entry = Entry(Vec::new());
        entry.field("ONE", "a=b");
        entry.field("TWO", "a\nB");
        assert_eq!(entry.0, b"ONE=a=b\nTWO\n\x03\0\0\0\0\0\0\0a\nB\n");
    }

    #[test]
    fn a_value_is_cut_where_a_character_ends() {
        let mut entry = Entry(Vec::new());
        entry.field("A", &"\u{e4}".repeat(LONGEST));
        assert_eq!(entry.0.len(), LONGEST + 3);
        entry.0.clear();
        entry.field("A", &format!("x{}", "\u{e4}".repeat(LONGEST)));
        assert_eq!(entry.0.len(), LONGEST - 1 + 3);
    }

    #[test]
    fn names_are_those_that_the_journal_allows() {
        assert_eq!(allowed("bdf"), "AUK_BDF");
        assert_eq!(allowed("r#a.b-9"), "AUK_R_A_B_9");
    }
}
