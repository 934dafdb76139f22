//! One connection to a server: a request goes out, its reply comes back.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zerocopy::IntoBytes;

use super::requests::Desk;
use super::{Error, Options};
use crate::Errno;
use crate::inbox::{Inbox, MessageRef};
use crate::socket::{Socket, TransportError};
use crate::wire::{Command, Header, Violation};

/// Longest message that is not data: the capabilities of the peer, or of a region.
pub(super) const MAX_OVERHEAD: usize = 64 << 10;

pub(super) struct Connection {
    socket: Socket,
    inbox: Inbox,
    next_id: u16,
    desk: Desk,
    /// Why the connection can no longer be used.
    broken: Option<Broken>,
}

enum Broken {
    Closed,
    Poisoned { command: Command, reason: String },
}

/// What a request consists of.
pub(super) struct Request<'a> {
    pub(super) command: Command,
    /// The payload, in two parts.
    pub(super) payload: [&'a [u8]; 2],
    pub(super) fds: &'a [BorrowedFd<'a>],
}

impl<'a> Request<'a> {
    pub(super) fn new(command: Command, payload: &'a [u8]) -> Self {
        Self {
            command,
            payload: [payload, &[]],
            fds: &[],
        }
    }
}

/// A successful reply.
pub(super) struct Reply<'a> {
    pub(super) payload: &'a [u8],
    pub(super) fds: Vec<OwnedFd>,
}

impl Connection {
    pub(super) fn new(socket: Socket, options: Options) -> Self {
        let max_data = options.max_data_xfer_size;
        Self {
            socket,
            inbox: Inbox::new(max_data as usize + MAX_OVERHEAD),
            next_id: 0,
            desk: Desk::new(options.handler, max_data.into()),
            broken: None,
        }
    }

    /// Sends a request and gives its reply to `read`.
    pub(super) fn call<T>(
        &mut self,
        request: &Request<'_>,
        deadline: Instant,
        read: impl FnOnce(Reply<'_>) -> Result<T, Violation>,
    ) -> Result<T, Error> {
        let id = self.send(request, true, deadline)?;
        self.reply(request.command, id, deadline, read)
    }

    /// Sends a request. Gives the id by which its reply is known.
    pub(super) fn send(
        &mut self,
        request: &Request<'_>,
        wants_reply: bool,
        deadline: Instant,
    ) -> Result<u16, Error> {
        self.usable(request.command)?;
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let payload = request.payload[0].len() + request.payload[1].len();
        let mut header = Header::command(id, request.command, payload);
        if !wants_reply {
            header = header.without_reply();
        }
        let parts = [header.as_bytes(), request.payload[0], request.payload[1]];
        match self.socket.send(&parts, request.fds, deadline) {
            Ok(()) => Ok(id),
            // A server that closes may have said why before; that is for the receiving side to find.
            Err(TransportError::Closed) if wants_reply => Ok(id),
            Err(error) => Err(self.fail(request.command, error)),
        }
    }

    /// Waits for the reply to the oldest request not yet answered, serving the server's own requests meanwhile.
    pub(super) fn reply<T>(
        &mut self,
        command: Command,
        id: u16,
        deadline: Instant,
        read: impl FnOnce(Reply<'_>) -> Result<T, Violation>,
    ) -> Result<T, Error> {
        self.usable(command)?;
        let result = loop {
            let message = match self.inbox.next() {
                Ok(Some(message)) => message,
                Ok(None) => match self.receive(command, deadline) {
                    Ok(()) => continue,
                    Err(error) => break Err(error),
                },
                Err(violation) => break Err(violation.into()),
            };
            if message.header.is_reply() {
                break match_reply(message, command, id)
                    .and_then(|reply| match reply {
                        Ok(reply) => read(reply).map(Ok),
                        Err(errno) => Ok(Err(errno)),
                    })
                    .map_err(TransportError::from);
            }
            if let Err(error) = self.desk.serve(&self.socket, &message, deadline) {
                break Err(error);
            }
        };
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(errno)) => Err(Error::Refused { command, errno }),
            Err(error) => Err(self.fail(command, error)),
        }
    }

    /// Waits for more of the reply to a command.
    fn receive(&mut self, command: Command, deadline: Instant) -> Result<(), TransportError> {
        match command {
            // The server maps, unmaps, or does whatever its device does.
            Command::DmaMap | Command::DmaUnmap | Command::DeviceReset => {
                self.inbox.receive_quietly(&self.socket, deadline)
            }
            _ => self.inbox.receive(&self.socket, deadline),
        }
    }

    /// Serves the requests of the server that have arrived; how many those were.
    pub(super) fn serve_arrived(&mut self, deadline: Instant) -> Result<usize, Error> {
        let command = Command::DmaRead;
        self.usable(command)?;
        let mut served = 0;
        let result = loop {
            match self.inbox.next() {
                Ok(Some(message)) if message.header.is_reply() => {
                    let command = message.header.command;
                    break Err(Violation::Unsolicited {
                        command,
                        found: "reply",
                    }
                    .into());
                }
                Ok(Some(message)) => match self.desk.serve(&self.socket, &message, deadline) {
                    Ok(()) => served += 1,
                    Err(error) => break Err(error),
                },
                Ok(None) => match self.inbox.receive_rest(&self.socket, deadline) {
                    Ok(true) => {}
                    Ok(false) => break Ok(served),
                    Err(error) => break Err(error),
                },
                Err(violation) => break Err(violation.into()),
            }
        };
        result.map_err(|error| self.fail(command, error))
    }

    /// Serves the requests of the server that came along with a reply: whoever waits for requests on the socket
    /// would not notice them.
    pub(super) fn serve_read_ahead(&mut self, deadline: Instant) {
        while self.broken.is_none() && self.inbox.has_begun() {
            let served = match self.inbox.next() {
                Ok(Some(message)) if message.header.is_reply() => {
                    let command = message.header.command;
                    Err(Violation::Unsolicited {
                        command,
                        found: "reply",
                    }
                    .into())
                }
                Ok(Some(message)) => self.desk.serve(&self.socket, &message, deadline),
                Ok(None) => return,
                Err(violation) => Err(violation.into()),
            };
            if let Err(error) = served {
                // The next call will say so.
                self.fail(Command::DmaRead, error);
            }
        }
    }

    pub(super) fn usable(&self, command: Command) -> Result<(), Error> {
        match &self.broken {
            None => Ok(()),
            Some(Broken::Closed) => Err(Error::Disconnected { command }),
            Some(Broken::Poisoned { command, reason }) => Err(Error::Poisoned {
                command: *command,
                reason: reason.clone(),
            }),
        }
    }

    /// Marks the connection as unusable and says why.
    pub(super) fn fail(&mut self, command: Command, error: TransportError) -> Error {
        self.broken = Some(match &error {
            TransportError::Closed => Broken::Closed,
            other => Broken::Poisoned {
                command,
                reason: other.to_string(),
            },
        });
        // The server is told as well, so that it does not wait for the rest of something.
        self.socket.shut_down();
        match error {
            TransportError::Closed => Error::Disconnected { command },
            TransportError::TimedOut => Error::TimedOut { command },
            TransportError::Violation(violation) => Error::Protocol { command, violation },
            TransportError::Io(source) => Error::Io { command, source },
        }
    }
}

/// Checks that a reply is the one waited for; the inner error is the server's refusal.
fn match_reply(
    message: MessageRef<'_>,
    command: Command,
    id: u16,
) -> Result<Result<Reply<'_>, Errno>, Violation> {
    let header = message.header;
    if header.id != id {
        return Err(Violation::Unsolicited {
            command: header.command,
            found: "reply",
        });
    }
    if header.command != command.number() {
        return Err(Violation::WrongCommand {
            found: header.command,
            expected: command.number(),
        });
    }
    if let Some(errno) = header.error() {
        return Ok(Err(Errno::from_raw(i32::try_from(errno).unwrap_or(0))));
    }
    Ok(Ok(Reply {
        payload: message.payload,
        fds: message.fds,
    }))
}

/// The connection, used by one thread at a time; waiting for one's turn has a deadline as well.
pub(super) struct Turns {
    line: Mutex<Line>,
    freed: Condvar,
    connection: Mutex<Connection>,
}

#[derive(Default)]
struct Line {
    taken: bool,
    /// Threads that wait: nobody else is woken, which would be a system call for nothing.
    waiting: usize,
}

impl Turns {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            line: Mutex::default(),
            freed: Condvar::new(),
            connection: Mutex::new(connection),
        }
    }

    /// Waits until no other thread uses the connection, then runs `work` on it.
    pub(super) fn take<T>(
        &self,
        command: Command,
        deadline: Instant,
        work: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut line = self.line();
        while line.taken {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Contended { command });
            }
            line.waiting += 1;
            line = self
                .freed
                .wait_timeout(line, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            line.waiting -= 1;
        }
        line.taken = true;
        drop(line);
        let _turn = Turn(self);
        // Free by now: this lock only proves to the compiler what the line says.
        let Ok(mut connection) = self.connection.lock() else {
            return Err(Error::Poisoned {
                command,
                reason: "a DMA handler panicked".into(),
            });
        };
        let result = work(&mut connection);
        connection.serve_read_ahead(deadline);
        result
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // It is in order at every moment, so a panic elsewhere cannot have broken it.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the turn back, whatever happens during it.
struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.taken = false;
        if line.waiting > 0 {
            self.0.freed.notify_one();
        }
    }
}
