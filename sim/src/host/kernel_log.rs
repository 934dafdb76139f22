//! The kernel log of the simulated host: a plain file of records as a read of `/dev/kmsg` gives them
//! (`Documentation/ABI/testing/dev-kmsg`), which grows.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::error::HostError;
use super::files::{Files, READ_WRITE};

/// Where it is.
pub(crate) const PATH: &str = "dev/kmsg";
/// From so many bytes on it begins anew, as the kernel's ring buffer overwrites what is old.
const MOST_BYTES: u64 = 1 << 20;

/// How grave a line is (`include/linux/kern_levels.h`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
}

/// The log.
pub(crate) struct KernelLog {
    files: Files,
    file: File,
    bytes: u64,
    /// Sequence number of the next record.
    next: u64,
}

impl KernelLog {
    /// An empty log.
    pub(crate) fn create(files: &Files) -> Result<Self, HostError> {
        files.directory("dev")?;
        files.create(PATH, READ_WRITE, b"")?;
        Ok(Self {
            file: open(files)?,
            files: files.clone(),
            bytes: 0,
            // A host that is started again in the same tree goes on where the last one must have ended: who follows the log
            // takes numbers that it has seen for records that it has read.
            next: u64::try_from(uptime().as_millis()).unwrap_or(0),
        })
    }

    /// The kernel says something of a PCI function.
    pub(crate) fn say_of(
        &mut self,
        function: &str,
        level: Level,
        text: &str,
    ) -> Result<(), HostError> {
        let dictionary = format!(" SUBSYSTEM=pci\n DEVICE=+pci:{function}\n");
        self.write(level, text, &dictionary)
    }

    /// The kernel says something.
    pub(crate) fn say(&mut self, level: Level, text: &str) -> Result<(), HostError> {
        self.write(level, text, "")
    }

    fn write(&mut self, level: Level, text: &str, dictionary: &str) -> Result<(), HostError> {
        if self.bytes >= MOST_BYTES {
            self.files.replace(PATH, READ_WRITE, b"")?;
            self.file = open(&self.files)?;
            self.bytes = 0;
        }
        let micros = uptime().as_micros();
        let (level, next) = (level as u8, self.next);
        let record = format!("{level},{next},{micros},-;{text}\n{dictionary}");
        // In one write, so that a reader sees a whole record.
        self.file
            .write_all(record.as_bytes())
            .map_err(HostError::io("write", &self.files.path(PATH)))?;
        self.next += 1;
        self.bytes += record.len() as u64;
        Ok(())
    }
}

fn open(files: &Files) -> Result<File, HostError> {
    let path = files.path(PATH);
    File::options()
        .append(true)
        .open(&path)
        .map_err(HostError::io("open", &path))
}

/// Time since this machine has started: the simulated host is up for as long.
fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default()
}
