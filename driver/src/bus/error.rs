//! What can go wrong between the driver and a function.

use std::io;
use std::path::PathBuf;

use crate::pci::{Bdf, GroupMember, PciError};

/// Errors of a bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The other end of the socket is gone: the simulator ended. Open the chip again when it is back.
    #[error("the connection is gone{}", because(reason))]
    Disconnected {
        /// What was noticed, if anything.
        reason: String,
    },
    /// The socket could not be connected to. Start the simulator, or look at the path's permissions.
    #[error("connecting to {}: {source}", path.display())]
    Connect {
        /// Where the socket should be.
        path: PathBuf,
        /// What was said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time. The connection cannot be used any more: open the chip again.
    #[error("{what}: no answer within {milliseconds} ms")]
    TimedOut {
        /// What was asked.
        what: String,
        /// How long it was waited.
        milliseconds: u128,
    },
    /// The other end refused.
    #[error("{what}: refused with {errno}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its reason.
        errno: io::Error,
    },
    /// The other end broke the protocol. The connection cannot be used any more; report it.
    #[error("{what}: {reason}")]
    Protocol {
        /// What was asked.
        what: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The function has no such region, or not with the access that is needed. It is not an A1.
    #[error("region {index}: {problem}")]
    NoRegion {
        /// VFIO's index of the region.
        index: u32,
        /// What is missing.
        problem: &'static str,
    },
    /// A system call of this process failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The function cannot be found, or what sysfs says about it cannot be read.
    #[error(transparent)]
    Pci(Box<PciError>),
    /// A bridge, or whatever else is no endpoint: VFIO hands out endpoints alone. Give the address of the chip.
    #[error(
        "{bdf} is a bridge, and VFIO takes endpoints only; give the address of the chip behind it"
    )]
    Bridge {
        /// The function.
        bdf: Bdf,
    },
    /// Another driver than one of VFIO's has the function, or none. `auk bind` changes that.
    #[error(
        "bound to {}, not to a driver of VFIO's; bind it to vfio-pci (`auk bind {bdf}`)",
        driver.as_deref().unwrap_or("no driver")
    )]
    NotBound {
        /// The function.
        bdf: Bdf,
        /// The driver, if there is one.
        driver: Option<String>,
    },
    /// The kernel has no VFIO, or not the part that was asked for. Load the module, or choose another way to open.
    #[error("{what}: {} is not there; {remedy}", path.display())]
    NoInterface {
        /// What was being done.
        what: String,
        /// What is missing.
        path: PathBuf,
        /// How to have it.
        remedy: &'static str,
    },
    /// Nothing translates the function's DMA, so that it cannot be given to a process safely.
    #[error("no IOMMU translates the function's DMA; {remedy}")]
    NoIommu {
        /// How to have one.
        remedy: &'static str,
    },
    /// Functions that cannot be told apart from this one by the IOMMU are used by the kernel. Bind them to vfio-pci too, or to
    /// no driver.
    #[error(
        "IOMMU group {group} is shared with functions that drivers of the kernel use: {}; bind them to vfio-pci too, \
         or to no driver",
        listed(members)
    )]
    GroupNotViable {
        /// The group's number.
        group: u32,
        /// The members that are in the way.
        members: Vec<GroupMember>,
    },
    /// This process may not. Grant what the text names.
    #[error("{what}: not permitted; {remedy}")]
    NotPermitted {
        /// What was being done.
        what: String,
        /// What would permit it.
        remedy: String,
    },
    /// Somebody has it open already. Wait for them, or ask them to let go.
    #[error("{what}: in use by {holder}")]
    InUse {
        /// What was being done.
        what: String,
        /// Who has it, as far as can be seen.
        holder: String,
    },
    /// The function, its bus, or this kernel cannot do that. Nothing has happened.
    #[error("{what}: not supported: {reason}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What is lacking.
        reason: String,
    },
    /// The function was taken from the kernel (unplugged, removed): open it again when it is back. Its DMA can still be unmapped.
    #[error("{what}: the function was removed from this host")]
    Removed {
        /// What was being done.
        what: String,
    },
    /// A reset that outlived its deadline still runs in the kernel, and this call would have waited for it without end.
    #[error(
        "{what}: a reset has been running for {milliseconds} ms; try again when it has ended, or close the function"
    )]
    ResetRuns {
        /// What was asked for.
        what: String,
        /// Since when.
        milliseconds: u128,
    },
    /// The limit on locked memory is too low. Raise it (`LimitMEMLOCK=` of a unit, `memlock` of limits.conf), or map less.
    #[error(
        "pinning {length} bytes for DMA needs a memlock limit of at least {needed} bytes, and it is {limit}; raise it (LimitMEMLOCK=, \
         ulimit -l) or grant CAP_IPC_LOCK"
    )]
    MemlockTooLow {
        /// What was to be mapped.
        length: u64,
        /// The limit that would have been enough, as far as can be seen.
        needed: u64,
        /// The limit that there is.
        limit: u64,
    },
    /// The container holds as many mappings as the kernel allows. Unmap some, map larger pieces, or raise the limit.
    #[error(
        "the container allows no more DMA mappings; unmap some, map larger pieces, or raise dma_entry_limit of vfio_iommu_type1 \
         (65535 unless changed)"
    )]
    MappingLimit,
    /// A peer behind a socket maps memory by its descriptor, and this memory has none.
    #[error(
        "a simulator maps memory by its descriptor, and this was registered by its address; register it by its descriptor \
         (DmaSpace::register_file), or copy it to a buffer"
    )]
    NoDescriptor,
    /// A hot reset would reset functions that are not ours too. Open them, or do without.
    #[error(
        "a hot reset would also reset {}; open them and name them, or reset this function alone",
        functions.join(", ")
    )]
    NotOwned {
        /// Address, driver and owner of each function that is in the way.
        functions: Vec<String>,
    },
    /// The kernel refused for a reason of its own.
    #[error("{what}: {source}: {advice}")]
    Kernel {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: io::Error,
        /// What that means here, and what to do.
        advice: &'static str,
    },
}

impl From<PciError> for BusError {
    fn from(error: PciError) -> Self {
        Self::Pci(Box::new(error))
    }
}

fn listed(members: &[GroupMember]) -> String {
    let each = members.iter().map(|member| {
        let driver = member.driver.as_deref().unwrap_or("no driver");
        format!("{} ({driver})", member.name)
    });
    each.collect::<Vec<_>>().join(", ")
}

fn because(reason: &str) -> String {
    if reason.is_empty() {
        String::new()
    } else {
        format!(" ({reason})")
    }
}

impl BusError {
    /// Whether the function is of no more use until it is opened again.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Disconnected { .. }
                | Self::TimedOut { .. }
                | Self::Protocol { .. }
                | Self::Removed { .. }
        )
    }
}
