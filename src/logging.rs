//! Log lines, on stderr, so that stdout holds nothing but what was asked for. Where stderr is the journal they go there
//! with their fields.

use std::io::{self, IsTerminal};

use nix::sys::stat::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::journal::Journal;
use crate::output::{self, style};

/// Environment variable with filter directives, such as `auk_sim=debug`; it wins over `-v`.
const FILTER: &str = "AUK_LOG";
/// Where systemd says which stream is the journal, as systemd.exec(5) has it: device and inode.
const JOURNAL: &str = "JOURNAL_STREAM";

/// Starts logging: warnings, or more with each `-v`; into the journal one step more. What a command tells in its own
/// words is logged when more is wanted.
pub(crate) fn start(verbose: u8, told: Option<&str>) {
    let journal = journal();
    let level = match (verbose.saturating_add(u8::from(journal.is_some())), told) {
        (0, None) => "warn".to_owned(),
        (0, Some(told)) => format!("warn,{told}"),
        (1, _) => "info".to_owned(),
        (2, _) => "debug".to_owned(),
        _ => "trace".to_owned(),
    };
    let filter = match std::env::var(FILTER).ok().map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            output::note(&format!("{FILTER} is left out of account: {error}"));
            EnvFilter::new(level)
        }
        None => EnvFilter::new(level),
    };
    let lines = journal.is_none().then(|| {
        fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal() && style::wanted())
    });
    tracing_subscriber::registry()
        .with(filter)
        .with(journal)
        .with(lines)
        .init();
}

/// The way into the journal, if that is where stderr leads.
fn journal() -> Option<Journal> {
    let stream = std::env::var(JOURNAL).ok()?;
    let stderr = fstat(io::stderr()).ok()?;
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    Journal::open()
        .inspect_err(|error| {
            output::note(&format!("the journal takes no fields, only lines: {error}"));
        })
        .ok()
}
