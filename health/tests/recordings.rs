//! Recordings: what a live agent said is said again, and what is wrong with a file is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

#[path = "support/tree.rs"]
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use auk_health::client;
use auk_health::operator::{Mode, Order};
use auk_health::recording::{Event, ReadError, Replayed, replay};
use auk_health::verdict::{HealthState, Transition, Verdict};
use auk_health::{Agent, AgentHandle, Config, Settings};
use tree::{CHIP, NIC, Tree, signs};

const SOON: Duration = Duration::from_secs(30);

fn agent(tree: &Tree, file: &Path, settings: Settings) -> AgentHandle {
    Agent::builder(tree.root())
        .state_directory(tree.root().join("state"))
        .interval(Duration::from_millis(50))
        .slow_interval(Duration::from_millis(100))
        .settings(settings)
        .record(Some(file.to_owned()))
        .start()
        .unwrap()
}

fn wait(agent: &AgentHandle, bdf: &str, state: HealthState) {
    let reached = agent.wait_until(SOON, |status| {
        status
            .component(bdf)
            .is_some_and(|component| component.state == state)
    });
    if let Err(error) = reached {
        panic!("{bdf} {state}: {error}: {:#?}", agent.status().components);
    }
}

fn order(tree: &Tree, order: &Order) {
    client::order(tree.root(), order, SOON).unwrap();
}

/// A tree, and where a recording of it may be.
fn place() -> (Tree, PathBuf) {
    let tree = Tree::new();
    let file = tree.root().join("recording.jsonl");
    (tree, file)
}

fn changes(replayed: &Replayed) -> Vec<Transition> {
    replayed.transitions().cloned().collect()
}

/// An hour in the life of an agent, short: trouble, orders, a chip that goes, one that comes back as another.
fn eventful(tree: &Tree, file: &Path, settings: Settings) -> Vec<Transition> {
    let agent = agent(tree, file, settings);
    let events = agent.subscribe();
    wait(&agent, NIC, HealthState::Healthy);
    order(
        tree,
        &Order::Hold {
            component: "eth0".to_owned(),
            reason: "for a second".to_owned(),
            seconds: Some(1),
        },
    );
    order(
        tree,
        &Order::Switch {
            check: "throttle".to_owned(),
            mode: Some(Mode::Shadow),
            reason: "too loud".to_owned(),
        },
    );
    let mut vitals = signs();
    vitals.sequence += 2;
    vitals.ecc_ue = 1;
    tree.set_vitals(&vitals);
    wait(&agent, CHIP, HealthState::Unhealthy);
    fs::write(tree.interface().join("speed"), "fast\n").unwrap();
    fs::write(tree.device(NIC).join("current_link_width"), "4\n").unwrap();
    wait(&agent, NIC, HealthState::Degraded);
    tree.remove(CHIP);
    let held = agent.wait_until(SOON, |status| {
        let lost = status.component(CHIP).unwrap().verdict("presence").unwrap();
        lost.state == HealthState::Unhealthy
            && status.component(NIC).unwrap().hold.is_none()
            && status.orders.len() == 3
    });
    held.unwrap();
    let last = agent.status();
    agent.stop().unwrap();
    let live: Vec<_> = events.try_iter().collect();
    let replayed = replay(file, None).unwrap();
    for (now, then) in last.components.iter().zip(&replayed.components) {
        assert_eq!(now.state, then.state);
        assert_eq!(now.admission, then.admission);
        assert_eq!(now.action, then.action);
        assert_eq!(timeless(&now.verdicts), timeless(&then.verdicts));
    }
    let ordered = replayed.events.iter();
    let ordered = ordered.filter(|event| matches!(event, Event::Ordered(_)));
    assert_eq!(ordered.count(), 3, "a hold, its end, and a switch");
    live
}

/// Verdicts without the time of their evidence: a look may have come between the last status and the end.
fn timeless(verdicts: &[Verdict]) -> Vec<Verdict> {
    let mut verdicts = verdicts.to_vec();
    for verdict in &mut verdicts {
        for evidence in &mut verdict.evidence {
            evidence.at_unix_ms = 0;
        }
    }
    verdicts
}

#[test]
fn a_replay_says_what_the_live_agent_said() {
    let (tree, file) = place();
    let live = eventful(&tree, &file, Settings::default());
    assert!(live.len() > 5, "{live:#?}");
    let replayed = replay(&file, None).unwrap();
    assert_eq!(changes(&replayed), live);
    assert!(!replayed.cut_short);
}

#[test]
fn a_replay_judges_by_the_settings_that_were_in_force_or_by_others() {
    let (tree, file) = place();
    let settings = Settings {
        modes: [("presence".to_owned(), Mode::Shadow)].into(),
        clear_after: Duration::from_secs(7),
        ..Settings::default()
    };
    let live = eventful(&tree, &file, settings);
    let shadowed = |transitions: &[Transition]| transitions.iter().any(|change| change.shadow);
    assert!(shadowed(&live));
    assert_eq!(changes(&replay(&file, None).unwrap()), live);
    let other = replay(&file, Some(&Settings::default())).unwrap();
    let presence = changes(&other);
    let presence = presence
        .iter()
        .find(|change| change.check.as_deref() == Some("presence") && change.component == CHIP);
    assert!(!presence.unwrap().shadow);
}

#[test]
fn settings_are_recorded_as_a_configuration_that_gives_the_same() {
    let text = "judgement.clear_after = '7 min'\n\
                check.throttle.shadow = true\n\
                check.ecc_ue.enabled = false\n\
                check.ecc_ce.degraded_per_hour = 7\n\
                manifest.every_nic.link_width = 8\n\
                manifest.accelerator.\"first one\".slot = '3'\n\
                manifest.accelerator.\"first one\".link_width = 4\n";
    let config = |text: &str| Config::from_text("test".as_ref(), text).unwrap().settings;
    let settings = config(text);
    let written = settings.to_toml();
    assert_eq!(written.lines().count(), text.lines().count(), "{written}");
    let again = config(&written);
    assert_eq!(again.to_toml(), written);
    assert_eq!(again.manifest, settings.manifest);
    assert_eq!(again.modes, settings.modes);
    assert_eq!(Settings::default().to_toml(), "");
}

#[test]
fn an_order_that_makes_no_sense_by_other_limits_is_told_and_the_replay_goes_on() {
    let (tree, file) = place();
    let running = agent(&tree, &file, Settings::default());
    wait(&running, NIC, HealthState::Healthy);
    fs::write(tree.device(NIC).join("current_link_width"), "4\n").unwrap();
    wait(&running, NIC, HealthState::Degraded);
    fs::write(tree.device(NIC).join("current_link_width"), "8\n").unwrap();
    order(
        &tree,
        &Order::Clear {
            component: NIC.to_owned(),
            check: Some("link".to_owned()),
            reason: "reseated".to_owned(),
        },
    );
    running.stop().unwrap();
    let outcome = |settings: Option<&Settings>| {
        let replayed = replay(&file, settings).unwrap();
        let done = replayed.events.into_iter().find_map(|event| match event {
            Event::Ordered(done) => Some(done.outcome),
            _ => None,
        });
        done.unwrap()
    };
    assert_eq!(outcome(None), "cleared: link");
    let without = Settings {
        modes: [("link".to_owned(), Mode::Off)].into(),
        ..Settings::default()
    };
    let refused = outcome(Some(&without));
    assert!(refused.contains("refused in this replay"), "{refused}");
}

#[test]
fn a_recording_goes_on_with_the_next_agent_and_without_the_line_that_a_kill_cut_short() {
    let (tree, file) = place();
    let first = agent(&tree, &file, Settings::default());
    wait(&first, NIC, HealthState::Healthy);
    first.stop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes.extend_from_slice(b"{\"look\":{\"bdf");
    fs::write(&file, bytes).unwrap();
    let cut = replay(&file, None).unwrap();
    assert!(cut.cut_short);
    let second = agent(&tree, &file, Settings::default());
    wait(&second, NIC, HealthState::Healthy);
    second.stop().unwrap();
    let both = replay(&file, None).unwrap();
    assert!(!both.cut_short);
    let starts = both.events.iter();
    let starts = starts.filter(|event| matches!(event, Event::Started(_)));
    assert_eq!(starts.count(), 2);
}

#[test]
fn a_recording_begins_with_what_the_agent_remembers() {
    let (tree, file) = place();
    let before = agent(
        &tree,
        &tree.root().join("another.jsonl"),
        Settings::default(),
    );
    let looked = before.wait_until(SOON, |status| status.agent.rounds > 2);
    looked.unwrap();
    let mut vitals = signs();
    vitals.sequence += 2;
    vitals.ecc_ue = 1;
    tree.set_vitals(&vitals);
    wait(&before, CHIP, HealthState::Unhealthy);
    before.stop().unwrap();

    let after = agent(&tree, &file, Settings::default());
    let events = after.subscribe();
    let rounds = after.wait_until(SOON, |status| status.agent.rounds > 3);
    let verdicts = rounds.unwrap().component(CHIP).unwrap().verdicts.clone();
    after.stop().unwrap();
    let replayed = replay(&file, None).unwrap();
    assert_eq!(changes(&replayed), events.try_iter().collect::<Vec<_>>());
    let chip = &replayed.components[0];
    assert_eq!(chip.state, HealthState::Unhealthy);
    let since = |verdicts: &[Verdict]| {
        let known = verdicts.iter().find(|verdict| verdict.check == "ecc_ue");
        known.unwrap().since_unix_ms
    };
    assert_eq!(
        since(&chip.verdicts),
        since(&verdicts),
        "as the first agent saw it"
    );
}

#[test]
fn a_damaged_recording_is_told_with_the_number_of_the_line() {
    let (tree, file) = place();
    let running = agent(&tree, &file, Settings::default());
    wait(&running, NIC, HealthState::Healthy);
    running.stop().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 4, "{text}");
    let with = |lines: &[&str]| {
        fs::write(&file, format!("{}\n", lines.join("\n"))).unwrap();
        replay(&file, None).unwrap_err()
    };
    for bad in [
        "{\"look\":{}}",
        "no JSON",
        "",
        "{\"unheard_of\":1}",
        "{\"again\":{\"bdf\":\"0000:99:00.0\",\"kind\":\"nic\",\"class\":\"fast\",\"changes\":{}}}",
    ] {
        let mut damaged = lines.clone();
        damaged[3] = bad;
        let error = with(&damaged);
        assert!(
            matches!(error, ReadError::Damaged { line: 4, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("line 4"), "{error}");
    }
    let error = with(&[lines[0], lines[2]]);
    assert!(error.to_string().contains("before a start"), "{error}");
    let error = with(&["{\"auk_recording\":2,\"agent\":\"9.0.0\",\"new\":[]}"]);
    let ReadError::Version { found: 2, .. } = error else {
        panic!("{error}")
    };
    assert!(error.to_string().contains("9.0.0"), "{error}");
    assert!(matches!(with(&["{}"]), ReadError::NoRecording { .. }));
    fs::write(&file, "").unwrap();
    let error = replay(&file, None).unwrap_err();
    assert!(matches!(error, ReadError::NoRecording { .. }), "{error}");
}

#[test]
fn an_agent_overwrites_nothing_that_is_no_recording() {
    let (tree, file) = place();
    fs::write(&file, "my only copy\n").unwrap();
    let refused = Agent::builder(tree.root())
        .record(Some(file.clone()))
        .build();
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("recording.jsonl"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "my only copy\n");
}
