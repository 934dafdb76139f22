//! A reader's side: one file is named, one descriptor comes.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, send, socket_with,
};

use super::{ANSWER, KERNEL_LOG, VERSION, socket_path};
use crate::kernel_log::source;
use crate::probe::ProbeError;

/// An opener that is there answers at once: it opens one file, which waits for no device.
const PATIENCE: Duration = Duration::from_millis(100);

/// Asks the opener of the host under `root` for the config space of a function, open for reading.
///
/// # Errors
/// When no opener answers, or it refuses.
pub fn ask(root: &Path, bdf: &str) -> Result<File, ProbeError> {
    let path = socket_path(root);
    let answer = exchange(&path, bdf.as_bytes()).flatten();
    answer.map_err(|error| ProbeError::io(&path, &error))
}

/// Asks the opener of the host under `root` for its kernel log, open for reading without waiting.
///
/// # Errors
/// As [`ask`].
pub fn ask_kernel_log(root: &Path) -> Result<File, ProbeError> {
    let path = socket_path(root);
    let answer = exchange(&path, KERNEL_LOG).map_err(|error| ProbeError::io(&path, &error))?;
    // What the opener says is of the log; that there is no opener is of its socket.
    answer.map_err(|error| ProbeError::io(&source::path(root), &error))
}

/// What the opener answers, if it can be asked.
fn exchange(path: &Path, asked: &[u8]) -> io::Result<io::Result<File>> {
    let flags = SocketFlags::CLOEXEC;
    let peer = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    set_socket_timeout(&peer, Timeout::Recv, Some(PATIENCE))?;
    set_socket_timeout(&peer, Timeout::Send, Some(PATIENCE))?;
    connect(&peer, &SocketAddrUnix::new(path)?)?;
    let mut request = vec![VERSION];
    request.extend_from_slice(asked);
    send(&peer, &request, SendFlags::NOSIGNAL)?;

    let mut answer = [0; ANSWER];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut passed = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut answer)];
    let received = recvmsg(&peer, &mut into, &mut passed, RecvFlags::CMSG_CLOEXEC)?;
    let file = passed.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next().map(File::from),
        _ => None,
    });
    let [version, errno @ ..] = answer;
    if received.bytes != ANSWER || version != VERSION {
        return Err(io::Error::from_raw_os_error(libc::EPROTO));
    }
    match (i32::from_le_bytes(errno), file) {
        (0, Some(file)) => Ok(Ok(file)),
        (0, None) => Err(io::Error::from_raw_os_error(libc::EPROTO)),
        (errno, _) => Ok(Err(io::Error::from_raw_os_error(errno))),
    }
}
