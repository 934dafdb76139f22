//! `/metrics`: the status document for Prometheus, in base units.

mod agent;
mod component;
mod exposition;

pub use exposition::Format;

use crate::Status;
use exposition::Exposition;

/// Bytes of a component, and of all else.
const ROOM: (usize, usize) = (6 << 10, 8 << 10);

/// The text for a status.
#[must_use]
pub fn encode(status: &Status, format: Format) -> String {
    let room = ROOM.0 * status.components.len() + ROOM.1;
    let mut exposition = Exposition::new(format, room);
    component::write(&mut exposition, &status.components);
    agent::write(&mut exposition, status);
    exposition.finish()
}

const fn flag(value: bool) -> u8 {
    if value { 1 } else { 0 }
}

fn seconds(millis: u64) -> f64 {
    // Far below 2^53 ms.
    millis as f64 / 1000.0
}
