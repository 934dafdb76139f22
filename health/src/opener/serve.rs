//! The service: one thread, one request at a time, each bounded in time and size.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, listen, recv, sendmsg, socket_with,
};

use super::{KERNEL_LOG, OpenerError, REQUEST, VERSION, socket_path};
use crate::kernel_log::source;
use crate::probe::ProbeError;
use crate::probe::directory::Directory;
use crate::probe::discover::{is_bdf, is_watched};

/// A reader sends its request at once.
const PATIENCE: Duration = Duration::from_millis(100);
/// Readers that may wait; there are never more than a few dozen.
const BACKLOG: i32 = 64;

/// A service that opens config space for the readers of one user.
#[derive(Debug)]
pub struct Opener {
    root: PathBuf,
    user: u32,
    listener: OwnedFd,
}

impl Opener {
    /// Listens below `root` for processes of `user`, and of root.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(root: &Path, user: u32) -> Result<Self, OpenerError> {
        let path = socket_path(root);
        let failed = |doing| {
            let path = path.clone();
            move |source: io::Error| OpenerError::Socket {
                doing,
                path,
                source,
            }
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed("make the directory of"))?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace the stale socket")(error));
            }
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|errno| failed("make a socket for")(errno.into()))?;
        SocketAddrUnix::new(&path)
            .and_then(|address| bind(&listener, &address))
            .and_then(|()| listen(&listener, BACKLOG))
            .map_err(|errno| failed("listen on")(errno.into()))?;
        // Who connects is asked of the kernel.
        fs::set_permissions(&path, Permissions::from_mode(0o666))
            .map_err(failed("open to everybody"))?;
        Ok(Self {
            root: root.to_owned(),
            user,
            listener,
        })
    }

    /// Serves one reader after the other, for ever.
    ///
    /// # Errors
    /// When no more can be accepted.
    pub fn run(&self) -> Result<(), OpenerError> {
        loop {
            match accept_with(&self.listener, SocketFlags::CLOEXEC) {
                Ok(peer) => {
                    if let Err(error) = self.serve(&peer) {
                        tracing::debug!(%error, "a reader left without its descriptor");
                    }
                }
                // It left before it was served.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(errno) => {
                    return Err(OpenerError::Accept {
                        source: errno.into(),
                    });
                }
            }
        }
    }

    fn serve(&self, peer: &OwnedFd) -> io::Result<()> {
        set_socket_timeout(peer, Timeout::Recv, Some(PATIENCE))?;
        set_socket_timeout(peer, Timeout::Send, Some(PATIENCE))?;
        let mut request = [0; REQUEST];
        let (_, length) = recv(peer, &mut request, RecvFlags::TRUNC)?;
        let user = socket_peercred(peer)?.uid.as_raw();
        let opened = match request.get(..length) {
            _ if user != self.user && user != 0 => {
                tracing::warn!(user, "refused: only the agent's user is served");
                Err(Errno::EACCES)
            }
            Some([VERSION, asked @ ..]) if asked == KERNEL_LOG => self.kernel_log(),
            Some([VERSION, bdf @ ..]) => self.config(bdf),
            _ => Err(Errno::EPROTO),
        };
        answer(peer, opened)
    }

    /// Opens the config space of an accelerator or a NIC.
    fn config(&self, bdf: &[u8]) -> Result<File, Errno> {
        let bdf = std::str::from_utf8(bdf).map_err(|_| Errno::EINVAL)?;
        if !is_bdf(bdf) {
            return Err(Errno::EINVAL);
        }
        let path = self.root.join("sys/bus/pci/devices").join(bdf);
        let function = Directory::open(&path).map_err(|error| reason(&error))?;
        if !is_watched(&function).map_err(|error| reason(&error))? {
            return Err(Errno::EACCES);
        }
        function
            .regular_file("config")
            .map_err(|error| reason(&error))
    }

    /// Opens the kernel log.
    fn kernel_log(&self) -> Result<File, Errno> {
        let failed = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(0));
        let file = source::open(&source::path(&self.root)).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        match kind.is_char_device() || kind.is_file() {
            true => Ok(file),
            false => Err(Errno::EINVAL),
        }
    }
}

fn answer(peer: impl AsFd, opened: Result<File, Errno>) -> io::Result<()> {
    let errno = opened.as_ref().err().map_or(0, |errno| *errno as i32);
    let mut message = vec![VERSION];
    message.extend_from_slice(&errno.to_le_bytes());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut passed = SendAncillaryBuffer::new(&mut space);
    let descriptors = opened.as_ref().ok().map(AsFd::as_fd);
    if let Some(descriptor) = &descriptors {
        passed.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(
            descriptor,
        )));
    }
    let bytes = [IoSlice::new(&message)];
    sendmsg(peer, &bytes, &mut passed, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// What to tell the reader: it names the file itself.
fn reason(error: &ProbeError) -> Errno {
    match error {
        ProbeError::NotFound { .. } => Errno::ENOENT,
        ProbeError::Denied { .. } => Errno::EACCES,
        ProbeError::Io { errno, .. } => *errno,
        _ => Errno::EINVAL,
    }
}
