//! Reset through sysfs, which needs no open device: the last rung of a ladder.

use std::fs::File;
use std::io::{self, Write};

use super::{PciError, PciFunction};

impl PciFunction {
    /// The ways in which the kernel can reset the function, the best first: `flr`, `pm`, `bus` and so on
    /// (`Documentation/ABI/testing/sysfs-bus-pci`, `reset_method`). `None` when the kernel does not say (before 5.15, or it knows no way).
    ///
    /// # Errors
    /// [`PciError::File`] when the file is there and cannot be read.
    pub fn reset_methods(&self) -> Result<Option<Vec<String>>, PciError> {
        if !self.path().join("reset_method").exists() {
            return Ok(None);
        }
        let text = self.text("reset_method")?;
        Ok(Some(text.split_whitespace().map(str::to_owned).collect()))
    }

    /// Has the kernel reset the function, by the first of [`reset_methods`](Self::reset_methods) that works. The kernel saves and
    /// restores config space around it; a process that has the device open is told nothing, so it must be nobody's.
    ///
    /// The kernel waits for the function to answer again, for a minute when it does not, and the calling thread sleeps so long.
    ///
    /// # Errors
    /// [`PciError::Reset`], which says what the kernel's answer means.
    pub fn reset(&self) -> Result<(), PciError> {
        let path = self.path().join("reset");
        File::options()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"1"))
            .map_err(|source| PciError::Reset {
                bdf: self.bdf(),
                meaning: meaning(&source),
                source,
            })
    }
}

/// What an errno of the `reset` file means, by `reset_store` in `drivers/pci/pci-sysfs.c` and the methods it calls.
fn meaning(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTTY) => {
            "the kernel knows no way to reset it; reset the port above it, or power the slot off and on"
        }
        Some(libc::EACCES | libc::EPERM) => "only root may",
        Some(libc::EAGAIN | libc::EBUSY) => {
            "it shares what would be reset with others that are in use, or its lock is taken; try again later"
        }
        Some(libc::ENODEV) => "it is gone; rescan the bus",
        _ => "it did not come back in time, or the reset failed; look at the kernel's log",
    }
}

#[cfg(test)]
mod tests {
    use crate::pci::PciError;
    use crate::pci::tree::Tree;

    #[test]
    fn methods_are_told_in_the_kernels_order() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", None, None);
        let function = tree.get("0000:01:00.0");
        assert_eq!(function.reset_methods().unwrap(), None);
        std::fs::write(function.path().join("reset_method"), "flr bus\n").unwrap();
        assert_eq!(function.reset_methods().unwrap().unwrap(), ["flr", "bus"]);
    }

    #[test]
    fn a_function_without_a_reset_says_so() {
        let tree = Tree::new();
        tree.function("0000:01:00.0", "0x120000", None, None);
        let error = tree.get("0000:01:00.0").reset().unwrap_err();
        assert!(matches!(error, PciError::Reset { .. }), "{error}");
        assert!(error.to_string().contains("no way to reset"), "{error}");
    }
}
