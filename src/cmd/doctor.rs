//! `auk doctor`: what a host needs for its accelerators, what was found, and how to mend it.

use std::path::Path;
use std::process::ExitCode;

use auk_health::Config;
use auk_health::doctor::{self, Finding, HOST, Level};
use serde::Serialize;

use crate::failure::FOUND_WRONG;
use crate::output::{self, Cell, Fields, Grid, Screen, Tone};

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk doctor
  auk doctor --root /tmp/host
  auk doctor --json | jq '.findings[] | select(.level == \"fail\")'

Everything is read, nothing is changed or opened. What this user may do is asked for this user: run it as the one
that runs the jobs. The exit code is 1 when something fails; warnings leave it at 0.";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    root: &'a Path,
    findings: &'a [Finding],
}

/// Examines the host below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    // A configuration that makes no sense is told by whoever uses it: the agent, and its --check.
    let config = Config::load(root).unwrap_or_else(|wrong| {
        tracing::warn!("the manifest is left out: {wrong}");
        Config::default()
    });
    let findings = doctor::examine(root, &config.settings.manifest.host);
    if args.json {
        output::print_json(&Document {
            root,
            findings: &findings,
        })?;
    } else {
        output::print(&text(&findings, Screen::stdout()))?;
    }
    let fails = findings.iter().any(|found| found.level == Level::Fail);
    Ok(if fails {
        FOUND_WRONG.into()
    } else {
        ExitCode::SUCCESS
    })
}

fn text(findings: &[Finding], screen: Screen) -> String {
    let mut grid = Grid::new(&["CHECK", "OF", "LEVEL", "FOUND"]);
    for finding in findings {
        grid.push(vec![
            finding.check.into(),
            finding.subject.as_str().into(),
            level(finding.level),
            finding.found.as_str().into(),
        ]);
    }
    let mut text = grid.render(screen);
    for finding in findings.iter().filter(|found| found.mend.is_some()) {
        text.push('\n');
        text.push_str(&explained(finding).render(screen));
    }
    text.push('\n');
    text.push_str(&summary(findings));
    text
}

fn level(level: Level) -> Cell {
    match level {
        Level::NotApplicable => Cell::new("n/a", Tone::Plain),
        Level::Ok => Cell::new("ok", Tone::Good),
        Level::Warn => Cell::new("warn", Tone::Doubtful),
        Level::Fail => Cell::new("FAIL", Tone::Bad),
    }
}

/// What is expected, and how it is mended.
fn explained(finding: &Finding) -> Fields {
    let heading = match finding.subject.as_str() {
        HOST => finding.check.to_owned(),
        device => format!("{device} {}", finding.check),
    };
    let mut fields = Fields::new(&heading);
    fields
        .push("level", level(finding.level))
        .push("found", &finding.found)
        .push("expected", &*finding.expected);
    if let Some(mend) = &finding.mend {
        let name = match finding.level {
            Level::Ok | Level::NotApplicable => "advice",
            Level::Warn | Level::Fail => "to mend",
        };
        fields.push(name, mend);
    }
    fields
}

fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|found| found.level == level).count();
    let mut text = format!(
        "{} ok, {} to warn of, {} failed",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    );
    let skipped = count(Level::NotApplicable);
    if skipped > 0 {
        text.push_str(&format!(", {skipped} that do not apply here"));
    }
    text + "\n"
}
