//! Who may come in: waits for the client's next message, and meanwhile turns other clients away.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use zerocopy::IntoBytes;

use super::{Ended, Listener, StopHandle};
use crate::inbox::Inbox;
use crate::socket::{Socket, TransportError, poll_timeout};

/// How long a client that is turned away may take to ask.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Clients being turned away at a time; more are disconnected without a word.
const MAX_REFUSALS: usize = 8;
/// Room for the VERSION of a client that is turned away.
const REFUSAL_LIMIT: usize = 64 << 10;

/// How long nobody is let in after the system could not.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client that came while another was being served.
struct Refusal {
    socket: Socket,
    inbox: Inbox,
    until: Instant,
}

/// What a server waits for, besides its client.
pub(super) struct Door<'a> {
    stop: &'a StopHandle,
    listener: Option<&'a Listener>,
    until: Option<Instant>,
    refusals: Vec<Refusal>,
    /// Nobody is let in until then: the system had no descriptor to spare.
    closed_until: Option<Instant>,
}

impl<'a> Door<'a> {
    pub(super) fn new(
        stop: &'a StopHandle,
        listener: Option<&'a Listener>,
        until: Option<Instant>,
    ) -> Self {
        Self {
            stop,
            listener,
            until,
            refusals: Vec::new(),
            closed_until: None,
        }
    }

    /// Whether the server is to end, and why.
    pub(super) fn ended(&self) -> Option<Ended> {
        if self.stop.is_stopped() {
            return Some(Ended::Stopped);
        }
        self.until
            .is_some_and(|until| Instant::now() >= until)
            .then_some(Ended::Deadline)
    }

    /// Waits for a client to connect.
    pub(super) fn next_client(&mut self) -> io::Result<Result<OwnedFd, Ended>> {
        loop {
            if let Some(ended) = self.ended() {
                return Ok(Err(ended));
            }
            if let Some(client) = self.accept() {
                return Ok(Ok(client));
            }
            self.wait(None)?;
            self.serve_refusals();
        }
    }

    /// Waits until there is something to receive from the client, or `deadline`, if there is one, passes;
    /// `Some` when the server is to end. Others who connect meanwhile are turned away.
    pub(super) fn wait_for(
        &mut self,
        client: &Socket,
        deadline: Option<Instant>,
    ) -> Result<Option<Ended>, TransportError> {
        loop {
            if let Some(ended) = self.ended() {
                return Ok(Some(ended));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(TransportError::TimedOut);
            }
            if self
                .wait(Some((client, deadline)))
                .map_err(TransportError::Io)?
            {
                return Ok(None);
            }
            self.turn_away(client);
        }
    }

    /// Turns away who has connected, without waiting.
    pub(super) fn turn_away(&mut self, client: &Socket) {
        // A client that has gone is not in anyone's way: who comes next is served when that has been noticed.
        while !client.hung_up()
            && let Some(fd) = self.accept()
        {
            if self.refusals.len() < MAX_REFUSALS
                && let Ok(socket) = Socket::new(fd)
            {
                let until = Instant::now() + REFUSAL_PATIENCE;
                self.refusals.push(Refusal {
                    socket,
                    inbox: Inbox::new(REFUSAL_LIMIT),
                    until,
                });
            }
        }
        self.serve_refusals();
    }

    fn accept(&mut self) -> Option<OwnedFd> {
        if self
            .closed_until
            .is_some_and(|until| Instant::now() < until)
        {
            return None;
        }
        self.closed_until = None;
        match self.listener?.accept() {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a vfio-user client, trying again shortly");
                self.closed_until = Some(Instant::now() + ACCEPT_PAUSE);
                None
            }
        }
    }

    /// Waits for anything at all; whether it was the client.
    fn wait(&self, client: Option<(&Socket, Option<Instant>)>) -> io::Result<bool> {
        let wake = self
            .refusals
            .iter()
            .map(|refusal| refusal.until)
            .chain(self.until);
        let wake = wake
            .chain(self.closed_until)
            .chain(client.and_then(|(_, deadline)| deadline));
        let Some(timeout) = poll_timeout(wake.min()) else {
            return Ok(false);
        };
        let mut fds = Vec::with_capacity(3 + self.refusals.len());
        fds.extend(client.map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        fds.push(PollFd::new(self.stop.wake_fd(), PollFlags::POLLIN));
        let open = self.listener.filter(|_| self.closed_until.is_none());
        fds.extend(open.map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        let others = self.refusals.iter();
        fds.extend(others.map(|other| PollFd::new(other.socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        let first = fds.first().and_then(PollFd::any);
        Ok(client.is_some() && first.unwrap_or(false))
    }

    fn serve_refusals(&mut self) {
        self.refusals.retain_mut(|refusal| !refusal.finished());
    }
}

impl Refusal {
    /// Answers the client's first message, if it is there, with EBUSY; whether the client is done with.
    fn finished(&mut self) -> bool {
        let now = Instant::now();
        loop {
            match self.inbox.next() {
                Ok(Some(message)) => {
                    let reply = message.header.error_reply(Errno::EBUSY as u32);
                    // If it has gone, or does not listen, it is its own loss.
                    let _ = self.socket.send(&[reply.as_bytes()], &[], now);
                    return true;
                }
                Ok(None) => match self.inbox.receive_now(&self.socket) {
                    Ok(true) => {}
                    Ok(false) => return now >= self.until,
                    Err(_) => return true,
                },
                Err(_) => return true,
            }
        }
    }
}
