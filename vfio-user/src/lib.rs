//! The vfio-user protocol, client and server.
//!
//! vfio-user is the kernel's VFIO interface spoken over a Unix socket: a *server* is a PCI device in a process of its
//! own, a *client* is a driver or a virtual machine monitor. This crate knows the protocol and nothing of any device.
//! It follows the "vfio-user Protocol Specification", version 0.1 on the wire, as QEMU and libvfio-user speak it.
//!
//! - [`server`]: implement [`server::Device`], and a [`server::Server`] serves it to one client after the other, at a
//!   path or over a connected socket.
//! - [`client`]: a [`client::Client`] has a typed call for every command.
//! - [`dma`], [`irq`], [`memory`]: what every served device needs: client memory behind its IOVAs, eventfds behind
//!   its vectors, memory shared with the client.
//! - [`model`], [`pci`]: what a device consists of, in the terms of VFIO.
//! - [`wire`]: the messages as bytes.
//!
//! Neither end trusts the other. Every length, count, offset and number of descriptors is checked before it is used,
//! memory is bounded by the limits agreed upon, and whatever waits for the peer has a deadline.
//!
//! Not spoken: live migration (DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE, DIRTY_PAGES), DEVICE_GET_REGION_IO_FDS,
//! REGION_WRITE_MULTI and a second socket for the server's own requests. The server refuses them with `EOPNOTSUPP`,
//! or does not offer them.
//!
//! # Example
//!
//! A device with one register, and a client that writes and reads it, over a socket pair:
//!
//! ```
//! use std::os::unix::net::UnixStream;
//! use std::time::{Duration, Instant};
//!
//! use auk_vfio_user::Errno;
//! use auk_vfio_user::client::{self, Client};
//! use auk_vfio_user::model::{DeviceInfo, DmaMap, IrqInfo, IrqSet, RegionInfo};
//! use auk_vfio_user::server::{self, Device, Server};
//!
//! struct OneRegister([u8; 4]);
//!
//! impl Device for OneRegister {
//!     fn info(&self) -> DeviceInfo {
//!         DeviceInfo { resettable: true, pci: false, regions: 1, irqs: 0 }
//!     }
//!     fn region(&self, _: u32) -> Option<RegionInfo> {
//!         Some(RegionInfo { size: 4, readable: true, writable: true, mmap: None })
//!     }
//!     fn irq(&self, _: u32) -> Option<IrqInfo> {
//!         None
//!     }
//!     fn region_read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
//!         // The server has checked that the access lies in the region.
//!         data.copy_from_slice(&self.0[offset as usize..][..data.len()]);
//!         Ok(())
//!     }
//!     fn region_write(&mut self, _: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
//!         self.0[offset as usize..][..data.len()].copy_from_slice(data);
//!         Ok(())
//!     }
//!     fn dma_map(&mut self, _: DmaMap) -> Result<(), Errno> {
//!         Err(Errno::EOPNOTSUPP)
//!     }
//!     fn dma_unmap(&mut self, _: u64, _: u64) -> Result<(), Errno> {
//!         Err(Errno::EOPNOTSUPP)
//!     }
//!     fn set_irqs(&mut self, _: IrqSet) -> Result<(), Errno> {
//!         Err(Errno::EOPNOTSUPP)
//!     }
//!     fn reset(&mut self) -> Result<(), Errno> {
//!         self.0 = [0; 4];
//!         Ok(())
//!     }
//!     fn disconnected(&mut self) {}
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (ours, theirs) = UnixStream::pair()?;
//! let server = Server::new(server::Options::default())?;
//! let serving = std::thread::spawn(move || server.serve_fd(theirs.into(), &mut OneRegister([0; 4]), None));
//!
//! let soon = Instant::now() + Duration::from_secs(10);
//! let client = Client::from_fd(ours.into(), client::Options::default(), soon)?;
//! client.region_write(0, 0, &7_u32.to_le_bytes(), soon)?;
//! let mut register = [0; 4];
//! client.region_read(0, 0, &mut register, soon)?;
//! assert_eq!(u32::from_le_bytes(register), 7);
//!
//! drop(client);
//! assert_eq!(serving.join().expect("no panic")?, server::Ended::Disconnected);
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod dma;
mod inbox;
pub mod irq;
pub mod memory;
pub mod model;
mod path;
pub mod pci;
pub mod server;
mod socket;
mod stream;
pub mod wire;

pub use nix::errno::Errno;
