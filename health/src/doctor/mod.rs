//! What a host needs for its accelerators to be opened: what was found, what is expected, how to mend it.
//!
//! Files in, findings out: everything is read below a root, nothing is opened or changed. A topic a file.

mod accelerator;
mod finding;
mod ground;
mod iommu;
mod kernel;
mod manifest;
mod memory;
mod module;
mod no_iommu;
#[cfg(test)]
mod tree;
mod type1;
mod vfio;

use std::path::Path;

use crate::config::ExpectedHost;
pub use finding::{Finding, HOST, Level};
use ground::Ground;

/// What is asked of a host, whatever devices it has.
type Topic = (&'static [&'static str], fn(&Ground) -> Vec<Finding>);

/// Each with the names of its checks.
const TOPICS: &[Topic] = &[
    (kernel::CHECKS, kernel::examine),
    (iommu::CHECKS, iommu::examine),
    (vfio::CHECKS, vfio::examine),
    (type1::CHECKS, type1::examine),
    (no_iommu::CHECKS, no_iommu::examine),
    (memory::CHECKS, memory::examine),
];

/// Examines the host below `root`, and holds it against what its manifest wants.
#[must_use]
pub fn examine(root: &Path, wanted: &ExpectedHost) -> Vec<Finding> {
    let ground = Ground::at(root, wanted.asked());
    let mut found = Vec::new();
    for (checks, examine) in TOPICS {
        if ground.is_simulated() {
            found.extend(checks.iter().map(|check| {
                Finding::not_applicable(
                    check,
                    "a simulated host: its chips are reached through sockets",
                )
            }));
        } else {
            found.extend(examine(&ground));
        }
    }
    found.extend(manifest::examine(&ground, wanted));
    found.extend(accelerator::examine(&ground));
    found
}
