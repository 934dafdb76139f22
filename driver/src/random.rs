//! Numbers that differ from one time to the next; nothing here is a secret.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A tag for a new life of a queue, so that completions of a former one are recognised.
pub(crate) fn tag() -> u16 {
    // Each `RandomState` has keys of its own, from the operating system's random numbers.
    RandomState::new().build_hasher().finish() as u16
}
