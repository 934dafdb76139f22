//! Functions through the VFIO of this machine's kernel: by group and container, or by device node and iommufd.
//!
//! What vfio-pci does by itself, and this module relies on: it resets a function when it is opened and, where there is a
//! reset that affects no other function, when it is closed; it parks functions that nobody has open in D3hot; it clears
//! Bus Master at open and at close. A function that is being unplugged or unbound stays until its last descriptor is closed, and
//! asks for that by [`Interrupt::Request`](super::Interrupt::Request).
//!
//! Descriptors are closed in the order function, group, container. A BAR that is still mapped keeps all three open in the kernel.

mod access;
mod blocking;
mod cdev;
mod container;
mod device;
mod errno;
mod feature;
mod group;
mod hot_reset;
mod info;
mod ioas;
mod ioctl;
mod irq;
mod memlock;
mod node;
mod open;
mod region;
mod reset;
mod users;

use std::any::Any;
use std::sync::Arc;

use crate::dma::DmaSpace;

pub use access::Access;
pub use device::Vfio;
pub use hot_reset::{AffectedFunction, Owner};
pub use region::SpecialRegion;

/// What is attached to a space and is a `T`.
fn targets_of<T: Any + Send + Sync>(space: &DmaSpace) -> Vec<Arc<T>> {
    let all = space.targets().into_iter();
    all.filter_map(|target| {
        let target: Arc<dyn Any + Send + Sync> = target;
        target.downcast().ok()
    })
    .collect()
}
