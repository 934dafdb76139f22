//! `auk status`: what the health agent says of its host.

use std::cmp::Reverse;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use auk_health::Status;
use auk_health::client::{self, ClientError};
use auk_health::incident::Incident;
use auk_health::status::ComponentStatus;
use auk_health::store::StoreStatus;
use auk_health::verdict::{Action, Admit, HealthState, Verdict};

use crate::failure::{self, FOUND_WRONG};
use crate::output::{self, Cell, Fields, Grid, Screen, Tone, short_span, span};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk status
  auk status --watch
  auk status --root /tmp/host --all
  auk status --json | jq '.components[] | select(.state != \"healthy\")'

The worst comes first. The exit code is 0 only when every component is healthy; one that cannot be seen is
not, and neither is a host without any. `auk explain COMPONENT` says all that is known of one.";

/// Longest wait for the agent's answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks of `--watch`; the agent looks once a second too.
const WATCH: Duration = Duration::from_secs(1);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show what every check says, also of what is well
    #[arg(long)]
    all: bool,

    /// Show it anew each second, until interrupted
    #[arg(short, long)]
    watch: bool,

    /// Print the agent's document as JSON; with --watch one in a line each second
    #[arg(long)]
    json: bool,
}

/// Asks the agent of the host below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    if args.watch {
        return watch(root, args);
    }
    let status = fetch(root)?;
    if args.json {
        output::print_json(&status)?;
    } else {
        output::print(&text(&status, args.all, Screen::stdout()))?;
        for remark in remarks(root, &status) {
            output::note(&remark);
        }
    }
    Ok(if is_well(&status) {
        ExitCode::SUCCESS
    } else {
        FOUND_WRONG.into()
    })
}

/// The agent's status, or what to do to have one.
pub(super) fn fetch(root: &Path) -> anyhow::Result<Status> {
    client::fetch_status(root, DEADLINE).map_err(|error| with_advice(root, error))
}

/// What to do when the agent does not answer.
pub(super) fn with_advice(root: &Path, error: ClientError) -> anyhow::Error {
    match error {
        ClientError::NoAgent { .. } => failure::with_hint(
            error,
            format!(
                "run `auk agent --root {}` in another terminal",
                root.display()
            ),
        ),
        error => error.into(),
    }
}

/// Shows it until somebody has seen enough. An agent that goes is said, and waited for.
fn watch(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    loop {
        let screen = Screen::stdout();
        let status = client::fetch_status(root, DEADLINE);
        match (&status, args.json) {
            (Ok(status), true) => output::print_json_line(status)?,
            (Err(error), true) => output::note(&error.to_string()),
            (Ok(status), false) => {
                let mut text = text(status, args.all, screen);
                for remark in remarks(root, status) {
                    text.push_str(&format!("note: {remark}\n"));
                }
                output::print(&screen.repaint(&text))?;
            }
            (Err(error), false) => output::print(&screen.repaint(&format!("{error}\n")))?,
        }
        thread::sleep(WATCH);
    }
}

/// What the table does not show.
fn remarks(root: &Path, status: &Status) -> Vec<String> {
    let store = status
        .store
        .as_ref()
        .and_then(|store| unwritable(status, store));
    seen_little(root, status).into_iter().chain(store).collect()
}

/// That what happens now is lost with the agent, if it is.
fn unwritable(status: &Status, store: &StoreStatus) -> Option<String> {
    let reason = store.reason.as_ref()?;
    let since = since(
        status,
        store.unwritable_since_unix_ms.unwrap_or(status.at_unix_ms),
    );
    let waiting = store.unwritten;
    let lost = match store.lost {
        0 => String::new(),
        lost => format!(", {lost} are lost already"),
    };
    Some(format!(
        "nothing is stored for {}: {reason}; {waiting} events wait in memory, and are lost if the agent ends{lost}",
        span(since)
    ))
}

fn seen_little(root: &Path, status: &Status) -> Option<String> {
    if status.agent.rounds == 0 {
        return Some("the agent has only just started and has not seen all devices yet".to_owned());
    }
    if let Some(error) = &status.discovery_error {
        return Some(format!("the agent could not list the devices: {error}"));
    }
    if status.components.is_empty() {
        let root = root.display();
        return Some(format!(
            "the agent sees no accelerators or NICs below {root}"
        ));
    }
    reload_remark(status)
}

/// What is amiss with the configuration.
fn reload_remark(status: &Status) -> Option<String> {
    let reload = status.agent.config.reload.as_ref()?;
    let passed = status.at_unix_ms.saturating_sub(reload.at_unix_ms);
    let ago = span(Duration::from_millis(passed));
    if let Some(first) = reload.problems.first() {
        return Some(format!(
            "the configuration could not be reloaded {ago} ago, the former one stays in force: {first}; `auk agent \
             --check` says all"
        ));
    }
    (!reload.pending.is_empty()).then(|| {
        let keys = reload.pending.join(" and ");
        format!("{keys} was changed {ago} ago, and is read at the agent's start only")
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
    if status.components.is_empty() {
        return String::new();
    }
    let mut grid = Grid::new(&[
        "COMPONENT",
        "STATE",
        "FOR",
        "NEW JOBS",
        "TO DO",
        "SEEN",
        "USED BY",
    ]);
    let mut components: Vec<_> = status.components.iter().collect();
    components.sort_by_key(|component| {
        let refused = component.admission.answer != Admit::Yes;
        (Reverse(component.state), Reverse(refused))
    });
    for component in &components {
        grid.push(row(status, component));
    }
    let mut text = format!("{}\n\n", summary(status).render(screen));
    text.push_str(&grid.render(screen));
    for incident in &status.incidents {
        text.push('\n');
        text.push_str(&told(status, incident, screen));
    }
    for component in components {
        for verdict in &component.verdicts {
            let unseen = verdict.counts
                && verdict.state == HealthState::Unobservable
                && component.state == HealthState::Unobservable;
            let told = component.state >= HealthState::Degraded
                && verdict.counts
                && verdict.state >= HealthState::Degraded;
            if unseen || (all && !told) {
                text.push('\n');
                text.push_str(&explained(status, component, verdict).render(screen));
            }
        }
        let waits = component.admission.answer == Admit::Hold && component.hold.is_none();
        if waits && component.state != HealthState::Unobservable {
            text.push('\n');
            let mut fields = Fields::new(&format!("{} takes no new job now", component.bdf));
            fields.push("why", &component.admission.reason);
            text.push_str(&fields.render(screen));
        }
        if let Some(hold) = &component.hold {
            text.push('\n');
            let mut fields = Fields::new(&format!("{} is held", component.bdf));
            fields.push("by", hold.author.to_string());
            fields.push("why", &hold.reason);
            fields.push("until", until(status, hold.until_unix_ms));
            text.push_str(&fields.render(screen));
        }
    }
    for switch in &status.switches {
        text.push('\n');
        let heading = format!("check {} is {}", switch.check, switch.mode);
        let mut fields = Fields::new(&heading);
        fields.push("by", switch.author.to_string());
        fields.push("why", &switch.reason);
        text.push_str(&fields.render(screen));
    }
    text
}

/// How a hold ends.
pub(super) fn until(status: &Status, until_unix_ms: Option<u64>) -> String {
    match until_unix_ms {
        Some(until) => {
            let left = Duration::from_millis(until.saturating_sub(status.at_unix_ms));
            format!("it ends by itself in {}", span(left))
        }
        None => "somebody releases it (`auk release`)".to_owned(),
    }
}

/// The first line: how many are how, and whether jobs can start.
fn summary(status: &Status) -> Cell {
    let total = status.components.len();
    let count = |state| {
        let components = status.components.iter();
        components
            .filter(|component| component.state == state)
            .count()
    };
    let refusing = status
        .components
        .iter()
        .filter(|component| component.admission.answer != Admit::Yes)
        .count();
    let mut parts = Vec::new();
    for state in HealthState::ALL.into_iter().rev() {
        match count(state) {
            0 => {}
            some if some == total => parts.push(format!("all {total} {state}")),
            some => parts.push(format!("{some} {state}")),
        }
    }
    let jobs = match refusing {
        0 => "new jobs may start on all".to_owned(),
        all if all == total => "no new jobs on any".to_owned(),
        some => format!("no new jobs on {some} of {total}"),
    };
    let worst = status.components.iter().map(|component| component.state);
    let tone = tone(worst.max().unwrap_or(HealthState::Unobservable));
    Cell::new(format!("{}; {jobs}", parts.join(", ")), tone)
}

fn row(status: &Status, component: &ComponentStatus) -> Vec<Cell> {
    let admit = component.admission.answer;
    vec![
        component.bdf.as_str().into(),
        Cell::new(component.state.name(), tone(component.state)),
        short_span(since(status, component.since_unix_ms)).into(),
        Cell::new(admit.name(), admit_tone(admit)),
        match component.action {
            Action::None => "-".into(),
            action => action.name().into(),
        },
        seen(component).into(),
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

/// How long ago it was seen; a second or two is now.
fn seen(component: &ComponentStatus) -> String {
    match component.sample_age_ms {
        None => "never".to_owned(),
        Some(0..3000) => "now".to_owned(),
        Some(age) => format!("{} ago", short_span(Duration::from_millis(age))),
    }
}

pub(super) const fn tone(state: HealthState) -> Tone {
    match state {
        HealthState::Healthy => Tone::Good,
        HealthState::Degraded | HealthState::Unobservable => Tone::Doubtful,
        HealthState::Unhealthy => Tone::Bad,
    }
}

pub(super) const fn admit_tone(admit: Admit) -> Tone {
    match admit {
        Admit::Yes => Tone::Good,
        Admit::No => Tone::Bad,
        Admit::Hold => Tone::Doubtful,
    }
}

/// One thing that is wrong, with what it rests on.
fn told(status: &Status, incident: &Incident, screen: Screen) -> String {
    let mut text = String::new();
    let many = incident.components.len() > 1 || incident.components[..] != [incident.cause.clone()];
    if many {
        let mut fields = Fields::new(&format!("{} is gone", incident.cause));
        fields.push("takes along", incident.components.join(", "));
        text.push_str(&fields.render(screen));
    }
    for address in &incident.components {
        let Some(component) = status.component(address) else {
            continue;
        };
        let ill = component
            .verdicts
            .iter()
            .filter(|verdict| verdict.counts && verdict.state >= HealthState::Degraded);
        for verdict in ill {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&explained(status, component, verdict).render(screen));
        }
    }
    text
}

/// A verdict with what it rests on.
pub(super) fn explained(status: &Status, component: &ComponentStatus, verdict: &Verdict) -> Fields {
    let mut fields = Fields::new(&format!("{} {}", component.bdf, verdict.check));
    fill(&mut fields, status, verdict);
    fields
}

/// What a verdict rests on, and what to do.
pub(super) fn fill(fields: &mut Fields, status: &Status, verdict: &Verdict) {
    let state = format!(
        "{} for {}",
        verdict.state,
        span(since(status, verdict.since_unix_ms))
    );
    fields
        .push("state", Cell::new(state, tone(verdict.state)))
        .push("why", &verdict.reason);
    for evidence in &verdict.evidence {
        fields.push("evidence", evidence.to_string());
    }
    if let Some(stale) = &verdict.stale {
        fields.push("stale", format!("as it was seen last; now {stale}"));
    }
    fields.push("to do", advice(verdict.action));
}

/// An action in words.
pub(super) const fn advice(action: Action) -> &'static str {
    match action {
        Action::None => "none: nothing",
        Action::Watch => "watch: keep an eye on it, nothing has to happen now",
        Action::Reset => "reset: restart its firmware and run its self-test",
        Action::Drain => "drain: let no new job start and take those on it away",
        Action::Reboot => "reboot: drain the host and restart it",
        Action::Replace => "replace: drain it and take the card out",
    }
}

/// How long it has been so when the status was made.
pub(super) fn since(status: &Status, unix_ms: u64) -> Duration {
    Duration::from_millis(status.at_unix_ms.saturating_sub(unix_ms))
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
