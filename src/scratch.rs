//! Where the trees of simulated hosts go that a command makes for itself.

use std::path::{Path, PathBuf};

/// Into memory, unless the user wants it elsewhere.
pub(crate) fn directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}
