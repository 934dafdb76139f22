//! `docs/verdicts.md`: what the agent says of each scenario of the corpus. It is made of the corpus by
//! `cargo test -p auk-health --test verdicts -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use auk_health::recording::{Replayed, replay};
use auk_health::status::ComponentStatus;
use auk_health::verdict::{HealthState, Transition};

const PREFACE: &str = "\
# Verdicts

What the agent says of each scenario of its corpus (`health/corpus/`, which tests replay). This page is made of the
recordings by

    cargo test -p auk-health --test verdicts -- --ignored

and a test fails when it is not what they give. A row is a component that something was found of, or the only one. *Worst* is
the worst state that it was in, with the check that said so and what that rested on; *after* is the time from the first check of
it that was not well to that state, 0 s where one look is enough. *In the end* is its state when the recording ends, whether a
new job may start, and the suggested action.
";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The scenarios whose names begin with this, in order.
fn scenarios(prefix: &str) -> Vec<(String, Replayed)> {
    let directory = repository().join("health/corpus");
    let files = fs::read_dir(directory).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let named = files.into_iter().filter_map(|file| {
        let name = file.file_stem()?.to_str()?.strip_prefix(prefix)?.to_owned();
        Some((name, replay(&file, None).unwrap()))
    });
    named.collect()
}

fn page() -> String {
    let mut page = PREFACE.to_owned();
    for (title, prefix) in [
        ("What must end unhealthy", "must-"),
        ("What must not", "not-"),
    ] {
        let scenarios = scenarios(prefix);
        write!(page, "\n## {title}\n\n{} scenarios.\n\n", scenarios.len()).unwrap();
        page.push_str(
            "| scenario | what happens | component | worst | evidence | after | in the end |\n",
        );
        page.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
        for (name, replayed) in &scenarios {
            for row in rows(name, replayed) {
                page.push_str(&row);
            }
        }
    }
    page
}

fn rows(name: &str, replayed: &Replayed) -> Vec<String> {
    let what = replayed.header.scenario.as_ref().unwrap()["what"]
        .as_str()
        .unwrap();
    let changes: Vec<&Transition> = replayed.transitions().collect();
    let of_note: Vec<&ComponentStatus> = replayed
        .components
        .iter()
        .filter(|component| worst(component, &changes).is_some())
        .collect();
    // Where all are well, the first is shown, which is the one that the scenario is about.
    let shown = match of_note.is_empty() {
        true => replayed.components.iter().take(1).collect(),
        false => of_note,
    };
    let rows = shown
        .into_iter()
        .map(|component| row(name, what, component, &changes));
    rows.collect()
}

/// The first change to the worst state that a component was in, if that is no good one.
fn worst<'a>(component: &ComponentStatus, changes: &[&'a Transition]) -> Option<&'a Transition> {
    let of_whole = changes
        .iter()
        .filter(|change| change.component == component.bdf && change.check.is_none());
    let ill = of_whole.filter(|change| change.to >= HealthState::Degraded);
    // Of the equally bad the first.
    ill.rev().max_by_key(|change| change.to).copied()
}

fn row(name: &str, what: &str, component: &ComponentStatus, changes: &[&Transition]) -> String {
    let (said, evidence, after) = match worst(component, changes) {
        Some(change) => (
            format!("{}: {}", change.to, change.reason),
            change.evidence.first().map_or_else(String::new, |found| {
                format!(
                    "{} {} (limit: {}; {})",
                    found.what, found.found, found.limit, found.source
                )
            }),
            since_first_sign(component, change, changes),
        ),
        None => ("healthy".to_owned(), String::new(), String::new()),
    };
    let ComponentStatus {
        bdf,
        state,
        admission,
        action,
        ..
    } = component;
    let answer = admission.answer;
    let cells = [
        name,
        what,
        bdf,
        &said,
        &evidence,
        &after,
        &format!("{state}, new jobs {answer}, {action}"),
    ];
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// How long before a change of a component the first of its checks was not well.
fn since_first_sign(
    component: &ComponentStatus,
    change: &Transition,
    changes: &[&Transition],
) -> String {
    let before = changes
        .iter()
        .take_while(|other| !std::ptr::eq(**other, change));
    let of_checks =
        before.filter(|other| other.component == component.bdf && other.check.is_some());
    let signs = of_checks.filter(|other| {
        let left_well =
            other.from == Some(HealthState::Healthy) && other.to != HealthState::Healthy;
        left_well || other.to >= HealthState::Degraded
    });
    let first = signs
        .map(|sign| sign.at_unix_ms)
        .min()
        .unwrap_or(change.at_unix_ms);
    let seconds = change.at_unix_ms.saturating_sub(first) / 1000;
    match seconds {
        0..=599 => format!("{seconds} s"),
        _ => format!("{} min", seconds / 60),
    }
}

#[test]
fn the_page_is_what_the_corpus_gives() {
    let kept = fs::read_to_string(repository().join("docs/verdicts.md")).unwrap();
    let made = page();
    let differs = kept
        .lines()
        .zip(made.lines())
        .find(|(kept, made)| kept != made);
    assert!(
        kept == made,
        "docs/verdicts.md is stale ({differs:#?}); make it anew: cargo test -p auk-health --test verdicts -- --ignored"
    );
}

#[test]
#[ignore = "writes docs/verdicts.md anew, for a look at what has changed"]
fn the_page_is_made_anew() {
    fs::write(repository().join("docs/verdicts.md"), page()).unwrap();
}
