//! `auk explain`: all that is known of one component, and why it is judged as it is.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use auk_health::Status;
use auk_health::client;
use auk_health::operator::{Done, HOST, Mode, Order};
use auk_health::status::ComponentStatus;
use auk_health::store::{Event, Query};
use auk_health::verdict::{HealthState, Transition};
use serde::Serialize;

use super::events::row;
use super::status::{DEADLINE, admit_tone, advice, fetch, fill, since, tone, until};
use crate::failure::{self, FOUND_WRONG};
use crate::output::{self, Cell, Fields, Grid, Screen, span};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk explain 0000:01:00.0
  auk explain 00-00-00-00-00-00-00-a1
  auk explain eth0 --json

The exit code is 0 when the component is healthy, else 1.";

/// Events that are shown.
const SHOWN: usize = 30;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address, serial number, slot or interface
    component: String,

    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Explanation<'a> {
    component: &'a ComponentStatus,
    events: Vec<Event>,
    transitions: Vec<&'a Transition>,
    orders: Vec<&'a Done>,
}

/// Asks the agent of the host below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let status = fetch(root)?;
    let Some(component) = status.named(&args.component) else {
        let known: Vec<_> = status
            .components
            .iter()
            .map(|known| known.bdf.as_str())
            .collect();
        let error = anyhow::anyhow!("the agent watches no component {:?}", args.component);
        let hint = match known.as_slice() {
            [] => "it sees none at all".to_owned(),
            known => format!("it watches {}", known.join(", ")),
        };
        return Err(failure::with_hint(error, hint));
    };
    let events = history_of(root, &component.bdf);
    let explanation = Explanation {
        component,
        events,
        transitions: status
            .transitions
            .iter()
            .filter(|transition| transition.component == component.bdf)
            .collect(),
        orders: status
            .orders
            .iter()
            .filter(|done| concerns(done, &component.bdf))
            .collect(),
    };
    if args.json {
        output::print_json(&explanation)?;
    } else {
        output::print(&text(&status, &explanation, Screen::stdout()))?;
    }
    Ok(match component.state {
        HealthState::Healthy => ExitCode::SUCCESS,
        _ => FOUND_WRONG.into(),
    })
}

/// What the store has of it. What cannot be read there is missing here, and the rest is still worth to be told.
fn history_of(root: &Path, bdf: &str) -> Vec<Event> {
    let query = Query {
        component: Some(bdf.to_owned()),
        limit: Some(SHOWN),
        newest: true,
        news: true,
        ..Query::default()
    };
    match client::fetch_events(root, &query, Duration::ZERO, DEADLINE) {
        Ok(page) => page.events,
        Err(error) => {
            output::note(&format!("its history is missing: {error}"));
            Vec::new()
        }
    }
}

fn concerns(done: &Done, bdf: &str) -> bool {
    match &done.order {
        Order::Hold { component, .. }
        | Order::Release { component, .. }
        | Order::Clear { component, .. } => component == bdf || component == HOST,
        Order::Switch { .. } => true,
    }
}

fn text(status: &Status, explanation: &Explanation<'_>, screen: Screen) -> String {
    let component = explanation.component;
    let mut text = identity(status, component).render(screen);
    let verdicts = || component.verdicts.iter();
    let ill = verdicts().filter(|verdict| {
        verdict.state >= HealthState::Degraded
            || (verdict.counts && verdict.state == HealthState::Unobservable)
    });
    for verdict in ill {
        let mut heading = verdict.check.clone();
        if verdict.mode == Mode::Shadow {
            heading.push_str(" (in shadow mode: without effect)");
        }
        let mut fields = Fields::new(&heading);
        fill(&mut fields, status, verdict);
        if let Some(port) = &verdict.blamed_on {
            fields.push("blamed on", format!("the port above, {port}"));
        }
        if verdict.state >= HealthState::Degraded {
            fields.push("ends when", auk_health::clears(&verdict.check));
        }
        text.push('\n');
        text.push_str(&fields.render(screen));
    }
    let mut grid = Grid::new(&["CHECK", "STATE", "FOR", "WHY"]);
    for verdict in verdicts().filter(|verdict| verdict.state < HealthState::Degraded) {
        let state = match (verdict.counts, verdict.mode) {
            (true, _) => Cell::new(verdict.state.name(), tone(verdict.state)),
            (false, Mode::On) => "no say now".into(),
            (false, mode) => mode.name().into(),
        };
        grid.push(vec![
            verdict.check.as_str().into(),
            state,
            span(since(status, verdict.since_unix_ms)).into(),
            verdict.reason.as_str().into(),
        ]);
    }
    text.push('\n');
    text.push_str(&grid.render(screen));
    text.push_str(&history(status, explanation, screen));
    text
}

fn identity(status: &Status, component: &ComponentStatus) -> Fields {
    let heading = format!("{} {}", component.kind.name(), component.bdf);
    let mut fields = Fields::new(&heading);
    let state = format!(
        "{} for {}",
        component.state,
        span(since(status, component.since_unix_ms))
    );
    fields
        .push("state", Cell::new(state, tone(component.state)))
        .push("why", &component.reason);
    let answer = component.admission.answer;
    let jobs = match component.admission.reason == component.reason {
        true => answer.name().to_owned(),
        false => format!("{answer}: {}", component.admission.reason),
    };
    fields
        .push("new jobs", Cell::new(jobs, admit_tone(answer)))
        .push("to do", advice(component.action));
    if let Some(hold) = &component.hold {
        let by = format!("{}: {}", hold.author, hold.reason);
        fields.push("held by", by);
        fields.push("held until", until(status, hold.until_unix_ms));
    }
    if let Some(holder) = &component.holder {
        let job = holder.cgroup.as_deref().unwrap_or("no control group");
        fields.push(
            "used by",
            format!("{} ({}), {job}", holder.comm, holder.pid),
        );
    }
    let identity = &component.identity;
    let known = [
        ("serial", &identity.serial),
        ("slot", &identity.slot),
        ("port above", &identity.upstream),
        ("interface", &identity.interface),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            fields.push(name, value);
        }
    }
    fields
}

fn history(status: &Status, explanation: &Explanation<'_>, screen: Screen) -> String {
    let mut lines: Vec<(u64, Vec<Cell>)> = Vec::new();
    let ago = |at: u64| Cell::from(format!("{} ago", span(since(status, at))));
    for event in &explanation.events {
        let [_, _, what, became, why] = row(event);
        let at = event.record.at_unix_ms;
        lines.push((at, vec![ago(at), what, became, why]));
    }
    // Those on the component alone are among the events.
    let others = explanation.orders.iter().filter(|done| match &done.order {
        Order::Switch { .. } => true,
        Order::Hold { component, .. }
        | Order::Release { component, .. }
        | Order::Clear { component, .. } => component == HOST,
    });
    for done in others {
        let author = done.author.as_ref();
        let author = author.map_or_else(|| "the agent".to_owned(), ToString::to_string);
        let cells = vec![
            ago(done.at_unix_ms),
            author.into(),
            "ordered".into(),
            done.outcome.as_str().into(),
        ];
        lines.push((done.at_unix_ms, cells));
    }
    if lines.is_empty() {
        return String::new();
    }
    lines.sort_by_key(|(at, _)| *at);
    let mut grid = Grid::new(&["WHEN", "WHAT", "BECAME", "WHY"]);
    for (_, cells) in lines {
        grid.push(cells);
    }
    format!("\n{}", grid.render(screen))
}
