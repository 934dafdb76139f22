//! Readers: they turn files into facts and judge nothing. Whatever a file holds, the answer is a
//! value or a [`ProbeError`].

pub mod aer;
pub mod attributes;
pub mod config;
pub mod directory;
pub mod discover;
mod error;
pub mod ethtool;
mod kept;
pub(crate) mod lease;
pub mod link;
mod link_status;
pub mod netlink;
pub mod port;
mod ports;
pub mod rdma;
pub mod rtnetlink;
pub mod target;
pub(crate) mod text;
pub mod vitals;

pub use error::ProbeError;
