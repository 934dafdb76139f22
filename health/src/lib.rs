//! Health agent for accelerators and NICs, honest in small.
//!
//! [`probe`] reads files and makes [`facts`] of them; [`check`] holds the rules, one a file; the
//! [`Engine`] makes [`verdict`]s of both and is pure: facts and time in, verdicts out. [`Agent`]
//! is the loop around them, with its [`store`] and its [`output`]; [`client`] asks a running agent.
//!
//! ```no_run
//! use std::time::Duration;
//! use auk_health::{Agent, client, verdict::HealthState};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let agent = Agent::builder("/tmp/host").start()?;
//! let status = agent.wait_until(Duration::from_secs(5), |status| {
//!     status.component("0000:01:00.0").is_some_and(|chip| chip.state == HealthState::Healthy)
//! })?;
//! println!("{} components", status.components.len());
//! // From any other process:
//! let same = client::fetch_status("/tmp/host".as_ref(), Duration::from_secs(1))?;
//! println!("agent {} is process {}", same.agent.version, same.agent.pid);
//! agent.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! `docs/health.md` has the rules with their limits, the metrics and the status document.

mod agent;
pub mod check;
pub mod client;
pub mod config;
pub mod doctor;
mod engine;
mod error;
pub mod facts;
pub mod hook;
pub mod host;
pub mod incident;
pub mod kernel_log;
pub mod opener;
pub mod operator;
pub mod output;
pub mod probe;
pub mod proof;
mod reader;
pub mod recording;
pub mod status;
pub mod store;
pub mod time;
pub mod verdict;

#[cfg(fuzzing)]
pub use agent::fuzz_kernel_messages;
pub use agent::{Agent, AgentHandle, Builder, Reloader, socket_path};
pub use check::{Settings, clears};
pub use config::Config;
pub use engine::{Engine, Missing, RestoreError, Saved, rules};
pub use error::{AgentError, WaitError};
#[cfg(fuzzing)]
pub use reader::fuzz_reader_wire;
pub use reader::{ReaderCommand, run_process as run_reader};
pub use status::Status;
pub use store::StoreError;
