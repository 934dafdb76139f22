//! The tests, a file a group. `host/boots.rs` says which boots run which groups.

mod aer;
mod agent;
mod agent_hang;
mod agent_log;
mod agent_nic;
mod bind;
mod chip;
mod chip_death;
mod chip_events;
mod chip_reset;
mod discovery;
mod doctor;
mod e1000e;
mod edu;
mod gone;
mod huge;
mod no_iommu;
mod nvme;
mod outside;
mod rdma;
mod recordings;
mod refused;
mod shared;
mod space;
mod stock;
mod vfio_chip;
mod vfio_dead;
mod vfio_no_iommu;
mod vfio_space;

use crate::registry::Test;

/// Name and tests of each group; a group's tests run in their order.
pub(crate) const GROUPS: &[(&str, &[Test])] = &[
    ("aer", aer::TESTS),
    ("agent", agent::TESTS),
    ("agent_hang", agent_hang::TESTS),
    ("agent_log", agent_log::TESTS),
    ("agent_nic", agent_nic::TESTS),
    ("bind", bind::TESTS),
    ("chip", chip::TESTS),
    ("chip_death", chip_death::TESTS),
    ("chip_events", chip_events::TESTS),
    ("chip_reset", chip_reset::TESTS),
    ("discovery", discovery::TESTS),
    ("doctor", doctor::TESTS),
    ("e1000e", e1000e::TESTS),
    ("edu", edu::TESTS),
    ("gone", gone::TESTS),
    ("huge", huge::TESTS),
    ("no_iommu", no_iommu::TESTS),
    ("nvme", nvme::TESTS),
    ("outside", outside::TESTS),
    ("rdma", rdma::TESTS),
    ("recordings", recordings::TESTS),
    ("refused", refused::TESTS),
    ("shared", shared::TESTS),
    ("space", space::TESTS),
    ("stock", stock::TESTS),
    ("vfio_chip", vfio_chip::TESTS),
    ("vfio_dead", vfio_dead::TESTS),
    ("vfio_no_iommu", vfio_no_iommu::TESTS),
    ("vfio_space", vfio_space::TESTS),
];
