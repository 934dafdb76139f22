//! What has been read on a real kernel, and what exists in simulations only.
//!
//! Each kernel line's recordings, `tests/vm/recordings/`, are read by the very probes in a test, which holds this table
//! to what came of it. What a recording cannot hold is read by a test that runs on those kernels.

use std::fmt;

use crate::Config;
use crate::check::{self, Check};
use crate::facts::{FactKind, Kind};
use crate::operator::Mode;

/// Lines of kernels that were read.
pub const KERNELS: [&str; 3] = ["6.1", "6.12", "newest"];

/// Something that a check rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A fact.
    Fact(FactKind),
    /// The serial number.
    Serial,
    /// The physical slot.
    Slot,
    /// Who has it open.
    Lease,
}

/// What shows that it was read on a real kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The recordings of all [`KERNELS`].
    Recordings,
    /// A test in `tests/vm/guest/tests/agent.rs` or `agent_log.rs`, by its name.
    KernelTest(&'static str),
    /// A test in `health/tests/ethtool.rs`, by its name: of the kernel that it runs on.
    HostTest(&'static str),
    /// Nothing does.
    Nothing,
}

impl Source {
    /// What shows that it was read on a real kernel.
    #[must_use]
    pub const fn proof(self) -> Proof {
        match self {
            // Recordings have config space as everybody sees it: its first 64 bytes.
            Self::Fact(FactKind::Vitals) | Self::Serial => {
                Proof::KernelTest("it_calls_a_chip_healthy")
            }
            // No file has it.
            Self::Fact(FactKind::Ethtool) => {
                Proof::HostTest("the_driver_of_an_interface_of_this_machine_answers")
            }
            Self::Fact(FactKind::Profile) => {
                Proof::KernelTest("it_holds_the_host_against_the_manifest")
            }
            Self::Fact(FactKind::KernelLog) => {
                Proof::KernelTest("it_hears_an_iommu_fault_and_blames_the_function")
            }
            Self::Fact(_) => Proof::Recordings,
            Self::Lease => Proof::KernelTest("it_sees_a_memory_error_while_a_job_has_the_chip"),
            Self::Slot => Proof::Nothing,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fact(fact) => f.write_str(&fact.source("BDF", &Default::default())),
            Self::Serial => f.write_str("the serial number in /sys/bus/pci/devices/BDF/config"),
            Self::Slot => f.write_str("/sys/bus/pci/slots/*/address"),
            Self::Lease => f.write_str("/run/auk/lease/BDF and /proc/locks"),
        }
    }
}

/// A check that rests on what no real kernel has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The check.
    pub check: &'static str,
    /// What it reads.
    pub source: Source,
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, source } = self;
        write!(
            f,
            "check {check} reads {source}, which was never read on a real kernel; check.{check}.shadow = true shows what \
             it says without effect"
        )
    }
}

/// The checks that would have a say by a configuration and rest on what was never read on a real kernel.
#[must_use]
pub fn unproven(config: &Config) -> Vec<Unproven> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        for check in check::for_kind(kind) {
            let name = check.name();
            let mode = config.settings.modes.get(name).copied();
            if mode.unwrap_or_default() != Mode::On {
                continue;
            }
            let sources = sources(&*check).into_iter();
            let unread = sources
                .filter(|source| source.proof() == Proof::Nothing && is_asked_for(*source, config));
            for source in unread {
                let unproven = Unproven {
                    check: name,
                    source,
                };
                if !found.contains(&unproven) {
                    found.push(unproven);
                }
            }
        }
    }
    found
}

fn sources(check: &dyn Check) -> Vec<Source> {
    let facts = check.reads().iter().copied().map(Source::Fact);
    facts.chain(check.also_reads().iter().copied()).collect()
}

/// Slots are compared where the manifest names some.
fn is_asked_for(source: Source, config: &Config) -> bool {
    let manifest = &config.settings.manifest;
    source != Source::Slot || manifest.entries().any(|(_, entry)| entry.slot.is_some())
}
