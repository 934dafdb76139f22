//! `auk replay`: what the health agent says of what it was fed in a recording.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use auk_health::Config;
use auk_health::recording::{self, Event, Replayed};
use auk_health::status::ComponentStatus;
use auk_health::verdict::{Action, HealthState, Transition};
use serde::Serialize;

use super::check::graded;
use super::status::{admit_tone, tone};
use crate::output::{self, Cell, Grid, Screen, date, span};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk agent --record /var/tmp/auk.jsonl
  auk replay /var/tmp/auk.jsonl
  auk replay /var/tmp/auk.jsonl --timeline
  auk replay /var/tmp/auk.jsonl --config /etc/auk/agent.d/new-limits.toml

Shows each change of a component's state, and how each is at the end; nothing is read but the file, and no host is
touched. It is judged by the limits that were in force, or by those of the file given.
Exit codes are those of `auk check`, of the worst component at the end: 0 healthy, 1 degraded, 2 unhealthy, 3 not seen,
or the recording cannot be read.";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recording
    #[arg(value_name = "FILE")]
    recording: PathBuf,

    /// Judge by this configuration instead of the recorded one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Show all that happened: the changes of each check, orders, starts of the agent
    #[arg(long)]
    timeline: bool,

    /// Print it all as JSON
    #[arg(long, conflicts_with = "timeline")]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    code: u8,
    #[serde(flatten)]
    replayed: &'a Replayed,
}

/// Replays a recording.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref().map(Config::from_file).transpose()?;
    let settings = config.as_ref().map(|config| &config.settings);
    let replayed = recording::replay(&args.recording, settings)?;
    let states = replayed.components.iter().map(|component| component.state);
    let worst = states.max().unwrap_or(HealthState::Unobservable);
    let (code, _) = graded(worst);
    if args.json {
        output::print_json(&Document {
            schema: 1,
            code,
            replayed: &replayed,
        })?;
    } else {
        output::print(&text(&replayed, args.timeline, Screen::stdout()))?;
    }
    if replayed.cut_short {
        let line = replayed.lines + 1;
        output::note(&format!(
            "line {line}, the last, was cut short and is left out"
        ));
    }
    Ok(code.into())
}

fn text(replayed: &Replayed, timeline: bool, screen: Screen) -> String {
    let begin = replayed.events.first().map_or(0, Event::at_unix_ms);
    let lasted = Duration::from_millis(replayed.ended.unix_ms.saturating_sub(begin));
    let mut text = format!(
        "{} lines from {} on, {}\n",
        replayed.lines,
        date(begin),
        span(lasted)
    );
    let columns: &[_] = match timeline {
        true => &["AFTER", "COMPONENT", "WHAT", "BECAME", "WHY"],
        false => &["AFTER", "COMPONENT", "BECAME", "WHY"],
    };
    let mut grid = Grid::new(columns);
    let mut any = false;
    for event in &replayed.events {
        let after = Duration::from_millis(event.at_unix_ms().saturating_sub(begin));
        if let Some(row) = row(event, span(after), timeline) {
            grid.push(row);
            any = true;
        }
    }
    if any {
        text.push('\n');
        text.push_str(&grid.render(screen));
    }
    let mut grid = Grid::new(&["COMPONENT", "STATE", "NEW JOBS", "TO DO", "WHY"]);
    for component in &replayed.components {
        grid.push(last(component));
    }
    if !replayed.components.is_empty() {
        text.push('\n');
        text.push_str(&grid.render(screen));
    }
    text
}

fn row(event: &Event, after: String, timeline: bool) -> Option<Vec<Cell>> {
    let cells = match event {
        Event::Changed(transition) if timeline => {
            let what = transition.check.as_deref().unwrap_or("component");
            vec![
                after.into(),
                transition.component.as_str().into(),
                what.into(),
                became(transition),
                transition.reason.as_str().into(),
            ]
        }
        Event::Changed(transition) if transition.check.is_none() => vec![
            after.into(),
            transition.component.as_str().into(),
            became(transition),
            transition.reason.as_str().into(),
        ],
        Event::Ordered(done) if timeline => {
            let author = done.author.as_ref();
            let author = author.map_or_else(|| "the agent".to_owned(), ToString::to_string);
            vec![
                after.into(),
                "".into(),
                author.into(),
                "ordered".into(),
                done.outcome.as_str().into(),
            ]
        }
        Event::Started(_) if timeline => {
            let agent = ["", "agent", "started", ""].map(Cell::from);
            [vec![after.into()], agent.to_vec()].concat()
        }
        _ => return None,
    };
    Some(cells)
}

fn became(transition: &Transition) -> Cell {
    Cell::new(transition.to.name(), tone(transition.to))
}

fn last(component: &ComponentStatus) -> Vec<Cell> {
    let answer = component.admission.answer;
    let why = match component.admission.reason == component.reason {
        true => component.reason.clone(),
        false => format!(
            "{}; new jobs: {}",
            component.reason, component.admission.reason
        ),
    };
    vec![
        component.bdf.as_str().into(),
        Cell::new(component.state.name(), tone(component.state)),
        Cell::new(answer.name(), admit_tone(answer)),
        match component.action {
            Action::None => "-".into(),
            action => action.name().into(),
        },
        why.into(),
    ]
}
