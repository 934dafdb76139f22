//! Who has a chip: a lock file that driver and agent both honour.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::pci::{Bdf, Host};

/// Most bytes that are read of a lease file: whatever is in it is only shown.
const MOST_TEXT: u64 = 1024;

/// The right to open a chip. Ends when it is dropped, and with the process.
#[derive(Debug)]
pub struct Lease {
    /// Locked by flock(2), which goes with the descriptor. The file itself stays: to remove it would let two processes
    /// lock two files of one name.
    _file: File,
}

/// Who has a chip, as the lease file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process, 0 when it is not known.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Since when, in seconds of the Unix epoch.
    pub since: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("a process that did not say which it is");
        }
        // What the file says is another process's; it must not control a terminal.
        let comm: String = self
            .comm
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .take(64)
            .collect();
        write!(f, "process {} ({comm})", self.pid)
    }
}

impl Lease {
    /// Takes the lease of the chip at `bdf`, without waiting.
    ///
    /// # Errors
    /// [`Error::Busy`] with the holder, [`Error::Lease`] when the file cannot be used.
    pub fn acquire(host: &Host, bdf: Bdf) -> Result<Self, Error> {
        let path = host.lease_path(bdf);
        let failed = |source| Error::Lease {
            path: path.clone(),
            source,
        };
        let file = open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy {
                    bdf,
                    holder: read_holder(&file),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        write_holder(&file).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Who has the chip at `bdf`; `None` when nobody has.
    ///
    /// # Errors
    /// [`Error::Lease`] when the file is there and cannot be read.
    pub fn holder(host: &Host, bdf: Bdf) -> Result<Option<Holder>, Error> {
        let path = host.lease_path(bdf);
        let failed = |source| Error::Lease {
            path: path.clone(),
            source,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        // A shared lock is enough to see whether somebody has the exclusive one, and two who look do not mistake each
        // other for a holder.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&file))),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn write_holder(mut file: &File) -> io::Result<()> {
    let holder = Holder {
        pid: std::process::id(),
        comm: process_name(),
        since: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    };
    let mut line = serde_json::to_vec(&holder)?;
    line.push(b'\n');
    file.set_len(0)?;
    file.write_all(&line)
}

fn read_holder(file: &File) -> Holder {
    let mut text = Vec::new();
    // Unreadable, empty or of another form: somebody has it all the same.
    let _ = file.take(MOST_TEXT).read_to_end(&mut text);
    serde_json::from_slice(&text).unwrap_or(Holder {
        pid: 0,
        comm: String::new(),
        since: 0,
    })
}

/// The name of this process, as proc(5) has it.
fn process_name() -> String {
    fs::read_to_string(PathBuf::from("/proc/self/comm"))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, Host, Bdf) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        (dir, host, "01:00.0".parse().unwrap())
    }

    #[test]
    fn the_second_one_learns_who_was_first() {
        let (_dir, host, bdf) = host();
        let lease = Lease::acquire(&host, bdf).unwrap();
        let Err(Error::Busy { holder, .. }) = Lease::acquire(&host, bdf) else {
            panic!("a lease was given twice");
        };
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(Lease::holder(&host, bdf).unwrap(), Some(holder));
        drop(lease);
        assert_eq!(Lease::holder(&host, bdf).unwrap(), None);
        Lease::acquire(&host, bdf).unwrap();
    }

    #[test]
    fn a_file_that_nobody_locks_is_free_whatever_it_says() {
        let (_dir, host, bdf) = host();
        let path = host.lease_path(bdf);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, r#"{"pid":1,"comm":"init","since":0}"#).unwrap();
        assert_eq!(Lease::holder(&host, bdf).unwrap(), None);
        Lease::acquire(&host, bdf).unwrap();
    }

    #[test]
    fn a_holder_that_says_nonsense_still_holds() {
        let (_dir, host, bdf) = host();
        let _lease = Lease::acquire(&host, bdf).unwrap();
        fs::write(host.lease_path(bdf), "\u{1b}[31m").unwrap();
        let holder = Lease::holder(&host, bdf).unwrap().unwrap();
        assert_eq!(holder.pid, 0);
        let evil = Holder {
            pid: 7,
            comm: "\u{1b}[31m".into(),
            since: 0,
        };
        assert_eq!(evil.to_string(), "process 7 (?[31m)");
    }
}
