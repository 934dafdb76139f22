//! Who is on stage, and what the agent says of them.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use auk_driver::pci;
use auk_health::AgentHandle;
use auk_health::status::Status;
use auk_health::verdict::{HealthState, Verdict};

use super::show::Show;
use crate::signals::Stop;

/// How long the demo waits for the agent before it gives up, so that a broken promise is measured and told.
pub(super) const AGENT_PATIENCE: Duration = Duration::from_secs(15);

/// Who is there, and how it is shown.
pub(super) struct Stage<'a> {
    pub(super) root: &'a Path,
    /// The chip that the job runs on.
    pub(super) chip: pci::Bdf,
    /// Everything else that the agent watches; the fault must not touch its verdicts.
    pub(super) bystanders: &'a [String],
    pub(super) agent: &'a AgentHandle,
    pub(super) stop: &'a Stop,
    pub(super) pace: Duration,
    pub(super) show: &'a Show,
}

/// Waits for the agent to say something; `None` when the user wants to end.
pub(super) fn wait_for(
    stage: &Stage<'_>,
    patience: Duration,
    what: &str,
    mut is_so: impl FnMut(&Status) -> bool,
) -> anyhow::Result<Option<Status>> {
    let status = stage
        .agent
        .wait_until(patience, |status| stage.stop.is_raised() || is_so(status))
        .with_context(|| format!("waiting for the agent to see {what}"))?;
    Ok((!stage.stop.is_raised()).then_some(status))
}

/// Whether the agent calls everything on stage healthy.
pub(super) fn all_healthy(stage: &Stage<'_>, status: &Status) -> bool {
    let is_healthy = |bdf: &str| state(status, bdf) == Some(HealthState::Healthy);
    is_healthy(&stage.chip.to_string()) && stage.bystanders.iter().all(|bdf| is_healthy(bdf))
}

/// The agent's state of a component.
pub(super) fn state(status: &Status, bdf: &str) -> Option<HealthState> {
    status.component(bdf).map(|component| component.state)
}

/// The agent's verdict on a component's uncorrectable memory errors.
pub(super) fn verdict<'a>(status: &'a Status, bdf: &str) -> Option<&'a Verdict> {
    status.component(bdf)?.verdict("ecc_ue")
}

/// The life of the chip's firmware that the agent has seen.
pub(super) fn generation(status: &Status, bdf: &str) -> Option<u32> {
    Some(status.component(bdf)?.vitals.as_ref()?.generation)
}
