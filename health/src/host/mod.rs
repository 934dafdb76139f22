//! The host profile: how the host is set up, read in one place and held against the manifest in one place, for the
//! agent's checks and for `auk doctor`.

mod against;
mod profile;
mod topics;

pub use against::{Compared, Difference};
pub use profile::{Huge, Limits, Profile, Share};
pub(crate) use profile::{RELEASE, nodes};
pub use topics::{TOPICS, Topic};

/// Bytes of a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;
