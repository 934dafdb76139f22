//! Which files make a configuration, and in which order, as systemd has it in systemd-system.conf(5).
//!
//! One main file: the first that is found of `/etc`, `/run`, `/usr/lib`. Then the drop-ins of all three directories, sorted by
//! file name, later over earlier; of several with one name that of `/etc` is read, else that of `/run`. A link to `/dev/null`
//! masks what it stands before.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::problem::{ConfigError, Problem};

/// Directories, the strongest first.
const DIRECTORIES: [&str; 3] = ["etc/auk", "run/auk", "usr/lib/auk"];
/// The main file.
const MAIN: &str = "agent.toml";
/// The directory of drop-ins beside it.
const DROP_INS: &str = "agent.d";
/// A file longer than this is no configuration.
const LONGEST: u64 = 1 << 20;
/// So many drop-ins are a mistake.
const MOST: usize = 1000;

/// The files in the order in which they are read, and what was left out though somebody may expect it.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) files: Vec<PathBuf>,
    pub(super) ignored: Vec<String>,
}

impl Layers {
    /// The files of the host below a root.
    pub(super) fn find(root: &Path) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        for directory in DIRECTORIES {
            let path = root.join(directory).join(MAIN);
            if fs::symlink_metadata(&path).is_ok() {
                if !is_masked(&path) {
                    layers.files.push(path);
                }
                break;
            }
        }
        let mut drop_ins = BTreeMap::<OsString, PathBuf>::new();
        for directory in DIRECTORIES {
            layers.list(&root.join(directory).join(DROP_INS), &mut drop_ins)?;
        }
        let unmasked = drop_ins.into_values().filter(|path| !is_masked(path));
        layers.files.extend(unmasked);
        Ok(layers)
    }

    fn list(
        &mut self,
        directory: &Path,
        drop_ins: &mut BTreeMap<OsString, PathBuf>,
    ) -> Result<(), ConfigError> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unreadable(directory, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(directory, &error))?;
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                self.ignored.push(format!(
                    "{}: not read, its name does not end in .toml",
                    path.display()
                ));
                continue;
            }
            // Directories come the strongest first.
            drop_ins.entry(entry.file_name()).or_insert(path);
            if drop_ins.len() > MOST {
                let text = format!("{}: more than {MOST} drop-ins", directory.display());
                return Err(ConfigError::one(text));
            }
        }
        Ok(())
    }
}

/// Whether a file says that there is none. The link's text counts: below a root it does not lead to the real `/dev/null`.
fn is_masked(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// The text of a configuration file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    // A FIFO in place of a file must hold nobody up.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        let text = format!(
            "{}: not a regular file, expected one with TOML",
            path.display()
        );
        return Err(ConfigError::one(text));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > LONGEST {
        let text = format!(
            "{}: longer than 1 MiB, which no configuration is",
            path.display()
        );
        return Err(ConfigError::one(text));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let text = String::from_utf8_lossy(valid);
        let problem = Problem {
            origin: Some(super::problem::Origin::of(&path.into(), &text, text.len())),
            text: "a byte that is not UTF-8, expected TOML text".to_owned(),
        };
        ConfigError {
            problems: vec![problem],
        }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::one(format!("{}: could not be read: {error}", path.display()))
}
