//! What `auk agent` keeps: on a disk that is full, and from an agent that was newer.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod cli_support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use auk_health::client;
use auk_health::operator::Order;
use cli_support::{Running, SOON, SimHost, agent, component, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

/// An agent of a host, with a small disk of its own for what it keeps; `None` where nobody may mount one.
fn agent_on_a_small_disk(host: &SimHost) -> Option<Running> {
    let may = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    if !may.is_ok_and(|outcome| outcome.status.success()) {
        eprintln!("SKIPPED: a full disk needs a mount namespace, which this user may not have");
        return None;
    }
    let state = host.root.join("var/lib/auk");
    fs::create_dir_all(&state).unwrap();
    let script =
        r#"mount -t tmpfs -o size=1m none "$1" && exec "$2" agent --interval 100 --root "$3""#;
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(&state)
        .arg(env!("CARGO_BIN_EXE_auk"))
        .arg(&host.root)
        .env_remove("AUK_LOG");
    Some(Running::start(&mut command, true).0)
}

fn store(host: &SimHost) -> Value {
    host.auk(&["status", "--json"]).json()["store"].clone()
}

#[test]
fn on_a_full_disk_the_agent_goes_on_from_memory_and_says_so() {
    let host = SimHost::start(1, 0);
    let Some(agent) = agent_on_a_small_disk(&host) else {
        return;
    };
    eventually("a healthy host", || {
        (host.auk(&["status"]).code == Some(0)).then_some(())
    });
    assert_eq!(store(&host)["writable"], true);

    // The disk as the agent sees it.
    let disk = format!(
        "/proc/{}/root{}",
        agent.pid(),
        host.root.join("var/lib/auk").display()
    );
    let filler = format!("{disk}/filler");
    let full = fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);

    // Each order takes room, until there is none in what the database has already.
    let status = eventually("a store that cannot be written", || {
        for _ in 0..50 {
            let order = Order::Hold {
                component: "0000:01:00.0".to_owned(),
                reason: "because ".repeat(60),
                seconds: None,
            };
            client::order(&host.root, &order, SOON).unwrap();
        }
        (store(&host)["writable"] == false).then(|| host.auk(&["status"]))
    });
    let said = status.stderr;
    assert!(said.contains("nothing is stored for"), "{said}");
    assert!(said.contains("full"), "{said}");

    host.auk(&["sim", "inject", "ecc-ue", "0000:01:00.0"])
        .expect_code(0);
    eventually("an error that is seen all the same", || {
        let status = host.auk(&["status", "--json"]).json();
        (component(&status, "0000:01:00.0")["state"] == "unhealthy").then_some(())
    });
    assert!(store(&host)["unwritten"].as_u64().unwrap() > 0);

    fs::remove_file(&filler).unwrap();
    let again = eventually("a store that is written again", || {
        let store = store(&host);
        (store["writable"] == true).then_some(store)
    });
    assert_eq!(
        (&again["unwritten"], &again["lost"]),
        (&0.into(), &0.into())
    );
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn a_file_of_a_newer_agent_stops_this_one_and_names_both_versions() {
    let host = SimHost::start(1, 0);
    let (first, _) = agent(&host.root, &[]);
    assert_eq!(first.stop(Signal::SIGTERM).code(), Some(0));
    let path = host.root.join("var/lib/auk/health.db");
    let file = fs::File::options().write(true).open(&path).unwrap();
    // `user_version`, in the SQLite file format, section 1.3.
    file.write_all_at(&99_u32.to_be_bytes(), 60).unwrap();
    let before = fs::read(&path).unwrap();
    let said = ["health.db", "version 99", "a newer agent wrote it"];
    host.auk(&["agent"]).expect_error(3, &said);
    host.auk(&["events"]).expect_error(3, &said);
    assert_eq!(fs::read(&path).unwrap(), before);
}
