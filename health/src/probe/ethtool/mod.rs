//! What the driver of an interface says when asked: over ethtool netlink, and by ioctl what that has no answer to. It asks in the
//! network namespace of this process, and of this machine only.
//!
//! The driver may ask the card's firmware, which may hang, with a lock held that all changes of the network need. So only readers
//! ask, and seldom.

mod ioctl;
mod message;
pub mod names;
mod statistics;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::ProbeError;
use super::netlink::NetlinkError;
use crate::facts::{Ethtool, Query};
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
    /// When nothing can be asked, or no query was answered. One that failed beside others is among
    /// [`unanswered`](Ethtool::unanswered); what a driver does not have is left out.
    pub fn ask(&mut self, interface: &str) -> Result<Option<Ethtool>, ProbeError> {
        if interface.is_empty() || interface.len() >= libc::IFNAMSIZ {
            let expected = "the name of an interface, of 1 to 15 bytes";
            return Err(ProbeError::malformed(
                "ethtool".as_ref(),
                interface,
                expected,
            ));
        }
        ask_each(interface, |query, said| self.query(query, interface, said))
    }

    fn query(&mut self, query: Query, interface: &str, said: &mut Ethtool) -> Result<(), Failure> {
        match query {
            Query::Driver => {
                let (socket, _) = opened(&mut self.socket)?;
                let driver = statistics::driver(socket.as_fd(), interface)?;
                said.driver = driver.driver;
                said.driver_version = driver.driver_version;
                said.firmware = driver.firmware;
            }
            Query::Lanes => {
                if let Some(answer) = self.answered(Ask::LinkModes, interface)? {
                    said.lanes = message::lanes(&answer)?;
                }
            }
            Query::Fec => {
                let answer = self.answered(Ask::Fec, interface)?;
                said.fec = answer.map(|answer| message::fec(&answer)).transpose()?;
            }
            Query::Pause => {
                if let Some(answer) = self.answered(Ask::Pause, interface)? {
                    said.pause = message::pause(&answer)?;
                }
            }
            Query::Counters => {
                let (socket, _) = opened(&mut self.socket)?;
                said.counters = self
                    .statistics
                    .read(socket.as_fd(), interface, &said.driver)?;
            }
        }
        Ok(())
    }

    /// The attributes of the answer to a query over netlink; `None` when the driver has none.
    fn answered(&mut self, ask: Ask, interface: &str) -> Result<Option<Vec<u8>>, Failure> {
        let (socket, family) = opened(&mut self.socket)?;
        let answer = answered(socket, &message::request(family, ask, interface));
        if matches!(answer, Err(Failure::Unheard(_) | Failure::Nonsense(_))) {
            // What comes late must not be taken for the answer to the next query.
            self.socket = None;
        }
        answer
    }
}

/// The socket that is kept, or a new one.
fn opened(socket: &mut Option<(OwnedFd, u16)>) -> Result<(&OwnedFd, u16), Failure> {
    let kept = match socket.take() {
        Some(kept) => kept,
        None => open()?,
    };
    let (socket, family) = socket.insert(kept);
    Ok((socket, *family))
}

/// Asks one thing after the other: that one fails says nothing of the others.
fn ask_each(
    interface: &str,
    mut ask: impl FnMut(Query, &mut Ethtool) -> Result<(), Failure>,
) -> Result<Option<Ethtool>, ProbeError> {
    let mut said = Ethtool::default();
    for query in Query::ALL {
        // Whose counters they are is the driver's name.
        let nameless = said.unanswered.get(&Query::Driver);
        if let (Query::Counters, Some(error)) = (query, nameless) {
            let error = error.clone();
            said.unanswered.insert(query, error);
            continue;
        }
        match ask(query, &mut said) {
            Ok(()) => {}
            Err(Failure::Refused(Errno::ENODEV)) => return Ok(None),
            Err(failure) => {
                said.unanswered.insert(query, failure.of(interface, query));
            }
        }
    }
    match said.unanswered.first_key_value() {
        Some((_, error)) if said.unanswered.len() == Query::ALL.len() => Err(error.clone()),
        _ => Ok(Some(said)),
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// The kernel or the driver says so.
    Refused(Errno),
    /// It could not be asked, or not be heard.
    Unheard(Errno),
    Nonsense(String),
}

impl Failure {
    fn of(self, interface: &str, query: Query) -> ProbeError {
        let path = format!("ethtool {interface} ({query:?})").to_lowercase();
        match self {
            Self::Refused(errno) | Self::Unheard(errno) => {
                ProbeError::from_errno(path.as_ref(), errno)
            }
            Self::Nonsense(found) => ProbeError::malformed(
                path.as_ref(),
                &found,
                "an answer of ethtool netlink or SIOCETHTOOL",
            ),
        }
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
    )
    .map_err(Failure::Unheard)?;
    let none = || Failure::Unheard(Errno::EOPNOTSUPP);
    let answer = answered(&socket, &message::family_request())?;
    let family = message::family(&answer.ok_or_else(none)?)?.ok_or_else(none)?;
    Ok((socket, family))
}

/// The attributes of the answer to a request; `None` when the driver, or this kernel, has none.
fn answered(socket: &OwnedFd, request: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), request, &kernel, MsgFlags::empty()).map_err(Failure::Unheard)?;
    let mut buffer = vec![0; LONGEST];
    // The kernel answers before it returns from the request, so that there is nothing to wait for.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    let length = recv(socket.as_raw_fd(), &mut buffer, flags).map_err(Failure::Unheard)?;
    let Some(datagram) = buffer.get(..length) else {
        return Err(Failure::Nonsense(format!("an answer of {length} bytes")));
    };
    match message::answer(datagram)? {
        Ok(attributes) => Ok(Some(attributes.to_vec())),
        Err(errno) => match Errno::from_raw(errno) {
            Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOENT => Ok(None),
            errno => Err(Failure::Refused(errno)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver that has an answer to everything but this.
    fn said_without(fails: &[Query], failure: impl Fn() -> Failure) -> Option<Ethtool> {
        let said = ask_each("eth0", |query, said| {
            if fails.contains(&query) {
                return Err(failure());
            }
            match query {
                Query::Driver => "mlx5_core".clone_into(&mut said.driver),
                Query::Lanes => said.lanes = Some(4),
                Query::Fec => said.fec = Some(Default::default()),
                Query::Pause => said.pause = Some(Default::default()),
                Query::Counters => drop(said.counters.insert("rx".to_owned(), 1)),
            }
            Ok(())
        });
        said.unwrap()
    }

    #[test]
    fn a_query_that_fails_is_told_and_hides_no_other() {
        for query in Query::ALL {
            let said = said_without(&[query], || Failure::Refused(Errno::ETIMEDOUT)).unwrap();
            let answered = [
                (Query::Driver, !said.driver.is_empty()),
                (Query::Lanes, said.lanes.is_some()),
                (Query::Fec, said.fec.is_some()),
                (Query::Pause, said.pause.is_some()),
                (Query::Counters, !said.counters.is_empty()),
            ];
            for (other, answered) in answered {
                // Without the driver's name there is no telling its counters apart.
                let hidden = other == query || (query, other) == (Query::Driver, Query::Counters);
                assert_eq!(answered, !hidden, "{other:?} without {query:?}");
                assert_eq!(said.unanswered.contains_key(&other), hidden);
            }
            let error = said.unanswered[&query].to_string();
            assert!(error.contains("ethtool eth0"), "{error}");
        }
    }

    #[test]
    fn an_interface_that_goes_while_it_is_asked_is_not_here() {
        let said = said_without(&[Query::Pause], || Failure::Refused(Errno::ENODEV));
        assert_eq!(said, None);
    }

    #[test]
    fn a_driver_that_answers_nothing_is_not_seen() {
        let said = ask_each("eth0", |_, _| Err(Failure::Unheard(Errno::ENOBUFS)));
        assert!(said.is_err(), "{said:?}");
    }
}
