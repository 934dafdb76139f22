//! PCI functions as sysfs shows them: addresses, discovery, config space and what is in it.
//!
//! Everything takes a root directory, so that a simulated host is only another root. Nothing here
//! touches a BAR or needs a device to be open; it is what an agent may use beside a running job.
//!
//! ```no_run
//! use auk_driver::pci::Host;
//!
//! let host = Host::at("/");
//! for function in host.accelerators()? {
//!     println!("{} on NUMA node {:?}", function.bdf(), function.numa_node()?);
//!     println!("  state {}", function.config()?.vitals()?.state);
//! }
//! # Ok::<(), auk_driver::pci::PciError>(())
//! ```

mod address;
pub mod bind;
mod capability;
mod config;
mod error;
mod function;
mod group;
mod host;
mod reset;
#[cfg(test)]
mod tree;
mod usage;
mod vitals;

pub use address::{Bdf, BdfError};
pub use capability::{Capability, DvsecHeader, ExtendedCapability};
pub use config::{ConfigSpace, SysfsConfig};
pub use error::{ConfigError, PciError};
pub use function::{AerCounters, Link, PciFunction};
pub use group::{GroupMember, IommuGroup};
pub use host::Host;
pub use usage::{Use, VfioHolder, VfioHolders};
pub use vitals::read_vitals;
