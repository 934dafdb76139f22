//! The recordings that are kept in `tests/vm/recordings/`, a folder a kernel line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use auk_vm::recording;

/// The recordings of a kernel line.
pub(crate) struct Recordings {
    directory: PathBuf,
    /// Whether what comes is kept, and not only compared.
    keep: bool,
}

impl Recordings {
    pub(crate) fn of(line: &str, keep: bool) -> Self {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
        Self {
            directory: all.join(line),
            keep,
        }
    }

    /// Compares a recording with the one that is kept, or keeps it.
    pub(crate) fn take(&self, name: &str, found: &str) -> Result<()> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !name.chars().all(is_plain) {
            bail!("{name:?} is no name for a recording");
        }
        let path = self.directory.join(format!("{name}.tsv"));
        if self.keep {
            fs::create_dir_all(&self.directory)?;
            return fs::write(&path, found).with_context(|| format!("writing {}", path.display()));
        }
        let kept = fs::read_to_string(&path)
            .with_context(|| format!("reading {}; `--record` makes it", path.display()))?;
        let differences = recording::differences(&kept, found).map_err(anyhow::Error::msg)?;
        if !differences.is_empty() {
            bail!(
                "this kernel differs from {}; if that is well, keep it with `--record`:\n{}",
                path.display(),
                differences.join("\n")
            );
        }
        Ok(())
    }
}
