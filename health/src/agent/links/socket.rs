//! The socket on which the kernel says it.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg, socket,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::probe::rtnetlink::{self, LinkMessage};

/// The group of messages on interfaces, include/uapi/linux/rtnetlink.h.
const RTMGRP_LINK: u32 = 1;
/// Longest message. The kernel asks for as much as a link needs, a page or two; with many virtual functions more, which it
/// leaves out of these messages.
const LONGEST: usize = 32 << 10;
/// Messages that are taken in one go, so that a storm of them leaves time for others.
const MOST: usize = 64;

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::agent) enum Heard {
    /// Messages, in their order.
    Links(Vec<LinkMessage>),
    /// More was said than could be taken.
    Lost,
}

/// The messages of this machine's own network namespace: it is that of the process.
#[derive(Debug)]
pub(in crate::agent) struct Links {
    /// To tokio a socket is one of whatever family: nothing but its readiness is asked.
    socket: Option<UnixDatagram>,
    buffer: Vec<u8>,
}

impl Links {
    /// Those of the host below a root; none of another than this machine. To be called in a runtime.
    pub(in crate::agent) fn of(root: &Path) -> Option<Self> {
        let here = root.canonicalize().is_ok_and(|root| root == Path::new("/"));
        match here.then(open).transpose() {
            Ok(links) => links,
            Err(error) => {
                tracing::info!(%error, "the kernel's messages on interfaces are not heard; looks find what they would tell");
                None
            }
        }
    }

    /// Waits for some.
    pub(in crate::agent) async fn next(&mut self) -> Heard {
        if let Some(socket) = &self.socket {
            let buffer = &mut self.buffer;
            let received = socket.async_io(Interest::READABLE, || receive(socket, buffer));
            match received.await {
                Ok(heard) => return heard,
                Err(error) => {
                    tracing::warn!(%error, "the kernel's messages on interfaces are heard no more");
                    self.socket = None;
                }
            }
        }
        std::future::pending().await
    }
}

fn open() -> io::Result<Links> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkRoute,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, RTMGRP_LINK))?;
    Ok(Links {
        socket: Some(UnixDatagram::from_std(socket.into())?),
        buffer: vec![0; LONGEST],
    })
}

/// What waits, at most so much; EWOULDBLOCK when nothing does.
fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<Heard> {
    let mut links = Vec::new();
    for _ in 0..MOST {
        match datagram(socket, buffer) {
            Ok(Some(heard)) => links.extend(heard),
            Ok(None) | Err(Errno::ENOBUFS) => return Ok(Heard::Lost),
            Err(Errno::EWOULDBLOCK) if links.is_empty() => return Err(Errno::EWOULDBLOCK.into()),
            Err(Errno::EWOULDBLOCK) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Heard::Links(links))
}

/// The messages of one datagram; `None` when it was none that can be understood.
fn datagram(socket: &UnixDatagram, buffer: &mut [u8]) -> Result<Option<Vec<LinkMessage>>, Errno> {
    let mut parts = [io::IoSliceMut::new(buffer)];
    let (length, sender, truncated) = {
        let message =
            recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
        let truncated = message.flags.contains(MsgFlags::MSG_TRUNC);
        (message.bytes, message.address, truncated)
    };
    // Port 0 is the kernel; anything else is somebody who plays it.
    if sender.is_none_or(|sender| sender.pid() != 0) {
        return Ok(Some(Vec::new()));
    }
    if truncated {
        tracing::warn!(length, "a message on an interface was cut short");
        return Ok(None);
    }
    match rtnetlink::parse(buffer.get(..length).unwrap_or_default()) {
        Ok(links) => Ok(Some(links)),
        Err(error) => {
            tracing::warn!(%error, "a message on an interface makes no sense");
            Ok(None)
        }
    }
}
