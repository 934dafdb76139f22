//! How the agent tells what it knows: metrics, the status document, and HTTP for both.

mod config_metrics;
pub(crate) mod http;
pub mod metrics;
mod store_metrics;
