//! The tests, a file a group. `host/boots.rs` says which boots run which groups.

mod aer;
mod discovery;
mod e1000e;
mod gone;
mod no_iommu;
mod nvme;
mod outside;
mod rdma;
mod recordings;
mod stock;

use crate::registry::Test;

/// Name and tests of each group; a group's tests run in their order.
pub(crate) const GROUPS: &[(&str, &[Test])] = &[
    ("aer", aer::TESTS),
    ("discovery", discovery::TESTS),
    ("e1000e", e1000e::TESTS),
    ("gone", gone::TESTS),
    ("no_iommu", no_iommu::TESTS),
    ("nvme", nvme::TESTS),
    ("outside", outside::TESTS),
    ("rdma", rdma::TESTS),
    ("recordings", recordings::TESTS),
    ("stock", stock::TESTS),
];
