//! What can go wrong while looking at PCI functions.

use std::io;
use std::path::PathBuf;

use super::{Bdf, BdfError};
use auk_asic::Malformed;

/// Errors of discovery.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PciError {
    /// A text that should be a PCI address is none. Give one as `auk list` prints them.
    #[error(transparent)]
    Address(#[from] BdfError),
    /// There is no PCI tree under the root. Check the root.
    #[error("{}: no PCI functions there ({source}); is this the root of a host, real or simulated?", path.display())]
    NoTree {
        /// The directory that was looked for.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no such function under the root. List what there is.
    #[error("{bdf}: no such PCI function at {}; `auk list` shows those there are", path.display())]
    NoSuchFunction {
        /// What was asked for.
        bdf: Bdf,
        /// Where it would be.
        path: PathBuf,
    },
    /// A file of the function could not be read. Usually a permission, or the function was removed meanwhile.
    #[error("{bdf}: reading {}: {source}", path.display())]
    File {
        /// The function.
        bdf: Bdf,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of the function holds what the kernel does not write there.
    #[error("{bdf}: {} holds \"{found}\", expected {expected}", path.display())]
    Content {
        /// The function.
        bdf: Bdf,
        /// The file.
        path: PathBuf,
        /// The beginning of what it holds.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// The kernel did not reset the function.
    #[error("{bdf}: resetting it through sysfs: {source} ({meaning})")]
    Reset {
        /// The function.
        bdf: Bdf,
        /// What the kernel said.
        source: io::Error,
        /// What that means here, and what to do.
        meaning: &'static str,
    },
    /// Config space could not be read or made sense of.
    #[error("{bdf}: {source}")]
    Config {
        /// The function.
        bdf: Bdf,
        /// What was wrong.
        source: ConfigError,
    },
}

/// Errors of config space, whatever it is read through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// All ones where the vendor ID is: nothing answers at this address. Rescan, or look at the slot.
    #[error("config space reads all ones: the function is gone, or its link is down")]
    Gone,
    /// The read itself failed.
    #[error("reading {length} bytes of config space at {offset:#x}: {source}")]
    Io {
        /// Where.
        offset: u16,
        /// How many bytes.
        length: usize,
        /// What was said.
        source: io::Error,
    },
    /// The read was cut short: the kernel shows 64 bytes to those without privilege. Run as root or with
    /// `CAP_SYS_ADMIN`, or let one who has it open the file.
    #[error("config space ends at {end:#x}, {wanted:#x} is beyond; opened without privilege?")]
    Short {
        /// First byte that is not there.
        end: u64,
        /// First byte that was wanted and not there.
        wanted: u64,
    },
    /// The capability list runs in a circle or outside config space. The function is broken.
    #[error("the {list} list is broken at {offset:#x}: {problem}")]
    BrokenList {
        /// Which list.
        list: &'static str,
        /// The capability whose pointer was followed.
        offset: u16,
        /// What is wrong there.
        problem: &'static str,
    },
    /// The function has no such capability. It is not an A1, or a prototype without it.
    #[error("no {0} capability")]
    Missing(&'static str),
    /// The sequence counter moved during every try. Read again later; until then nothing is known.
    #[error(
        "the vital signs changed during each of {tries} reads, the sequence counter is at {sequence}"
    )]
    Unsettled {
        /// How often it was tried.
        tries: u32,
        /// The last value of the counter.
        sequence: u32,
    },
    /// The contents are not what the programming model allows.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl PciError {
    /// Whether the function does not answer at all.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Config {
                source: ConfigError::Gone,
                ..
            }
        )
    }
}
