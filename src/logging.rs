//! Log lines, on stderr, so that stdout holds nothing but what was asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::output::style;

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
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && style::wanted())
        .init();
}
