//! `auk sim faults`: what can be made to go wrong, and what it looks like.

use std::process::ExitCode;

use anyhow::anyhow;
use auk_sim::inject::{Entry, Occasion, Trigger, Verb};
use serde::Serialize;

use crate::failure;
use crate::output::{self, Fields, Grid, Screen};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk sim faults
  auk sim faults completion-drop
  auk sim faults --json";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show this one, with its parameters
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    faults: &'a [Entry],
}

/// Prints the catalogue, or one of it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let screen = Screen::stdout();
    let faults = match &args.name {
        None => Verb::CATALOGUE,
        Some(name) => {
            let found = Verb::CATALOGUE.iter().position(|entry| entry.name == name);
            let at = found.ok_or_else(|| {
                failure::with_hint(anyhow!("no fault {name:?}"), "`auk sim faults` lists them")
            })?;
            &Verb::CATALOGUE[at..=at]
        }
    };
    if args.json {
        output::print_json_line(&Document { schema: 1, faults })?;
    } else if let (Some(_), [entry]) = (&args.name, faults) {
        output::print(&one(entry, screen))?;
    } else {
        output::print(&all(faults, screen))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn all(faults: &[Entry], screen: Screen) -> String {
    let mut grid = Grid::new(&["fault", "of", "what happens", "what it looks like"]);
    for entry in faults {
        grid.push(vec![
            entry.name.into(),
            entry.target.plural().into(),
            entry.what.trim().into(),
            entry.looks.into(),
        ]);
    }
    grid.render(screen)
}

fn one(entry: &Entry, screen: Screen) -> String {
    let mut fields = Fields::new(entry.name);
    fields.push("of", entry.target.plural());
    fields.push("what", entry.what.trim());
    fields.push("looks like", entry.looks);
    fields.push(
        "happens",
        match entry.occasion {
            Occasion::Now => "at once, or when something below says".to_owned(),
            occasion => format!("at the next {}", occasion.next()),
        },
    );
    for parameter in entry.parameters {
        let default = parameter.default.map_or_else(
            || "must be given".to_owned(),
            |value| format!("{value} if not given"),
        );
        fields.push(
            parameter.name,
            format!("{} ({default})", parameter.what.trim()),
        );
    }
    let mut when = Fields::new("When and how often");
    for (key, what) in Trigger::KEYS {
        when.push(key, *what);
    }
    format!("{}\n{}", fields.render(screen), when.render(screen))
}
