//! QEMU: from a package of Debian's backports, because `vfio-user-pci` came with 10.1; its command line, its process,
//! its monitor.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::apt::Apt;
use crate::boots::{Boot, Extra, Iommu};
use crate::cache::Cache;

/// How long the monitor may take to answer.
const MONITOR: Duration = Duration::from_secs(30);

/// QEMU as it is unpacked.
pub(crate) struct Qemu {
    root: PathBuf,
}

/// The files and sockets of one machine.
pub(crate) struct Machine<'a> {
    pub(crate) boot: &'a Boot,
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// Where the sockets are; a short path, as sockets need it.
    pub(crate) run: &'a Path,
    /// The sockets of our chips.
    pub(crate) chips: &'a [PathBuf],
    /// Takes what the kernel says.
    pub(crate) console: &'a Path,
    /// Takes what QEMU says.
    pub(crate) log: &'a Path,
}

impl Machine<'_> {
    /// The socket on which the host waits for the guest's second serial port.
    pub(crate) fn port(&self) -> PathBuf {
        self.run.join("port")
    }

    fn monitor(&self) -> PathBuf {
        self.run.join("qmp")
    }
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
            .args(arguments(machine))
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
        let mut command = Command::new(in_root("usr/lib64/ld-linux-x86-64.so.2"));
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

fn arguments(machine: &Machine<'_>) -> Vec<String> {
    let boot = machine.boot;
    let path = |path: &Path| path.display().to_string();
    let mut all: Vec<String> = [
        "-nodefaults",
        "-no-reboot",
        "-display",
        "none",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1G",
        // The simulator maps the guest's memory: it must be shared, and a memfd, which can be sealed.
        "-object",
        "memory-backend-memfd,id=ram,size=1G,share=on",
        "-machine",
        "q35,kernel-irqchip=split,memory-backend=ram",
    ]
    .map(str::to_owned)
    .into();
    let mut add = |option: &str, value: String| all.extend([option.to_owned(), value]);
    add("-kernel", path(machine.kernel));
    add("-initrd", path(machine.initramfs));
    add(
        "-append",
        format!("console=ttyS0 quiet panic=-1 {}", boot.append()),
    );
    add("-serial", format!("file:{}", path(machine.console)));
    add("-serial", format!("unix:{}", path(&machine.port())));
    add(
        "-qmp",
        format!("unix:{},server=on,wait=off", path(&machine.monitor())),
    );
    match boot.iommu {
        // Without caching-mode the guest does not tell what it maps, and QEMU gives up.
        Iommu::Intel => add(
            "-device",
            "intel-iommu,intremap=on,caching-mode=on".to_owned(),
        ),
    }
    let mut ports = 0;
    let mut port = |all: &mut Vec<String>| {
        let name = format!("port{ports}");
        ports += 1;
        let device = format!(
            "pcie-root-port,id={name},chassis={ports},addr={:#x}",
            3 + ports
        );
        all.extend(["-device".to_owned(), device]);
        name
    };
    for (number, socket) in machine.chips.iter().enumerate() {
        let bus = port(&mut all);
        let device = json!({
            "driver": "vfio-user-pci",
            "id": format!("chip{number}"),
            "bus": bus,
            "socket": { "type": "unix", "path": path(socket) },
        });
        all.extend(["-device".to_owned(), device.to_string()]);
    }
    for extra in boot.extras {
        match extra {
            Extra::Edu => all.extend(["-device", "edu,id=edu"].map(str::to_owned)),
            Extra::Nvme => {
                let bus = port(&mut all);
                all.extend(
                    ["-drive", "if=none,id=disk,format=raw,file.driver=null-co,file.read-zeroes=on,file.size=64M"]
                        .map(str::to_owned),
                );
                let device = format!("nvme,id=nvme,serial=1,drive=disk,bus={bus}");
                all.extend(["-device".to_owned(), device]);
            }
            Extra::E1000e => {
                let bus = port(&mut all);
                all.extend(["-device".to_owned(), format!("e1000e,id=e1000e,bus={bus}")]);
            }
        }
    }
    all
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
