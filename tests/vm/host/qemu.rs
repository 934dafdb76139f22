//! QEMU: from a package of Debian's backports, because `vfio-user-pci` came with 10.1; its process and
//! its monitor.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::apt::Apt;
use crate::cache::Cache;
use crate::machine::Machine;
use crate::shell;

/// How long the monitor may take to answer.
const MONITOR: Duration = Duration::from_secs(30);

/// QEMU as it is unpacked.
pub(crate) struct Qemu {
    root: PathBuf,
}

impl Qemu {
    pub(crate) fn set_up(cache: &Cache, apt: &Apt<'_>) -> Result<Self> {
        let root = cache.once("qemu", |to| {
            apt.unpack_closure("trixie-backports", &["qemu-system-x86"], to)
        })?;
        Ok(Self { root })
    }

    /// Starts a machine.
    pub(crate) fn start(&self, machine: &Machine<'_>) -> Result<Running> {
        let log = File::create(machine.log)
            .with_context(|| format!("making {}", machine.log.display()))?;
        let child = self
            .command()
            .args(machine.arguments())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting QEMU")?;
        Ok(Running {
            child,
            monitor: machine.monitor(),
        })
    }

    /// It is run by the dynamic linker that it was built for, with libraries that are newer than this machine's.
    fn command(&self) -> Command {
        let in_root = |path: &str| self.root.join(path);
        let mut command = shell::tied_to_us(in_root("usr/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(in_root("usr/lib/x86_64-linux-gnu"))
            .arg(in_root("usr/bin/qemu-system-x86_64"));
        for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            command.arg("-L").arg(in_root(firmware));
        }
        command
    }
}

/// A machine that runs. Dropping it ends it.
pub(crate) struct Running {
    child: Child,
    monitor: PathBuf,
}

impl Running {
    /// Whether QEMU has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// A command of the human monitor: what it prints.
    pub(crate) fn human_monitor(&self, command: &str) -> Result<String> {
        let answer = self.qmp("human-monitor-command", &json!({ "command-line": command }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// A command of QMP, `docs/interop/qmp-spec.rst` of QEMU: what it returns.
    pub(crate) fn qmp(&self, execute: &str, arguments: &Value) -> Result<Value> {
        let stream = UnixStream::connect(&self.monitor).context("connecting to QEMU's monitor")?;
        stream.set_read_timeout(Some(MONITOR))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let mut stream = stream;
        let mut next = |what: &str| -> Result<Value> {
            loop {
                let line = lines
                    .next()
                    .with_context(|| format!("QEMU has gone, asked for {what}"))?
                    .with_context(|| format!("waiting for {what}"))?;
                let message: Value = serde_json::from_str(&line)?;
                if message.get("event").is_none() {
                    return Ok(message);
                }
            }
        };
        next("its greeting")?;
        for (execute, arguments) in [("qmp_capabilities", &json!({})), (execute, arguments)] {
            let request = json!({ "execute": execute, "arguments": arguments });
            stream.write_all(format!("{request}\n").as_bytes())?;
            let answer = next(execute)?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {execute}: {error}");
            }
            if execute != "qmp_capabilities" {
                return Ok(answer.get("return").cloned().unwrap_or_default());
            }
        }
        bail!("QEMU was asked nothing")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
