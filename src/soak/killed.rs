//! A host in a process of its own, which is killed again and again while a job uses its chip.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use auk_sim::inject::{self, Injection, Verb};

use super::director::Scene;
use super::ledger::{Ledger, Signal};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long the host lives each time.
const LIFE: Duration = Duration::from_secs(3);
/// The address of its one chip.
pub(super) const CHIP: &str = "0000:01:00.0";

/// The host's process. Dropping it ends it.
pub(super) struct HostProcess {
    root: PathBuf,
    child: Child,
}

impl HostProcess {
    /// Starts the host below `root`, and waits until it is ready.
    pub(super) fn start(root: &Path) -> anyhow::Result<Self> {
        let mut host = Self {
            root: root.to_owned(),
            child: spawn(root)?,
        };
        host.await_ready()?;
        Ok(host)
    }

    fn await_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let probe = Injection::new(CHIP, Verb::Heal);
        while let Err(error) = inject::send(&self.root, &probe, Duration::from_secs(1)) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the simulated host of its own process ended with {status}");
            }
            if Instant::now() > deadline {
                return Err(error).context("waiting for the simulated host of its own process");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Kills it and starts it anew, until the soak ends.
    pub(super) fn play(&mut self, scene: &Scene<'_>, ledger: &Ledger) -> anyhow::Result<()> {
        while !scene.until(LIFE, || scene.stopping()) {
            ledger.take_signals();
            let injected = Instant::now();
            let kill = Injection::new(CHIP, Verb::ProcessKill);
            // It dies before it answers.
            let _ = inject::send(&self.root, &kill, Duration::from_secs(5));
            self.child.wait().context("waiting for the killed host")?;
            let mut signals = Vec::new();
            let seen = scene.until(PATIENCE, || {
                signals.extend(ledger.take_signals());
                signals
                    .iter()
                    .any(|signal| matches!(signal, Signal::Error(_)))
            });
            let detection = injected.elapsed();
            self.child = spawn(&self.root)?;
            self.await_ready()?;
            let back = Instant::now();
            let before = ledger.counts().acknowledged;
            let recovered = scene.until(PATIENCE, || ledger.counts().acknowledged >= before + 2);
            let recovery = back.elapsed();
            scene.note(|record| {
                let outcome = record.outcomes.entry(Verb::ProcessKill.name()).or_default();
                outcome.add((seen, detection), (recovered, recovery));
            });
            if !seen || !recovered {
                let line = format!("a killed host: seen {seen}, recovered {recovered}");
                scene.note(|record| record.unexplained.push(line));
            }
        }
        Ok(())
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(root: &Path) -> anyhow::Result<Child> {
    // Whatever has become of the file meanwhile.
    let program = "/proc/self/exe";
    Command::new(program)
        .args(["sim", "host", "--chips", "1", "--nics", "0", "--root"])
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))
}
