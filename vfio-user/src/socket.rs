//! A connected Unix stream socket: bytes and descriptors, with deadlines.
#![allow(
    unsafe_code,
    reason = "descriptors travel in control messages, which only raw system calls reach"
)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockType, SockaddrLike, UnixAddr, sockopt};
use nix::sys::time::TimeVal;
use thiserror::Error;

use crate::wire::Violation;

/// Most descriptors taken in one message. QEMU refuses a peer that offers more than 16.
pub(crate) const MAX_FDS: usize = 16;

/// How long a hopeful receive blocks before it falls back on waiting with an exact deadline. One system call
/// less per message while messages come quickly; the bound on how late a stop is noticed.
const SLICE: Duration = Duration::from_millis(20);

/// A message without descriptors and of up to this many bytes is put together first: the kernel takes one piece of memory in
/// less time than it needs to look at a list of pieces.
const SMALL: usize = 128;

/// A peer that is gone is an error and no signal; nothing waits but with a deadline.
const SEND_FLAGS: MsgFlags = MsgFlags::MSG_NOSIGNAL.union(MsgFlags::MSG_DONTWAIT);

/// Room for the control message that carries [`MAX_FDS`] descriptors.
/// SAFETY: plain arithmetic on a constant.
const CONTROL_SIZE: usize =
    unsafe { libc::CMSG_SPACE((MAX_FDS * size_of::<RawFd>()) as u32) } as usize;

/// Control messages begin with a `cmsghdr` and must be aligned like one.
#[repr(C, align(8))]
struct Control([u8; CONTROL_SIZE]);

/// Why nothing could be sent or received.
#[derive(Debug, Error)]
pub(crate) enum TransportError {
    /// The peer has closed the connection, or died.
    #[error("the peer has closed the connection")]
    Closed,
    /// The deadline passed first.
    #[error("the deadline passed")]
    TimedOut,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The kernel refused.
    #[error("the socket failed: {0}")]
    Io(#[source] io::Error),
}

impl From<Errno> for TransportError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

/// A connected Unix stream socket.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// Takes over a connected descriptor.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let address: UnixAddr = socket::getsockname(fd.as_raw_fd())?;
        let stream = socket::getsockopt(&fd, sockopt::SockType)? == SockType::Stream;
        if address.family() != Some(AddressFamily::Unix) || !stream {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a Unix stream socket",
            ));
        }
        let slice = TimeVal::new(0, SLICE.as_micros() as libc::suseconds_t);
        socket::setsockopt(&fd, sockopt::ReceiveTimeout, &slice)?;
        Ok(Self(fd))
    }

    /// Sends `parts` as one message, with `fds` attached to its first byte.
    ///
    /// After an error the peer may have got a part of it: nothing more can be sent then.
    pub(crate) fn send(
        &self,
        parts: &[&[u8]],
        fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), TransportError> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut small = [0; SMALL];
        let whole = fds.is_empty().then(|| gather(parts, &mut small)).flatten();
        let mut sent = 0;
        while sent < total {
            let now = match whole.and_then(|whole| whole.get(sent..)) {
                Some(rest) => socket::send(self.as_raw_fd(), rest, SEND_FLAGS),
                None => sendmsg(
                    self.as_fd(),
                    &rest(parts, sent),
                    if sent == 0 { fds } else { &[] },
                ),
            };
            match now {
                Ok(count) => sent += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => wait(self.as_fd(), PollFlags::POLLOUT, deadline)?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Receives some bytes into `buffer`, which is not empty, and descriptors into `fds`, waiting for them
    /// until the deadline.
    pub(crate) fn receive(
        &self,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        deadline: Instant,
    ) -> Result<usize, TransportError> {
        let far = deadline.saturating_duration_since(Instant::now()) > 2 * SLICE;
        if far && let Some(count) = self.receive_hopefully(buffer, fds)? {
            return Ok(count);
        }
        self.receive_quietly(buffer, fds, deadline)
    }

    /// The same for a peer that takes its time: costs a system call more, and nothing wakes the thread before there is something to
    /// receive. Who blocks in receiving is also woken when the peer takes what was sent, since there is room to send then.
    /// Before a quick answer that is welcome, as the processor is awake when it comes; before a slow one it keeps the peer from
    /// working, where both share a processor.
    pub(crate) fn receive_quietly(
        &self,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        deadline: Instant,
    ) -> Result<usize, TransportError> {
        loop {
            wait(self.as_fd(), PollFlags::POLLIN, deadline)?;
            if let Some(count) = recvmsg(self.as_fd(), buffer, fds, libc::MSG_DONTWAIT)? {
                return Ok(count);
            }
        }
    }

    /// Receives what comes within a short while; `None` when nothing came.
    pub(crate) fn receive_hopefully(
        &self,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
    ) -> Result<Option<usize>, TransportError> {
        recvmsg(self.as_fd(), buffer, fds, 0)
    }

    /// Receives what is there; `None` when nothing is.
    pub(crate) fn receive_now(
        &self,
        buffer: &mut [u8],
        fds: &mut Vec<OwnedFd>,
    ) -> Result<Option<usize>, TransportError> {
        recvmsg(self.as_fd(), buffer, fds, libc::MSG_DONTWAIT)
    }

    /// Whether the peer has closed its end, even if bytes of it are still to be received.
    pub(crate) fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0]
                .revents()
                .is_some_and(|events| events.intersects(gone))
    }

    /// Ends the connection for both ends; whoever waits on it, here or there, wakes up.
    pub(crate) fn shut_down(&self) {
        // Fails only if the peer was faster.
        let _ = socket::shutdown(self.as_raw_fd(), socket::Shutdown::Both);
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits for `events` on `fd`, or for the peer to go.
pub(crate) fn wait(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Instant,
) -> Result<(), TransportError> {
    loop {
        let timeout = poll_timeout(Some(deadline)).ok_or(TransportError::TimedOut)?;
        match poll(&mut [PollFd::new(fd, events)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The time until `deadline` for `poll`, rounded up so that it never spins; `None` once it has passed.
pub(crate) fn poll_timeout(deadline: Option<Instant>) -> Option<PollTimeout> {
    let Some(deadline) = deadline else {
        return Some(PollTimeout::NONE);
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    Some(PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX))
}

/// The parts in one piece, if there is room for them.
fn gather<'a>(parts: &[&[u8]], into: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut end = 0;
    for part in parts {
        into.get_mut(end..end + part.len())?.copy_from_slice(part);
        end += part.len();
    }
    into.get(..end)
}

/// What is left of the parts after so many bytes.
fn rest<'a>(parts: &[&'a [u8]], sent: usize) -> [IoSlice<'a>; 3] {
    let mut rest = [IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
    let mut skip = sent;
    for (slot, part) in rest.iter_mut().zip(parts) {
        *slot = IoSlice::new(part.get(skip..).unwrap_or_default());
        skip = skip.saturating_sub(part.len());
    }
    rest
}

fn sendmsg(
    fd: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    if fds.len() > MAX_FDS {
        return Err(Errno::EINVAL);
    }
    let mut control = Control([0; CONTROL_SIZE]);
    // SAFETY: a `msghdr` of zeros is a valid, empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is guaranteed to have the layout of `iovec`; the kernel only reads through it.
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len();
    if !fds.is_empty() {
        let bytes = size_of_val(fds) as u32;
        message.msg_control = (&raw mut control).cast();
        // SAFETY: plain arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(bytes) } as usize;
        // SAFETY: `message` is valid, with the control buffer set just above.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: null, or in the control buffer, which is aligned, zeroed and has room for the header.
        let header = unsafe { first.as_mut() }.ok_or(Errno::EINVAL)?;
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: plain arithmetic.
        header.cmsg_len = unsafe { libc::CMSG_LEN(bytes) } as usize;
        // SAFETY: the data of the header, which lies inside the control buffer.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: a `BorrowedFd` is a `RawFd` in memory, and MAX_FDS of them fit the buffer.
        unsafe { std::ptr::copy_nonoverlapping(fds.as_ptr().cast(), data, bytes as usize) };
    }
    // SAFETY: all pointers in `message` refer to live memory of the lengths given.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, SEND_FLAGS.bits()) };
    Errno::result(sent).map(|count| count as usize)
}

/// Receives; `None` when nothing is there. The end of the stream is [`TransportError::Closed`].
fn recvmsg(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    flags: libc::c_int,
) -> Result<Option<usize>, TransportError> {
    let mut control = Control([0; CONTROL_SIZE]);
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a `msghdr` of zeros is a valid, empty one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_SIZE;
    // SAFETY: all pointers in `message` refer to live, writable memory of the lengths given.
    let received = unsafe {
        libc::recvmsg(
            fd.as_raw_fd(),
            &raw mut message,
            flags | libc::MSG_CMSG_CLOEXEC,
        )
    };
    let count = match Errno::result(received) {
        Ok(count) => count as usize,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if message.msg_controllen > 0 {
        take_descriptors(&message, fds);
    }
    if message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(Violation::ControlTruncated { most: MAX_FDS }.into());
    }
    if count == 0 {
        return Err(TransportError::Closed);
    }
    Ok(Some(count))
}

/// Takes ownership of every descriptor the kernel has just installed, so that none is lost whatever happens next.
fn take_descriptors(message: &libc::msghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: the kernel has filled the control buffer that `message` refers to.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: a header inside the control buffer, or null.
    while let Some(header) = unsafe { next.as_ref() } {
        if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: plain arithmetic.
            let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
            // SAFETY: the data of the header, which lies inside the control buffer.
            let data: *const RawFd = unsafe { libc::CMSG_DATA(header) }.cast();
            for index in 0..header.cmsg_len.saturating_sub(overhead) / size_of::<RawFd>() {
                // SAFETY: within the length the kernel has put into the header.
                let place = unsafe { data.add(index) };
                // SAFETY: the kernel has written a descriptor there; the data may be unaligned.
                let fd = unsafe { place.read_unaligned() };
                // SAFETY: the kernel has installed this descriptor for us, and nobody else knows it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: `header` lies in the control buffer that `message` refers to.
        next = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
}
