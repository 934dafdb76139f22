//! `auk status`: what the health agent says of its host.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use auk_health::Status;
use auk_health::client::{self, ClientError};
use auk_health::status::ComponentStatus;
use auk_health::verdict::{Admit, HealthState, Verdict};

use crate::failure::{self, FOUND_WRONG};
use crate::output::{self, Cell, Fields, Grid, Screen, Tone, span};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk status
  auk status --root /tmp/host --all
  auk status --json | jq '.components[] | select(.state != \"healthy\")'

The exit code is 0 only when every component is healthy; one that cannot be seen is not,
and neither is a host without any.";

/// Longest wait for the agent's answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what every check says, also of what is well
    #[arg(long)]
    all: bool,

    /// Print the agent's document as JSON
    #[arg(long)]
    json: bool,
}

/// Asks the agent of the host below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let status = client::fetch_status(root, DEADLINE).map_err(|error| match error {
        ClientError::NoAgent { .. } => failure::with_hint(
            error,
            format!(
                "run `auk agent --root {}` in another terminal",
                root.display()
            ),
        ),
        error => error.into(),
    })?;
    if args.json {
        output::print_json(&status)?;
    } else {
        output::print(&text(&status, args.all, Screen::stdout()))?;
        if status.agent.rounds == 0 {
            output::note("the agent has only just started and has not seen all devices yet");
        } else if let Some(error) = &status.discovery_error {
            output::note(&format!("the agent could not list the devices: {error}"));
        } else if status.components.is_empty() {
            output::note(&format!(
                "the agent sees no accelerators or NICs below {}",
                root.display()
            ));
        }
    }
    Ok(if is_well(&status) {
        ExitCode::SUCCESS
    } else {
        FOUND_WRONG.into()
    })
}

/// Every component was looked at and is healthy, and the list of them is complete. A host that
/// nothing is seen of is not well: its root may be the wrong one.
fn is_well(status: &Status) -> bool {
    let healthy = |component: &ComponentStatus| component.state == HealthState::Healthy;
    status.agent.rounds > 0
        && status.discovery_error.is_none()
        && !status.components.is_empty()
        && status.components.iter().all(healthy)
}

fn text(status: &Status, all: bool, screen: Screen) -> String {
    let mut grid = Grid::new(&[
        "ADDRESS", "KIND", "STATE", "FOR", "NEW JOBS", "ACTION", "SEEN", "HELD BY",
    ]);
    for component in &status.components {
        grid.push(row(status, component));
    }
    let mut text = if status.components.is_empty() {
        String::new()
    } else {
        grid.render(screen)
    };
    for component in &status.components {
        let told = component
            .verdicts
            .iter()
            .filter(|verdict| all || (verdict.counts && verdict.state != HealthState::Healthy));
        for verdict in told {
            text.push('\n');
            text.push_str(&explained(status, component, verdict).render(screen));
        }
    }
    text
}

fn row(status: &Status, component: &ComponentStatus) -> Vec<Cell> {
    let admit = component.admission.answer;
    vec![
        component.bdf.as_str().into(),
        component.kind.name().into(),
        Cell::new(component.state.name(), tone(component.state)),
        lasting(status, component.since_unix_ms).into(),
        Cell::new(
            admit.name(),
            match admit {
                Admit::Yes => Tone::Good,
                Admit::No => Tone::Bad,
                Admit::Hold => Tone::Doubtful,
            },
        ),
        component.action.name().into(),
        component
            .sample_age_ms
            .map_or_else(
                || "never".to_owned(),
                |age| format!("{} ago", span(Duration::from_millis(age))),
            )
            .into(),
        component
            .holder
            .as_ref()
            .map_or_else(
                || "-".to_owned(),
                |holder| format!("{} ({})", holder.comm, holder.pid),
            )
            .into(),
    ]
}

const fn tone(state: HealthState) -> Tone {
    match state {
        HealthState::Healthy => Tone::Good,
        HealthState::Degraded | HealthState::Unobservable => Tone::Doubtful,
        HealthState::Unhealthy => Tone::Bad,
    }
}

/// A verdict with what it rests on.
fn explained(status: &Status, component: &ComponentStatus, verdict: &Verdict) -> Fields {
    let mut fields = Fields::new(&format!("{} {}", component.bdf, verdict.check));
    let state = format!(
        "{} for {}",
        verdict.state,
        lasting(status, verdict.since_unix_ms)
    );
    fields
        .push("state", Cell::new(state, tone(verdict.state)))
        .push("why", &verdict.reason);
    for evidence in &verdict.evidence {
        fields.push("evidence", evidence.to_string());
    }
    if let Some(stale) = &verdict.stale {
        fields.push("stale", stale);
    }
    fields.push("to do", verdict.action.name());
    fields
}

/// How long it has been so when the status was made.
fn lasting(status: &Status, unix_ms: u64) -> String {
    span(Duration::from_millis(
        status.at_unix_ms.saturating_sub(unix_ms),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(rounds: u64, discovery_error: Option<&str>) -> Status {
        serde_json::from_value(serde_json::json!({
            "schema": 1,
            "at_unix_ms": 0,
            "agent": {
                "version": "0.1.0",
                "pid": 1,
                "root": "/",
                "started_unix_ms": 0,
                "interval_ms": 1000,
                "rounds": rounds,
                "cpu_seconds": 0.0,
                "resident_bytes": 0,
            },
            "discovery_error": discovery_error,
            "components": [],
            "transitions": [],
        }))
        .unwrap()
    }

    #[test]
    fn a_host_that_was_never_looked_at_is_not_well() {
        assert!(!is_well(&status(0, None)));
    }

    #[test]
    fn a_host_without_a_component_is_not_well() {
        assert!(!is_well(&status(1, None)));
    }

    #[test]
    fn a_host_whose_devices_cannot_be_listed_is_not_well() {
        assert!(!is_well(&status(1, Some("permission denied"))));
    }
}
