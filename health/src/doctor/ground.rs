//! The root that is examined, and what kind of host is below it.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, eaccess};

use crate::host::{Profile, RELEASE};
use crate::probe::{ProbeError, text};

/// Files of a distribution, as the list of its modules, are longer than those of sysfs. It is only looked through.
const LONGEST: u64 = 16 << 20;

/// A host's root.
#[derive(Debug)]
pub(super) struct Ground {
    root: PathBuf,
    profile: OnceCell<Profile>,
    /// What the manifest asks of the host beyond what is always read.
    asked: Vec<String>,
}

impl Ground {
    pub(super) fn at(root: &Path, asked: Vec<String>) -> Self {
        Self {
            root: root.to_owned(),
            profile: OnceCell::new(),
            asked,
        }
    }

    /// How the host is set up, as the agent reads it.
    pub(super) fn profile(&self) -> &Profile {
        self.profile
            .get_or_init(|| Profile::read(&self.root, &self.asked))
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// The simulator's marker says that it made this tree.
    pub(super) fn is_simulated(&self) -> bool {
        self.has("run/auk/sim/host")
    }

    pub(super) fn has(&self, below: &str) -> bool {
        self.path(below).exists()
    }

    /// A small file; `None` when it is not there.
    pub(super) fn text(&self, below: &str) -> Result<Option<String>, ProbeError> {
        text::optional(text::read(&self.path(below)))
    }

    /// A number in a small file; `None` when it is not there.
    pub(super) fn number(&self, below: &str) -> Result<Option<u64>, ProbeError> {
        text::optional(text::number(&self.path(below), "a number"))
    }

    /// A file of any length, as far as it is text; nothing when it cannot be read.
    pub(super) fn long_text(&self, below: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(below))
            .and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
            .ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Names in a directory, in order; none when it is not there.
    pub(super) fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether this process may read and write a node.
    pub(super) fn may_open(&self, below: &str) -> bool {
        eaccess(&self.path(below), AccessFlags::R_OK | AccessFlags::W_OK).is_ok()
    }

    /// Major and minor number of the kernel's version, with the whole of it.
    pub(super) fn kernel(&self) -> Result<Option<(u32, u32, String)>, ProbeError> {
        let Some(release) = self.profile().kernel.clone()? else {
            return Ok(None);
        };
        match Profile::version(&release) {
            Some((major, minor)) => Ok(Some((major, minor, release))),
            None => Err(ProbeError::malformed(
                &self.path(RELEASE),
                &release,
                "a version as 6.12.43",
            )),
        }
    }
}
