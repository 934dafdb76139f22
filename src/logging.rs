//! Log lines, on stderr, so that stdout holds nothing but what was asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::output::{self, style};

/// Environment variable with filter directives, such as `auk_sim=debug`; it wins over `-v`.
const FILTER: &str = "AUK_LOG";

/// Starts logging: warnings, or more with each `-v`.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = match std::env::var(FILTER).ok().map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            output::note(&format!("{FILTER} is left out of account: {error}"));
            EnvFilter::new(level)
        }
        None => EnvFilter::new(level),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && style::wanted())
        .init();
}
