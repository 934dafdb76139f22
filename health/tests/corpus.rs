//! The corpus: what hosts go through that are well, and what they go through that are not. Each file of `health/corpus`
//! says in its header how it must end; `cargo test --test corpus_record -- --ignored` records them anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use auk_health::recording::{Replayed, replay};
use auk_health::status::ComponentStatus;
use auk_health::verdict::HealthState;
use serde::Deserialize;

/// Of each sort there are so many at least.
const LEAST: usize = 25;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// What happens, for people.
    #[allow(dead_code, reason = "it is for those who read the file")]
    what: String,
    /// Whether any component may be unhealthy at any time.
    ever_unhealthy: bool,
    /// How each component ends.
    ends: BTreeMap<String, End>,
    /// What is wrong at the end, by its cause.
    #[serde(default)]
    incidents: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct End {
    state: String,
    new_jobs: String,
    action: String,
    /// The check that says so.
    check: Option<String>,
}

impl End {
    fn of(component: &ComponentStatus) -> Self {
        let check = component.reason.split_once(": ").map(|(check, _)| check);
        let ill = component.state != HealthState::Healthy;
        Self {
            state: component.state.name().to_owned(),
            new_jobs: component.admission.answer.name().to_owned(),
            action: component.action.name().to_owned(),
            check: check.filter(|_| ill).map(str::to_owned),
        }
    }
}

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let files = std::fs::read_dir(directory).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn scenario(replayed: &Replayed) -> Scenario {
    serde_json::from_value(replayed.header.scenario.clone().unwrap()).unwrap()
}

/// What is not as the scenario has it.
fn wrong(file: &Path) -> Vec<String> {
    let replayed = match replay(file, None) {
        Ok(replayed) => replayed,
        Err(error) => return vec![error.to_string()],
    };
    let scenario = scenario(&replayed);
    let name = file.file_name().unwrap().to_string_lossy();
    let mut wrong = Vec::new();
    let mut expect = |holds: bool, text: String| {
        if !holds {
            wrong.push(format!("{name}: {text}"));
        }
    };
    expect(!replayed.cut_short, "cut short".to_owned());
    let unhealthy = replayed
        .transitions()
        .find(|change| change.to == HealthState::Unhealthy);
    match (scenario.ever_unhealthy, unhealthy) {
        (false, Some(change)) => expect(false, format!("unhealthy at a time: {change:#?}")),
        (true, None) => expect(false, "never unhealthy".to_owned()),
        _ => {}
    }
    let ends: BTreeMap<_, _> = replayed
        .components
        .iter()
        .map(|component| (component.bdf.clone(), End::of(component)))
        .collect();
    expect(
        ends == scenario.ends,
        format!("ends as {ends:#?}, expected {:#?}", scenario.ends),
    );
    if let Some(expected) = &scenario.incidents {
        let found: BTreeMap<_, _> = replayed
            .incidents
            .iter()
            .map(|incident| (incident.cause.clone(), incident.components.clone()))
            .collect();
        expect(found == *expected, format!("incidents {found:#?}"));
    }
    wrong
}

#[test]
fn each_scenario_ends_as_it_must() {
    let wrong: Vec<String> = files().iter().flat_map(|file| wrong(file)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_enough_of_what_must_not_and_of_what_must_end_unhealthy() {
    let count = |prefix: &str, ever: bool| {
        let named = |file: &&PathBuf| {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(prefix)
        };
        let files = files();
        let files = files.iter().filter(named);
        files
            .filter(|file| scenario(&replay(file, None).unwrap()).ever_unhealthy == ever)
            .count()
    };
    assert!(count("not-", false) >= LEAST);
    assert!(count("must-", true) >= LEAST);
    assert_eq!(count("not-", false) + count("must-", true), files().len());
}
