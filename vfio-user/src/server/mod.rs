//! The server: a [`Device`] answers one client after the other.

mod device;

pub use device::Device;
