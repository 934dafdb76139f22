//! The agent's units under a systemd that is booted for it: the sandbox lets it do what it must, and no more.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failing helper is a failing test"
)]

mod cli_support;
#[path = "../health/tests/support/fuse.rs"]
mod fuse;
#[path = "../health/tests/support/tree.rs"]
mod tree;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cli_support::{Outcome, component, ended, eventually, run};
use fuse::ServedFile;
use tree::{NIC, Tree};

/// A systemd in namespaces of its own. Dropped, it ends with all that it started.
struct Systemd {
    outer: Child,
    /// Its process, as seen from here.
    pid: u32,
}

impl Systemd {
    /// Boots it, with an agent of this machine or of a directory that stands for a host; `None` where nobody may.
    fn boot(host: Option<&Path>) -> Option<Self> {
        let may = nix::unistd::geteuid().is_root()
            && Path::new("/lib/systemd/systemd").exists()
            && run(Command::new("unshare")
                .args(["-mpC", "--fork", "mount", "-t", "cgroup2", "none", "/mnt"]))
            .code
                == Some(0);
        if !may {
            eprintln!(
                "SKIPPED: to boot a systemd takes root, its package and namespaces; the units were NOT RUN"
            );
            return None;
        }
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut outer = Command::new("bash")
            .arg(here.join("tests/systemd/boot.sh"))
            .arg(env!("CARGO_BIN_EXE_auk"))
            .arg(here.join("dist"))
            .envs(host.map(|host| ("AUK_HOST", host)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let id = outer.id();
        let pid = eventually("systemd's process", || {
            if let Some(status) = outer.try_wait().unwrap() {
                panic!("systemd was not booted: {status}");
            }
            let mut process = id;
            loop {
                let comm = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
                if comm.trim() == "systemd" {
                    return Some(process);
                }
                let children = format!("/proc/{process}/task/{process}/children");
                let children = fs::read_to_string(children).ok()?;
                process = children.split_whitespace().next()?.parse().ok()?;
            }
        });
        Some(Self { outer, pid })
    }

    /// Runs a command inside.
    fn run(&self, command: &[&str]) -> Outcome {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.pid.to_string()]);
        run(nsenter
            .args([
                "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net", "--root", "--wd",
            ])
            .args(command))
    }

    /// A property of a unit.
    fn property(&self, unit: &str, name: &str) -> String {
        let shown = self.run(&["systemctl", "show", "--property", name, "--value", unit]);
        shown.stdout.trim().to_owned()
    }

    fn until(&self, unit: &str, name: &str, value: &str) {
        eventually(&format!("{unit} with {name}={value}"), || {
            (self.property(unit, name) == value).then_some(())
        });
    }

    fn journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "--output=cat"])
            .stdout
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With the first process of its namespace all others end.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        ended(&mut self.outer);
    }
}

const AGENT: &str = "auk-agent.service";
const OTHER: &str = "0000:42:00.0";

#[test]
fn the_units_run_as_they_are_and_the_agent_is_without_privilege_reloaded_and_started_again() {
    let Some(systemd) = Systemd::boot(None) else {
        return;
    };
    systemd.until(AGENT, "ActiveState", "active");
    systemd.until("auk-agent-opener.service", "ActiveState", "active");
    assert_eq!(systemd.property(AGENT, "StatusText"), "no components");
    let main = systemd.property(AGENT, "MainPID");
    let process = systemd
        .run(&["cat", &format!("/proc/{main}/status")])
        .stdout;
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(process.contains(line), "no {line} in {process}");
    }
    let status = systemd.run(&["auk", "status", "--json"]).json();
    assert_eq!(status["store"]["writable"], true, "{status}");

    systemd.run(&["systemctl", "reload", AGENT]).expect_code(0);
    let write = "mkdir -p /etc/auk && echo 'agent.intervall = 1' > /etc/auk/agent.toml";
    systemd.run(&["sh", "-c", write]).expect_code(0);
    let refused = systemd.run(&["systemctl", "reload", AGENT]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    systemd.until(
        AGENT,
        "StatusText",
        "no components; the configuration could not be reloaded",
    );
    let journal = systemd.journal();
    assert!(
        journal.contains("did you mean agent.interval?"),
        "{journal}"
    );
    systemd.run(&["rm", "/etc/auk/agent.toml"]).expect_code(0);

    // One that does not go round any more.
    systemd.run(&["kill", "-STOP", &main]).expect_code(0);
    systemd.until(AGENT, "NRestarts", "1");
    systemd.until(AGENT, "StatusText", "no components");
    let journal = systemd.journal();
    assert!(journal.contains("Watchdog timeout"), "{journal}");

    systemd.run(&["systemctl", "stop", AGENT]).expect_code(0);
    systemd
        .run(&["test", "-d", "/run/auk/lease"])
        .expect_code(0);
    systemd
        .run(&["test", "!", "-e", "/run/auk/agent.sock"])
        .expect_code(0);
}

#[test]
fn a_reader_that_the_kernel_holds_delays_no_restart_of_the_agent() {
    let host = Tree::new();
    host.nic(OTHER, "0000:00:11.0", "eth1");
    let address = host.device(OTHER).join("net/eth1/address");
    fs::write(address, "02:a1:00:00:00:01\n").unwrap();
    // The agent's user is to keep its socket and its store there.
    fs::set_permissions(host.root(), Permissions::from_mode(0o777)).unwrap();
    let Some(served) = ServedFile::over_for_all(&host.device(NIC).join("config")) else {
        return;
    };
    let Some(systemd) = Systemd::boot(Some(host.root())) else {
        return;
    };
    // Answered before the systemd is ended, which waits for whoever waits for an answer.
    let served = served;
    let state = |address: &str| {
        let status = systemd.run(&["auk", "--root", "/srv/host", "status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        let components = status["components"].as_array();
        let known = components.is_some_and(|all| all.iter().any(|one| one["bdf"] == address));
        known.then(|| component(&status, address)["state"].clone())
    };
    let until = |address: &str, wanted: &str| {
        eventually(&format!("{address} to be {wanted}"), || {
            (state(address)? == wanted).then_some(())
        });
    };
    until(NIC, "healthy");
    served.hang();
    eventually("a read that is not answered", || served.hangs_since());
    until(NIC, "unobservable");
    let held = || {
        let all = systemd
            .run(&["ps", "-C", "auk-reader", "-o", "stat="])
            .stdout;
        all.lines().filter(|state| state.starts_with('D')).count()
    };
    let main = systemd.property(AGENT, "MainPID");

    let began = Instant::now();
    systemd.run(&["systemctl", "restart", AGENT]).expect_code(0);
    let took = began.elapsed();
    eprintln!("measured: restarted in {took:?}, while the kernel holds a reader");
    // Half of TimeoutStopSec, after which systemd would have given up waiting.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_ne!(systemd.property(AGENT, "MainPID"), main);
    assert!(
        held() > 0,
        "no reader of the former agent is asleep in the kernel"
    );
    until(OTHER, "healthy");
    served.let_go();
    until(NIC, "healthy");
    eventually("the readers that were held to end", || {
        (held() == 0).then_some(())
    });
}
