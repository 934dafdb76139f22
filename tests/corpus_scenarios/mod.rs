//! The scenarios of the corpus.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a failing helper is a failing test"
)]

pub mod ill;
pub mod log;
pub mod well;

use std::path::Path;

/// A scenario: its name, and what records it.
pub type Scenario = (&'static str, fn(&Path));
