//! `auk agent --record` and `auk replay`.

mod cli_support;

use cli_support::{SimHost, agent, auk, eventually};
use nix::sys::signal::Signal;

#[test]
fn a_recorded_trouble_is_said_again_after_the_agent_was_killed() {
    let host = SimHost::start(2, 0);
    let file = host.directory.path().join("recording.jsonl");
    let file = file.to_str().unwrap();
    let (running, _) = agent(&host.root, &["--record", file]);
    eventually("a healthy host", || {
        (host.auk(&["check"]).code == Some(0)).then_some(())
    });
    auk(&["replay", file]).expect_code(0);
    host.auk(&["sim", "inject", "ecc-ue", "0000:02:00.0"])
        .expect_code(0);
    eventually("an unhealthy chip", || {
        (host.auk(&["check"]).code == Some(2)).then_some(())
    });
    running.stop(Signal::SIGKILL);

    let text = auk(&["replay", file]).expect_code(2).stdout;
    let unhealthy: Vec<_> = text
        .lines()
        .filter(|line| line.contains("unhealthy"))
        .collect();
    assert_eq!(unhealthy.len(), 2, "one change, one at the end: {text}");
    for line in &unhealthy {
        assert!(line.contains("0000:02:00.0"), "{text}");
    }
    assert!(
        !text.contains("WHAT"),
        "changes of checks are for --timeline: {text}"
    );
    let text = auk(&["replay", file, "--timeline"]).expect_code(2).stdout;
    for part in ["WHAT", "started", "ecc_ue", "uncorrectable memory error"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let json = auk(&["replay", file, "--json"]).expect_code(2).json();
    assert_eq!(json["code"], 2);
    assert_eq!(json["components"][1]["admission"]["answer"], "no");
    assert_eq!(json["header"]["auk_recording"], 1);

    let config = host.directory.path().join("lenient.toml");
    std::fs::write(&config, "[check.ecc_ue]\nenabled = false\n").unwrap();
    let config = config.to_str().unwrap();
    let outcome = auk(&["replay", file, "--config", config]);
    assert!(!outcome.stdout.contains("ecc_ue:"), "{outcome:?}");
}

#[test]
fn what_is_no_recording_is_told_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("recording.jsonl");
    let path = file.to_str().unwrap();
    auk(&["replay", path]).expect_error(3, &["recording.jsonl", "could not be read"]);
    std::fs::write(&file, "hello\n").unwrap();
    auk(&["replay", path]).expect_error(3, &["line 1 is no header"]);
    std::fs::write(
        &file,
        "{\"auk_recording\":1,\"agent\":\"0.1.0\"}\nhello\n{}\n",
    )
    .unwrap();
    auk(&["replay", path]).expect_error(3, &["line 2 is damaged"]);
    std::fs::write(&file, "{\"auk_recording\":1,\"agent\":\"0.1.0\"}\nhel").unwrap();
    let outcome = auk(&["replay", path]).expect_code(3);
    assert!(
        outcome.stderr.contains("line 2, the last, was cut short"),
        "{outcome:?}"
    );
}
