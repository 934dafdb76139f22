//! One client, from its VERSION to its end.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::dispatch::{Answer, Dispatch};
use super::door::Door;
use super::link::{Link, Message};
use super::{ClientMemory, Device, Ended, Options, SessionError};
use crate::Errno;
use crate::socket::{MAX_FDS, Socket, TransportError};
use crate::wire::{Capabilities, Command, VERSION_MAJOR, VERSION_MINOR, Version, Violation};

/// Serves a client until it goes, breaks the protocol, or the server is to end.
pub(super) fn serve(
    socket: Socket,
    device: &mut dyn Device,
    options: &Options,
    door: &mut Door<'_>,
) -> Result<Ended, SessionError> {
    let link = Arc::new(Link::new(socket, options));
    let _closing = Closing(&link);
    agree(&link, options, door).and_then(|agreed| match agreed {
        Agreed::Ended(ended) => Ok(ended),
        Agreed::With(client) => {
            let most = client
                .max_data_xfer_size
                .min(options.max_data_xfer_size.into()) as usize;
            device.connected(ClientMemory::new(Arc::clone(&link), most));
            let served = answer_requests(&link, device, options, &client, door);
            // Before the device is told: nobody may wait for a client that is gone.
            link.close();
            device.disconnected();
            served
        }
    })
}

/// Closes the connection however the session ends, a panic of the device included: the device may hold on to the
/// socket through its [`ClientMemory`].
struct Closing<'a>(&'a Link);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

enum Agreed {
    With(Capabilities),
    Ended(Ended),
}

/// Agrees on a version; the client's capabilities.
fn agree(link: &Link, options: &Options, door: &mut Door<'_>) -> Result<Agreed, SessionError> {
    let mut message = Message::empty();
    let deadline = Instant::now() + options.message_timeout;
    match link.next_request(door, Some(deadline), &mut message) {
        Ok(None) => {}
        Ok(Some(ended)) => return Ok(Agreed::Ended(ended)),
        Err(TransportError::Closed) => return Ok(Agreed::Ended(Ended::Disconnected)),
        Err(error) => return Err(SessionError::new("VERSION", error)),
    }
    let header = message.header;
    let refuse = |errno: Errno, violation: Violation| {
        // It is disconnected in any case; if it cannot even be told why, nothing is lost.
        let _ = link.reply(&header.error_reply(errno as u32), [&[], &[]], &[]);
        Err(SessionError::new("VERSION", violation.into()))
    };
    if header.command != Command::Version.number() {
        let (found, expected) = (header.command, Command::Version.number());
        return refuse(Errno::EINVAL, Violation::WrongCommand { found, expected });
    }
    if !message.fds.is_empty() {
        let found = message.fds.len();
        return refuse(
            Errno::EINVAL,
            Violation::Descriptors {
                found,
                expected: "none",
            },
        );
    }
    let client = match Version::parse(&message.payload) {
        Ok(client) => client,
        Err(violation) => return refuse(Errno::EINVAL, violation),
    };
    if client.major != VERSION_MAJOR {
        let Version { major, minor, .. } = client;
        let violation = Violation::VersionMismatch {
            major,
            minor,
            newest: VERSION_MINOR,
        };
        return refuse(Errno::EPROTONOSUPPORT, violation);
    }
    let ours = Capabilities {
        max_msg_fds: MAX_FDS as u64,
        max_data_xfer_size: options.max_data_xfer_size.into(),
        max_dma_maps: options.max_dma_maps.into(),
        ..Capabilities::default()
    };
    let reply = Version {
        minor: client.minor.min(VERSION_MINOR),
        ..Version::new(ours)
    }
    .to_bytes();
    link.reply(&header.reply(reply.len()), [&reply, &[]], &[])
        .map_err(|error| SessionError::new("VERSION", error))?;
    Ok(Agreed::With(client.capabilities))
}

fn answer_requests(
    link: &Link,
    device: &mut dyn Device,
    options: &Options,
    client: &Capabilities,
    door: &mut Door<'_>,
) -> Result<Ended, SessionError> {
    let mut dispatch = Dispatch::new(device, options);
    let mut message = Message::empty();
    let mut out = Vec::new();
    loop {
        match link.next_request(door, None, &mut message) {
            Ok(None) => {}
            Ok(Some(ended)) => return Ok(ended),
            Err(TransportError::Closed) => return Ok(Ended::Disconnected),
            Err(error) => return Err(SessionError::new("a request", error)),
        }
        let header = message.header;
        let fds = std::mem::take(&mut message.fds);
        out.clear();
        let answer = dispatch.handle(header.command, &message.payload, fds, &mut out);
        if header.no_reply() {
            if let Err(errno) = answer {
                tracing::debug!(command = header.command, %errno, "a request without reply failed");
            }
            continue;
        }
        let sent = match answer {
            Ok(Answer::Plain) => link.reply(&header.reply(out.len()), [&out, &[]], &[]),
            Ok(Answer::WithFd(fd)) => {
                let fds = [fd.as_fd()];
                let fds = if client.max_msg_fds == 0 {
                    &[][..]
                } else {
                    &fds
                };
                link.reply(&header.reply(out.len()), [&out, &[]], fds)
            }
            Err(errno) => {
                tracing::debug!(command = header.command, %errno, "a request was refused");
                link.reply(&header.error_reply(errno as u32), [&[], &[]], &[])
            }
        };
        match sent {
            Ok(()) => {}
            Err(TransportError::Closed) => return Ok(Ended::Disconnected),
            Err(error) => return Err(SessionError::new("a reply", error)),
        }
    }
}
