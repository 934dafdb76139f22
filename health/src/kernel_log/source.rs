//! Where the records come from: `/dev/kmsg`, or a plain file of the same form in the tree of a simulated host.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::opener;
use crate::probe::ProbeError;

/// Below the root.
const PATH: &str = "dev/kmsg";
/// The name that evidence gives it.
pub const NAME: &str = "/dev/kmsg";
/// Longest record that kernels of today give, `PRINTKRB_RECORD_MAX` in kernel/printk/internal.h and what was before it.
const USUAL: usize = 8 << 10;
/// A record that is longer than this is none.
const LONGEST: usize = 64 << 10;

/// The log of a host.
#[derive(Debug)]
pub enum Source {
    /// The kernel's device. A read gives a record.
    Device {
        /// Open for reading, without waiting.
        file: File,
        /// The last record.
        buffer: Vec<u8>,
    },
    /// A plain file, which grows.
    Plain(Plain),
}

/// A plain file.
#[derive(Debug)]
pub struct Plain {
    path: PathBuf,
    file: File,
    /// Where the next read begins.
    offset: u64,
    /// What was read; what stands before `at` was given out.
    buffer: Vec<u8>,
    at: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A record, or what stands where one should.
    Record(&'a [u8]),
    /// Some were overwritten before they were read.
    Overrun,
    /// Nothing new yet.
    Nothing,
}

impl Source {
    /// Opens the log of the host below a root; where the kernel does not let this process, by the opener.
    ///
    /// # Errors
    /// When there is none, or neither is let.
    pub fn open(root: &Path) -> Result<Self, ProbeError> {
        let path = root.join(PATH);
        // A service may be denied it, or have a /dev of its own without it.
        let file = match open(&path) {
            Ok(file) => file,
            Err(error) => opener::ask_kernel_log(root)
                .map_err(|refused| unseen(root, ProbeError::io(&path, &error), refused))?,
        };
        let metadata = file
            .metadata()
            .map_err(|error| ProbeError::io(&path, &error))?;
        if metadata.file_type().is_char_device() {
            return Ok(Self::Device {
                file,
                buffer: vec![0; USUAL],
            });
        }
        if metadata.is_file() {
            return Ok(Self::Plain(Plain::of(path, file)));
        }
        let expected = "the kernel's log device, or a plain file of records";
        Err(ProbeError::malformed(
            &path,
            "another kind of file",
            expected,
        ))
    }

    /// The descriptor that tells when there is something to read; a plain file has none that does.
    #[must_use]
    pub fn device(&self) -> Option<impl AsFd + '_> {
        match self {
            Self::Device { file, .. } => Some(file.as_fd()),
            Self::Plain(_) => None,
        }
    }

    /// The next record.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_next(&mut self) -> io::Result<Next<'_>> {
        match self {
            Self::Device { file, buffer } => read_record(file, buffer),
            Self::Plain(plain) => plain.read_next(),
        }
    }
}

/// Opens a log, without waiting for anybody.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// Why the log is not seen, of what its path gave and what the opener answered. That the /dev of a service has no log says
/// nothing of the host's: each kernel that this runs on has one, so at the real root the opener is at fault.
fn unseen(root: &Path, own: ProbeError, refused: ProbeError) -> ProbeError {
    match refused {
        _ if root != Path::new("/") || !own.is_not_found() => own,
        // The opener, whose /dev is the host's, has looked.
        refused if refused == own => own,
        ProbeError::NotFound { path } => ProbeError::Io {
            path,
            errno: Errno::ENOENT,
        },
        refused => refused,
    }
}

/// Path of the log below a root.
pub(crate) fn path(root: &Path) -> PathBuf {
    root.join(PATH)
}

fn read_record<'a>(mut file: &File, buffer: &'a mut Vec<u8>) -> io::Result<Next<'a>> {
    loop {
        let error = match file.read(buffer) {
            Ok(0) => return Ok(Next::Nothing),
            Ok(length) => return Ok(Next::Record(buffer.get(..length).unwrap_or_default())),
            Err(error) => error,
        };
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::EAGAIN => return Ok(Next::Nothing),
            Errno::EPIPE => return Ok(Next::Overrun),
            Errno::EINTR => {}
            // The record does not fit; it is still there.
            Errno::EINVAL if buffer.len() < LONGEST => buffer.resize(buffer.len() * 2, 0),
            _ => return Err(error),
        }
    }
}

impl Plain {
    fn of(path: PathBuf, file: File) -> Self {
        Self {
            path,
            file,
            offset: 0,
            buffer: Vec::new(),
            at: 0,
        }
    }

    fn read_next(&mut self) -> io::Result<Next<'_>> {
        loop {
            if let Some(record) = self.buffered(false) {
                return Ok(Next::Record(self.buffer.get(record).unwrap_or_default()));
            }
            if self.buffer.len() - self.at >= LONGEST {
                self.at = self.buffer.len();
            }
            if self.fill()? > 0 {
                continue;
            }
            if let Some(record) = self.buffered(true) {
                return Ok(Next::Record(self.buffer.get(record).unwrap_or_default()));
            }
            if !self.is_replaced() {
                return Ok(Next::Nothing);
            }
            *self = Self::of(self.path.clone(), open(&self.path)?);
        }
    }

    /// Takes a record out of what was read. Lines that begin with a space belong to the one before, so only at the end of
    /// the file is it whole with its line.
    fn buffered(&mut self, at_end: bool) -> Option<Range<usize>> {
        let rest = self.buffer.get(self.at..)?;
        let mut end = 0;
        loop {
            let line = rest.get(end..)?.iter().position(|byte| *byte == b'\n')?;
            end += line + 1;
            match rest.get(end) {
                Some(b' ') => {}
                Some(_) => break,
                None if at_end => break,
                None => return None,
            }
        }
        let record = self.at..self.at + end;
        self.at = record.end;
        Some(record)
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + LONGEST, 0);
        let into = self.buffer.get_mut(before..).unwrap_or_default();
        let read = self.file.read_at(into, self.offset);
        let length = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(before + length);
        self.offset += length as u64;
        read
    }

    /// Whether the file is another one by now, or was cut.
    fn is_replaced(&self) -> bool {
        let (Ok(now), Ok(open)) = (fs::metadata(&self.path), self.file.metadata()) else {
            return false;
        };
        now.is_file() && (now.ino() != open.ino() || now.len() < self.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(text: &str) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("dev")).unwrap();
        let file = path(root.path());
        fs::write(&file, text).unwrap();
        (root, file)
    }

    fn all(source: &mut Source) -> Vec<String> {
        let mut records = Vec::new();
        while let Next::Record(record) = source.read_next().unwrap() {
            records.push(String::from_utf8_lossy(record).into_owned());
        }
        records
    }

    #[test]
    fn a_plain_file_gives_records_with_their_dictionaries_as_it_grows() {
        let (root, file) =
            log("6,0,0,-;one\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n6,1,0,-;two\n6,2,0,-;th");
        let mut source = Source::open(root.path()).unwrap();
        let first = all(&mut source);
        assert_eq!(first.len(), 2);
        assert!(first[0].ends_with("DEVICE=+pci:0000:01:00.0\n"));
        let mut file = File::options().append(true).open(file).unwrap();
        file.write_all(b"ree\n").unwrap();
        assert_eq!(all(&mut source), ["6,2,0,-;three\n"]);
        assert_eq!(source.read_next().unwrap(), Next::Nothing);
    }

    #[test]
    fn a_file_that_was_replaced_is_read_from_its_start() {
        let (root, file) = log("6,0,0,-;old\n");
        let mut source = Source::open(root.path()).unwrap();
        assert_eq!(all(&mut source).len(), 1);
        fs::write(root.path().join("new"), "6,1,0,-;new\n").unwrap();
        fs::rename(root.path().join("new"), file).unwrap();
        assert_eq!(all(&mut source), ["6,1,0,-;new\n"]);
    }

    #[test]
    fn a_line_without_end_takes_a_bounded_memory() {
        let (root, _file) = log(&format!("{}\n6,1,0,-;after\n", "x".repeat(10 << 20)));
        let mut source = Source::open(root.path()).unwrap();
        let records = all(&mut source);
        assert_eq!(records.last().unwrap(), "6,1,0,-;after\n");
        let Source::Plain(plain) = &source else {
            panic!("{source:?}")
        };
        assert!(plain.buffer.capacity() <= 4 * LONGEST);
    }

    #[test]
    fn what_is_no_log_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        assert!(Source::open(root.path()).unwrap_err().is_not_found());
        fs::create_dir_all(path(root.path())).unwrap();
        let error = Source::open(root.path()).unwrap_err().to_string();
        assert!(error.contains("dev/kmsg"), "{error}");
    }

    #[test]
    fn a_host_whose_log_only_the_opener_shows_is_not_without_one_when_there_is_no_opener() {
        let missing = |path: &str| ProbeError::NotFound {
            path: path.to_owned(),
        };
        let own = || missing("/dev/kmsg");
        let socket = "/run/auk-opener/socket";
        let error = unseen(Path::new("/"), own(), missing(socket));
        assert!(!error.is_not_found(), "{error}");
        assert!(error.to_string().contains(socket), "{error}");
        let denied = || ProbeError::Denied {
            path: "/dev/kmsg".to_owned(),
        };
        assert_eq!(unseen(Path::new("/"), denied(), missing(socket)), denied());
        assert_eq!(unseen(Path::new("/"), own(), denied()), denied());
        assert_eq!(unseen(Path::new("/"), own(), own()), own());
        // A tree of files has what it has.
        assert_eq!(unseen(Path::new("/tree"), own(), missing(socket)), own());
    }

    /// Of this machine, where it has a log and lets us.
    #[test]
    fn the_kernels_device_is_read_to_its_end() {
        let mut source = match Source::open(Path::new("/")) {
            Ok(source) => source,
            Err(error) => {
                eprintln!("SKIPPED: the kernel log of this machine cannot be read: {error}");
                return;
            }
        };
        let mut last = None;
        loop {
            match source.read_next().unwrap() {
                Next::Record(record) => {
                    let line = super::super::record::Line::parse(record).unwrap();
                    assert!(last.is_none_or(|last| line.sequence > last));
                    last = Some(line.sequence);
                }
                Next::Overrun => {}
                Next::Nothing => break,
            }
        }
        assert!(last.is_some());
    }
}
