//! The vfio-user protocol, client and server.

pub mod model;
pub mod pci;
pub mod server;

pub use nix::errno::Errno;
