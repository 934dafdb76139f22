//! What `auk agent` keeps, on disks that refuse or hang.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cli_support::{Running, SimHost, component, eventually, run};
use nix::sys::signal::Signal;
use serde_json::Value;

fn store(host: &SimHost) -> Value {
    host.auk(&["status", "--json"]).json()["store"].clone()
}

fn rounds(host: &SimHost) -> u64 {
    let status = host.auk(&["status", "--json"]).json();
    status["agent"]["rounds"].as_u64().unwrap()
}

fn is_unhealthy_at_last(host: &SimHost, chip: &str) {
    host.auk(&["sim", "inject", "ecc-ue", chip]).expect_code(0);
    eventually("an error that is seen all the same", || {
        let status = host.auk(&["status", "--json"]).json();
        (component(&status, chip)["state"] == "unhealthy").then_some(())
    });
}

#[test]
fn on_a_disk_that_is_read_only_the_agent_goes_on_from_memory_and_says_so() {
    let host = SimHost::start(1, 0);
    let state = host.root.join("var/lib/auk");
    fs::create_dir_all(&state).unwrap();
    let mount = r#"mount -t tmpfs none "$1" && mount -o remount,ro "$1""#;
    let may = run(Command::new("unshare")
        .args(["-rm", "sh", "-c", mount, "sh"])
        .arg(&state));
    if may.code != Some(0) {
        eprintln!(
            "SKIPPED: a disk of one's own needs a mount namespace, which this user may not have"
        );
        return;
    }
    let script = format!(r#"{mount} && exec "$2" agent --interval 100 --root "$3""#);
    let mut command = Command::new("unshare");
    command
        .args(["-rm", "sh", "-c", &script, "sh"])
        .arg(&state)
        .arg(env!("CARGO_BIN_EXE_auk"))
        .arg(&host.root)
        .env_remove("AUK_LOG");
    let (agent, _) = Running::start(&mut command, true);
    let refused = eventually("a store that cannot be written", || {
        let store = store(&host);
        (store["writable"] == false).then_some(store)
    });
    let reason = refused["reason"].as_str().unwrap();
    assert!(reason.contains("health.db"), "{reason}");
    is_unhealthy_at_last(&host, "0000:01:00.0");
    assert!(store(&host)["unwritten"].as_u64().unwrap() > 0);

    let disk = format!("/proc/{}/root{}", agent.pid(), state.display());
    let writable = Command::new("nsenter")
        .args([
            "-t",
            &agent.pid().to_string(),
            "-U",
            "--preserve-credentials",
            "-m",
        ])
        .args(["mount", "-o", "remount,rw", &state.display().to_string()])
        .status();
    assert!(writable.unwrap().success(), "{disk} stays read-only");
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

/// A disk that can be made to hang: an ext4 of its own, which the kernel freezes.
struct Disk {
    at: PathBuf,
    _image: tempfile::TempDir,
}

impl Disk {
    /// `None` where nobody may mount one.
    fn mount(at: &Path) -> Option<Self> {
        let image = tempfile::tempdir().unwrap();
        let file = image.path().join("disk");
        let sized = fs::File::create(&file).and_then(|file| file.set_len(64 << 20));
        sized.unwrap();
        fs::create_dir_all(at).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(&file).status();
        let mounted = made.is_ok_and(|made| made.success())
            && run(Command::new("mount")
                .args(["-o", "loop"])
                .arg(&file)
                .arg(at))
            .code
                == Some(0);
        if !mounted {
            eprintln!("SKIPPED: a disk that hangs takes root, mkfs.ext4 and loop devices");
            return None;
        }
        Some(Self {
            at: at.to_owned(),
            _image: image,
        })
    }

    fn freeze(&self, verb: &str) {
        let done = run(Command::new("fsfreeze").arg(verb).arg(&self.at));
        assert_eq!(done.code, Some(0), "{done:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not be frozen.
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.at).output();
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

#[test]
fn a_disk_that_hangs_holds_up_neither_looks_nor_verdicts_and_the_agent_ends_when_it_lets_go() {
    let host = SimHost::start(1, 0);
    let Some(disk) = Disk::mount(&host.root.join("var/lib/auk")) else {
        return;
    };
    let (agent, _) = cli_support::agent(&host.root, &[]);
    eventually("a healthy host", || {
        (host.auk(&["status"]).code == Some(0)).then_some(())
    });
    disk.freeze("-f");
    is_unhealthy_at_last(&host, "0000:01:00.0");
    let hangs = eventually("a store that hangs", || {
        let store = store(&host);
        (store["writable"] == false).then_some(store)
    });
    let reason = hangs["reason"].as_str().unwrap();
    assert!(reason.contains("did not"), "{reason}");
    let (before, since) = (rounds(&host), Instant::now());
    eventually("looks that go on", || {
        (rounds(&host) >= before + 20).then_some(())
    });
    let each = since.elapsed() / 20;
    eprintln!("measured: a round each {each:?} while the disk hangs, at an interval of 100 ms");

    disk.freeze("-u");
    let again = eventually("a store that is written again", || {
        let store = store(&host);
        (store["writable"] == true).then_some(store)
    });
    assert_eq!(
        (&again["unwritten"], &again["lost"]),
        (&0.into(), &0.into())
    );

    disk.freeze("-f");
    let thaw = std::thread::spawn({
        let at = disk.at.clone();
        move || {
            std::thread::sleep(Duration::from_secs(10));
            // A thread that the disk holds is of a process that cannot end before it.
            let _ = Command::new("fsfreeze").arg("-u").arg(at).output();
        }
    });
    let began = Instant::now();
    assert_eq!(agent.stop(Signal::SIGTERM).code(), Some(0));
    eprintln!(
        "measured: it ended {:?} after SIGTERM, with a disk that hangs for 10 s",
        began.elapsed()
    );
    thaw.join().unwrap();
}
