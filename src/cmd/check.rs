//! `auk check`: one line and an exit code, for Nagios and for a scheduler's prolog and epilog.

use std::path::Path;
use std::process::ExitCode;

use auk_health::Status;
use auk_health::status::ComponentStatus;
use auk_health::verdict::{Admit, HealthState};
use serde::Serialize;

use super::status::fetch;
use crate::output;

pub(crate) const EXAMPLES: &str = "\
Examples:
  auk check
  auk check 0000:01:00.0 eth0
  auk check ecc_ue heartbeat
  auk check --prolog 0000:01:00.0 || exit 1

Exit codes, as Nagios has them: 0 healthy, 1 degraded, 2 unhealthy, 3 not seen, no agent, or no such name.
With --prolog or --epilog: 1 when admission is refused, and else 0. A prolog refuses where a new job may not start
(`no` and `hold`), an epilog where none may any more (`no`), as a chip that a job has just left may still reset. An agent
that does not answer refuses nothing: it is said on stderr, and one that is restarted drains no host.";

/// Exit code of a prolog or an epilog that refuses.
const REFUSED: u8 = 1;

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Components (address, serial number, slot or interface) or checks; without any all components
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Before a job: fail only when a new one may not start
    #[arg(long, conflicts_with = "epilog")]
    prolog: bool,

    /// After a job: fail only when the component must not be used any more
    #[arg(long)]
    epilog: bool,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Answer {
    code: u8,
    word: &'static str,
    reason: String,
}

/// Asks the agent of the host below `root`.
pub(crate) fn run(root: &Path, args: &Args) -> anyhow::Result<ExitCode> {
    let gate = args.prolog || args.epilog;
    let answer = match fetch(root) {
        Ok(status) if gate => admission(&status, args),
        Ok(status) => state(&status, &args.names),
        Err(error) if gate => {
            output::note(&format!("{error}; nothing is refused without it"));
            Answer {
                code: 0,
                word: "UNKNOWN",
                reason: "the agent does not answer".to_owned(),
            }
        }
        Err(error) => unknown(error.to_string()),
    };
    if args.json {
        output::print_json(&answer)?;
    } else {
        let line = format!("AUK {} - {}", answer.word, answer.reason);
        output::print(&format!("{}\n", output::harmless(&line)))?;
    }
    Ok(answer.code.into())
}

/// The exit code and the word of a state, as Nagios has them.
pub(super) const fn graded(state: HealthState) -> (u8, &'static str) {
    match state {
        HealthState::Healthy => (0, "OK"),
        HealthState::Degraded => (1, "WARNING"),
        HealthState::Unhealthy => (2, "CRITICAL"),
        HealthState::Unobservable => (3, "UNKNOWN"),
    }
}

fn unknown(reason: String) -> Answer {
    Answer {
        code: 3,
        word: "UNKNOWN",
        reason,
    }
}

/// The worst of what was asked for.
fn state(status: &Status, names: &[String]) -> Answer {
    if status.agent.rounds == 0 {
        return unknown("the agent has only just started".to_owned());
    }
    if status.components.is_empty() {
        return unknown("the agent sees no accelerators or NICs".to_owned());
    }
    let mut found: Vec<(HealthState, String)> = Vec::new();
    if names.is_empty() {
        found.extend(status.components.iter().map(whole));
        if let Some(error) = &status.discovery_error {
            let reason = format!("the devices could not be listed: {error}");
            found.push((HealthState::Unobservable, reason));
        }
    }
    for name in names {
        if let Some(component) = status.named(name) {
            found.push(whole(component));
            continue;
        }
        let of_check = of_check(status, name);
        if of_check.is_empty() {
            return unknown(format!("no component and no check is called {name:?}"));
        }
        found.extend(of_check);
    }
    let worst = found.iter().map(|(state, _)| *state).max();
    let worst = worst.unwrap_or(HealthState::Unobservable);
    let of_worst: Vec<_> = found.iter().filter(|(state, _)| *state == worst).collect();
    let (code, word) = graded(worst);
    let reason = match (of_worst.as_slice(), worst) {
        (all, HealthState::Healthy) => format!("{} of {} healthy", all.len(), found.len()),
        ([(_, only)], _) => only.clone(),
        (some, _) => {
            let first = some.first().map_or("", |(_, reason)| reason);
            format!("{} of {} {worst}: {first}", some.len(), found.len())
        }
    };
    Answer { code, word, reason }
}

fn whole(component: &ComponentStatus) -> (HealthState, String) {
    let reason = format!("{} {}", component.bdf, component.reason);
    (component.state, reason)
}

/// What a check says of all components that it has a say on.
fn of_check(status: &Status, check: &str) -> Vec<(HealthState, String)> {
    let verdicts = status.components.iter().filter_map(|component| {
        let verdict = component.verdict(check)?;
        let reason = format!("{} {check}: {}", component.bdf, verdict.reason);
        Some((verdict, reason))
    });
    let (counting, others): (Vec<_>, Vec<_>) = verdicts.partition(|(verdict, _)| verdict.counts);
    // A check that has nothing to say anywhere is not well: nobody has looked.
    let told = if counting.is_empty() {
        others
    } else {
        counting
    };
    told.into_iter()
        .map(|(verdict, reason)| (verdict.state, reason))
        .collect()
}

/// Whether a job may start, or another may after this one.
fn admission(status: &Status, args: &Args) -> Answer {
    let refuses = |answer: Admit| match answer {
        Admit::Yes => false,
        Admit::No => true,
        Admit::Hold => args.prolog,
    };
    let mut components: Vec<&ComponentStatus> = Vec::new();
    for name in &args.names {
        match status.named(name) {
            Some(component) => components.push(component),
            None => {
                return Answer {
                    code: REFUSED,
                    word: "REFUSED",
                    reason: format!("no component is called {name:?}"),
                };
            }
        }
    }
    if args.names.is_empty() {
        components.extend(&status.components);
    }
    let refused = components
        .iter()
        .find(|component| refuses(component.admission.answer));
    match refused {
        Some(component) => Answer {
            code: REFUSED,
            word: "REFUSED",
            reason: format!(
                "{} {}: {}",
                component.bdf, component.admission.answer, component.admission.reason
            ),
        },
        None => Answer {
            code: 0,
            word: "OK",
            reason: format!("nothing against jobs on {} components", components.len()),
        },
    }
}
