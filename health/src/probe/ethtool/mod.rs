//! What the driver of an interface says when asked: over ethtool netlink, and by ioctl what that has no answer to. It asks in the
//! network namespace of this process, and of this machine only.
//!
//! The driver may ask the card's firmware, which may hang, with a lock held that all changes of the network need. So only readers
//! ask, and seldom.

mod ioctl;
mod message;
pub mod names;
mod statistics;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::ProbeError;
use super::netlink::NetlinkError;
use crate::facts::Ethtool;
use message::Ask;
use statistics::Statistics;

#[cfg(fuzzing)]
pub use message::fuzz_ethtool_answer;
#[cfg(fuzzing)]
pub use statistics::fuzz_ethtool_statistics;

/// Longest answer: what is asked for has a dozen attributes.
const LONGEST: usize = 16 << 10;

/// Asks the drivers of interfaces. It keeps its socket, and where in a driver's statistics what it wants is.
#[derive(Debug, Default)]
pub struct Asker {
    socket: Option<(OwnedFd, u16)>,
    statistics: Statistics,
}

impl Asker {
    /// What the driver of an interface says; `None` when there is no such interface.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or what it says makes no sense. What a driver does not answer is left out.
    pub fn ask(&mut self, interface: &str) -> Result<Option<Ethtool>, ProbeError> {
        let path = format!("ethtool {interface}");
        let failed = |errno| ProbeError::from_errno(path.as_ref(), errno);
        match self.read(interface) {
            Ok(read) => Ok(Some(read)),
            Err(Failure::Errno(Errno::ENODEV)) => Ok(None),
            Err(Failure::Errno(errno)) => {
                // Another socket may do.
                self.socket = None;
                Err(failed(errno))
            }
            Err(Failure::Nonsense(found)) => Err(ProbeError::malformed(
                path.as_ref(),
                &found,
                "an answer of ethtool netlink or SIOCETHTOOL",
            )),
        }
    }

    fn read(&mut self, interface: &str) -> Result<Ethtool, Failure> {
        let (socket, family) = match self.socket.take() {
            Some(kept) => kept,
            None => open()?,
        };
        let (socket, family) = self.socket.insert((socket, family));
        let mut read = statistics::driver(socket.as_fd(), interface)?;
        let ask = |what| answered(socket, &message::request(*family, what, interface));
        if let Some(answer) = ask(Ask::LinkModes)? {
            read.lanes = message::lanes(&answer)?;
        }
        if let Some(answer) = ask(Ask::Fec)? {
            read.fec = Some(message::fec(&answer)?);
        }
        if let Some(answer) = ask(Ask::Pause)? {
            read.pause = message::pause(&answer)?;
        }
        read.counters = self
            .statistics
            .read(socket.as_fd(), interface, &read.driver)?;
        Ok(read)
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    Errno(Errno),
    Nonsense(String),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<NetlinkError> for Failure {
    fn from(error: NetlinkError) -> Self {
        Self::Nonsense(error.to_string())
    }
}

/// A socket, and the number that the family has on this machine.
fn open() -> Result<(OwnedFd, u16), Failure> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkGeneric,
    )?;
    let answer = answered(&socket, &message::family_request())?;
    let family = answer.ok_or(Errno::EOPNOTSUPP)?;
    let family = message::family(&family)?.ok_or(Errno::EOPNOTSUPP)?;
    Ok((socket, family))
}

/// The attributes of the answer to a request; `None` when the driver, or this kernel, has none.
fn answered(socket: &OwnedFd, request: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), request, &kernel, MsgFlags::empty())?;
    let mut buffer = vec![0; LONGEST];
    // The kernel answers before it returns from the request, so that there is nothing to wait for.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    let length = recv(socket.as_raw_fd(), &mut buffer, flags)?;
    let Some(datagram) = buffer.get(..length) else {
        return Err(Failure::Nonsense(format!("an answer of {length} bytes")));
    };
    match message::answer(datagram)? {
        Ok(attributes) => Ok(Some(attributes.to_vec())),
        Err(errno) => match Errno::from_raw(errno) {
            Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOENT => Ok(None),
            errno => Err(errno.into()),
        },
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Errno(Errno::from_raw(error.raw_os_error().unwrap_or_default()))
    }
}
