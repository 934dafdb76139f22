//! How the agent tells what it knows: metrics, the status document, and HTTP for both.

pub(crate) mod events;
pub(crate) mod http;
pub mod metrics;
