//! Who has a chip: a lock file that driver and agent both honour.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::stat::{major, minor};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::pci::{Bdf, Host};

/// Most bytes that are read of a lease file: whatever is in it is only shown.
const MOST_TEXT: u64 = 1024;

/// Looks at the list of locks before a chip counts as free: while other locks come and go, one can slip from page to page.
const LOOKS: u32 = 3;

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

    /// Who has the chip at `bdf`; `None` when nobody has. Looks the lock up in the kernel's list and takes none itself, so
    /// that looking makes nobody's open fail.
    ///
    /// The list leaves out processes of PID namespaces that this process does not see into: what they hold looks free.
    ///
    /// # Errors
    /// [`Error::Lease`] when the file is there and cannot be read, or `/proc/locks` cannot.
    pub fn holder(host: &Host, bdf: Bdf) -> Result<Option<Holder>, Error> {
        let path = host.lease_path(bdf);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Lease { path, source }
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(&path)(source)),
        };
        let found = file.metadata().map_err(failed(&path))?;
        let list = Path::new("/proc/locks");
        let said = read_holder(&file);
        for _ in 0..LOOKS {
            let locks = read_locks(list).map_err(failed(list))?;
            match locker(&locks, found.dev(), found.ino(), said.pid) {
                None => {}
                Some(pid) if pid == said.pid => return Ok(Some(said)),
                // It has the lock, and has not said so yet.
                Some(pid) => {
                    return Ok(Some(Holder {
                        pid,
                        comm: process_name(&pid.to_string()),
                        since: 0,
                    }));
                }
            }
        }
        Ok(None)
    }
}

/// The kernel's list of locks. It is consistent within a read, and the kernel gives a page at most; room from the start keeps
/// the standard library from feeling its way with small ones.
fn read_locks(list: &Path) -> io::Result<String> {
    let mut locks = String::with_capacity(64 << 10);
    File::open(list)?.read_to_string(&mut locks)?;
    Ok(locks)
}

/// Who has an exclusive flock on a file, by the list of proc_locks(5).
///
/// The device counts unless the process is the one that the file names: some file systems show another one to stat(2) than
/// their locks have. An inode number alone says little, small ones are on every tmpfs.
fn locker(locks: &str, device: u64, inode: u64, said: u32) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let any_device = format!(":{inode}");
    locks.lines().find_map(|line| {
        // Who waits for a lock has `->` in the second field, and so another class.
        let mut fields = line.split_whitespace().skip(1);
        let (class, _, mode) = (fields.next()?, fields.next()?, fields.next()?);
        let pid = fields.next()?.parse().ok()?;
        let locked = fields.next()?;
        let same = locked == file || pid == said && locked.ends_with(&any_device);
        (class == "FLOCK" && mode == "WRITE" && same).then_some(pid)
    })
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
        comm: process_name("self"),
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

/// The name of a process, as proc(5) has it.
fn process_name(process: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/comm"))
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
        assert_eq!(holder.pid, std::process::id());
        let evil = Holder {
            pid: 7,
            comm: "\u{1b}[31m".into(),
            since: 0,
        };
        assert_eq!(evil.to_string(), "process 7 (?[31m)");
    }

    const LOCKS: &str = "1: POSIX  ADVISORY  WRITE 310 00:15:99 0 EOF\n\
                         2: FLOCK  ADVISORY  WRITE 4711 08:01:12345 0 EOF\n\
                         2: -> FLOCK  ADVISORY  WRITE 4712 08:01:12345 0 EOF\n\
                         3: FLOCK  ADVISORY  READ 4713 08:01:777 0 EOF\n";

    #[test]
    fn an_exclusive_lock_is_found_by_device_and_inode() {
        let device = nix::sys::stat::makedev(8, 1);
        assert_eq!(locker(LOCKS, device, 12345, 0), Some(4711));
        assert_eq!(locker(LOCKS, device, 777, 4713), None);
        assert_eq!(locker(LOCKS, device, 99, 310), None);
        assert_eq!(locker("nonsense\n\n1: FLOCK", device, 99, 310), None);
    }

    #[test]
    fn the_process_that_the_file_names_is_found_by_inode_alone() {
        let other = nix::sys::stat::makedev(0, 40);
        assert_eq!(locker(LOCKS, other, 12345, 4711), Some(4711));
        assert_eq!(locker(LOCKS, other, 12345, 4712), None);
        assert_eq!(locker(LOCKS, other, 2345, 4711), None);
    }

    #[test]
    fn looking_never_makes_an_open_fail() {
        let (_dir, host, bdf) = host();
        drop(Lease::acquire(&host, bdf).unwrap());
        let looks = std::sync::atomic::AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while looks.load(std::sync::atomic::Ordering::Relaxed) {
                    Lease::holder(&host, bdf).unwrap();
                }
            });
            let taken = (0..500).all(|_| Lease::acquire(&host, bdf).is_ok());
            looks.store(false, std::sync::atomic::Ordering::Relaxed);
            assert!(taken);
        });
    }
}
