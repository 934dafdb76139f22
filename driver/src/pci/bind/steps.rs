//! The writes that move a function from driver to driver, each looked at afterwards, and the way back.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::statfs::{FUSE_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

use super::super::{Host, PciFunction};
use super::error::{BindError, Rollback, Step, meaning};

/// Whoever acts on writes to sysfs: the kernel, or a test in its place.
pub(super) type Kernel<'a> = &'a dyn Fn(&Path, &str) -> io::Result<()>;

/// A function on its way from one driver to another.
pub(super) struct Move<'a> {
    pub(super) host: &'a Host,
    pub(super) function: &'a PciFunction,
    pub(super) kernel: Kernel<'a>,
    /// As it was at first.
    pub(super) driver: Option<String>,
    pub(super) driver_override: Option<String>,
}

/// A step that failed.
pub(super) enum Trouble {
    Refused(Step, io::Error),
    NoEffect {
        step: Step,
        found: Option<String>,
        expected: Option<String>,
    },
    Unreadable(super::super::PciError),
}

impl From<super::super::PciError> for Trouble {
    fn from(error: super::super::PciError) -> Self {
        Self::Unreadable(error)
    }
}

impl Move<'_> {
    /// Away from its present driver and to `to`, with that `driver_override`; `None` leaves it without a driver.
    pub(super) fn go(&self, to: Option<&str>, with_override: Option<&str>) -> Result<(), Trouble> {
        self.set_override(with_override)?;
        let now = self.function.driver()?;
        if now.as_deref() == to {
            return Ok(());
        }
        if let Some(driver) = now {
            let step = Step::Unbind(driver.clone());
            let path = self.driver(&driver).join("unbind");
            self.write(&path, step.clone())?;
            self.expect(step, None)?;
        }
        match to {
            Some(driver) => self.attach(driver),
            None => Ok(()),
        }
    }

    /// The kernel's choice among the drivers that match, and then `driver` by name: `drivers_probe` keeps a probe's errors to itself,
    /// `bind` tells them.
    fn attach(&self, driver: &str) -> Result<(), Trouble> {
        self.write(
            &self.host.root().join("sys/bus/pci/drivers_probe"),
            Step::Probe,
        )?;
        match self.function.driver()? {
            Some(found) if found == driver => return Ok(()),
            Some(found) => {
                return Err(Trouble::NoEffect {
                    step: Step::Probe,
                    found: Some(found),
                    expected: Some(driver.to_owned()),
                });
            }
            None => {}
        }
        let step = Step::Bind(driver.to_owned());
        self.write(&self.driver(driver).join("bind"), step.clone())?;
        self.expect(step, Some(driver))
    }

    /// Lets the kernel choose among all drivers; it may find none.
    pub(super) fn probe(&self) -> Result<(), Trouble> {
        self.write(
            &self.host.root().join("sys/bus/pci/drivers_probe"),
            Step::Probe,
        )
    }

    fn set_override(&self, driver: Option<&str>) -> Result<(), Trouble> {
        let step = Step::Override(driver.map(str::to_owned));
        // A line without a name is none, `driver_set_override` in drivers/base/driver.c.
        let text = driver.unwrap_or("\n");
        (self.kernel)(&self.function.path().join("driver_override"), text)
            .map_err(|source| Trouble::Refused(step, source))
    }

    fn write(&self, path: &Path, step: Step) -> Result<(), Trouble> {
        tracing::debug!(bdf = %self.function.bdf(), %step, "changing the driver");
        (self.kernel)(path, &self.function.bdf().to_string())
            .map_err(|source| Trouble::Refused(step, source))
    }

    fn expect(&self, step: Step, expected: Option<&str>) -> Result<(), Trouble> {
        let found = self.function.driver()?;
        if found.as_deref() == expected {
            return Ok(());
        }
        Err(Trouble::NoEffect {
            step,
            found,
            expected: expected.map(str::to_owned),
        })
    }

    fn driver(&self, name: &str) -> PathBuf {
        self.host.root().join("sys/bus/pci/drivers").join(name)
    }

    fn bring_back(&self) -> Rollback {
        match self.go(self.driver.as_deref(), self.driver_override.as_deref()) {
            Ok(()) => Rollback::Done,
            Err(trouble) => Rollback::Failed(match trouble {
                Trouble::Refused(step, source) => format!("{step}: {source}"),
                Trouble::NoEffect { step, .. } => format!("{step} had no effect"),
                Trouble::Unreadable(error) => error.to_string(),
            }),
        }
    }

    /// Brings the function back to what it was, and makes an error of the trouble.
    pub(super) fn undo(&self, trouble: Trouble) -> BindError {
        let bdf = self.function.bdf();
        let rollback = match &trouble {
            // The unbind goes on in the kernel, with the device's lock: any other write would sleep until it ends.
            Trouble::Refused(_, source) if source.kind() == io::ErrorKind::TimedOut => {
                Rollback::Failed("the unbind still waits in the kernel".to_owned())
            }
            // It is the first step: nothing was done yet.
            Trouble::Refused(Step::Override(_), _) => Rollback::Done,
            _ => self.bring_back(),
        };
        match trouble {
            Trouble::Refused(step, source) => BindError::Step {
                bdf,
                meaning: meaning(&step, &source),
                step,
                source,
                rollback,
            },
            Trouble::NoEffect {
                step,
                found,
                expected,
            } => BindError::NoEffect {
                bdf,
                step,
                found,
                expected,
                rollback,
            },
            Trouble::Unreadable(error) => error.into(),
        }
    }
}

/// Writes to a file of sysfs, in one write as the kernel wants it.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    open(path)?.write_all(text.as_bytes())
}

/// Opens a file of sysfs, or of a file system that stands in for it. A plain file would take the text, and nobody would act.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).open(path)?;
    match fstatfs(&file)?.filesystem_type() {
        SYSFS_MAGIC | FUSE_SUPER_MAGIC => Ok(file),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// As [`write`](fn@write), for a write that sleeps until others let go: by a process of its own, which outlives this one if need be.
/// A thread that sleeps in there would keep this process from ever ending.
pub(super) fn write_patiently(path: &Path, text: &str, patience: Duration) -> io::Result<()> {
    wait_for_write(open(path)?, text, patience)
}

pub(super) fn wait_for_write(
    file: impl Into<Stdio>,
    text: &str,
    patience: Duration,
) -> io::Result<()> {
    let mut child = Command::new("sh")
        .args(["-c", "printf %s \"$0\"", text])
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        // Not to be taken for what the kernel says of the write.
        .map_err(|source| io::Error::other(format!("starting sh to wait for it: {source}")))?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return match status.success() {
                true => Ok(()),
                false => Err(io::Error::other("the kernel refused the write")),
            };
        }
        if start.elapsed() >= patience {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(20));
    }
}
