//! The tests, a file a group. `host/boots.rs` says which boots run which groups.

mod discovery;
mod stock;

use crate::registry::Test;

/// Name and tests of each group; a group's tests run in their order.
pub(crate) const GROUPS: &[(&str, &[Test])] =
    &[("discovery", discovery::TESTS), ("stock", stock::TESTS)];
