//! Recordings: all that an engine was fed, a line of JSON each, so that what it said can be said again.
//!
//! The first line names the form ([`Header`]). What follows is, in the order in which the engine took it: where it
//! began, looks, looks that saw nothing, orders, holds that ended, components that were forgotten. A look is written as
//! what has changed since the last look of its class at its component, so an hour of a chip is less than a megabyte.

mod delta;
mod error;
mod line;
mod read;
mod replay;
mod write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use error::{ReadError, WriteError};
pub use line::{Entry, Start};
pub use read::Reader;
pub use replay::{Event, Replayed, replay};
pub use write::Recorder;

/// Version of the form. A new kind of line changes it, for an older reader would judge without it.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub auk_recording: u32,
    /// Version of the program that began it.
    pub agent: String,
    /// What it is of, where somebody keeps it for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<Value>,
}

impl Header {
    /// The header of this version.
    #[must_use]
    pub fn new(scenario: Option<Value>) -> Self {
        Self {
            auk_recording: VERSION,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            scenario,
        }
    }
}
