//! The opener: the one part with a privilege, so that the agent needs none.
//!
//! Whether the kernel shows config space beyond the first 64 bytes is decided by who opened the file
//! (`file_ns_capable` in `drivers/pci/pci-sysfs.c`), and the descriptor may then be passed on. So a
//! tiny service with CAP_SYS_ADMIN opens `config` files for reading, of accelerators and NICs only,
//! by paths that it makes itself, and passes them to the processes of one user. The kernel log is such a file, too: with
//! `kernel.dmesg_restrict` it wants CAP_SYSLOG of who opens it (`check_syslog_permissions` in kernel/printk/printk.c).

mod ask;
mod error;
mod serve;

use std::path::{Path, PathBuf};

pub use ask::{ask, ask_kernel_log};
pub use error::OpenerError;
pub use serve::Opener;

/// Version of the request and of the answer, their first byte.
const VERSION: u8 = 1;
/// Longest request: the version and an address with a domain of 32 bits.
const REQUEST: usize = 1 + "12345678:01:00.0".len();
/// What is asked for in place of an address when it is the kernel log.
const KERNEL_LOG: &[u8] = b"kmsg";
/// The version, and an error number or 0.
const ANSWER: usize = 1 + 4;

/// Where the opener answers: in a directory of its own, for the agent's belongs to the agent's user.
#[must_use]
pub fn socket_path(root: &Path) -> PathBuf {
    root.join("run/auk-opener/opener.sock")
}
