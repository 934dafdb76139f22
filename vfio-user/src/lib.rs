//! The vfio-user protocol, client and server.

pub mod client;
mod inbox;
pub mod model;
mod path;
pub mod pci;
pub mod server;
mod socket;
pub mod wire;

pub use nix::errno::Errno;
