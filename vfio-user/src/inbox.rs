//! Messages out of a byte stream.
//!
//! Reads ahead, so that a small message costs one system call and pipelined ones less. The kernel ends a
//! read at a piece of the stream that carries descriptors, so the descriptors of a read belong to the message
//! that holds the last byte of that read.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::socket::{MAX_FDS, Socket, TransportError};
use crate::wire::{HEADER_SIZE, Header, Violation};

/// Room to begin with; a longer message grows it up to the limit on messages.
const READ_AHEAD: usize = 4096;

/// One message, still in the inbox's memory.
pub(crate) struct MessageRef<'a> {
    pub(crate) header: Header,
    pub(crate) payload: &'a [u8],
    pub(crate) fds: Vec<OwnedFd>,
}

/// Where received bytes wait until they are a whole message.
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    /// The bytes not yet taken are `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Descriptors with the position in the stream of the last byte of the read they came with.
    fds: VecDeque<(u64, OwnedFd)>,
    /// Position in the stream of `buffer[start]`.
    position: u64,
    /// Longest message accepted.
    limit: usize,
}

impl Inbox {
    /// An inbox for messages of up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            buffer: vec![0; READ_AHEAD],
            start: 0,
            end: 0,
            fds: VecDeque::new(),
            position: 0,
            limit,
        }
    }

    /// The header of the first message, once it is there.
    fn peek(&self) -> Result<Option<Header>, Violation> {
        let bytes = &self.buffer[self.start..self.end];
        bytes
            .first_chunk::<HEADER_SIZE>()
            .map(|bytes| Header::parse(bytes, self.limit))
            .transpose()
    }

    /// The first message, if all of it has been received.
    pub(crate) fn next(&mut self) -> Result<Option<MessageRef<'_>>, Violation> {
        let Some(header) = self.peek()? else {
            return Ok(None);
        };
        let size = header.size as usize;
        if self.end - self.start < size {
            return Ok(None);
        }
        let start = self.start;
        self.start += size;
        self.position += size as u64;
        let mut fds = Vec::new();
        while self
            .fds
            .front()
            .is_some_and(|(last, _)| *last < self.position)
        {
            fds.extend(self.fds.pop_front().map(|(_, fd)| fd));
        }
        let payload = &self.buffer[start + HEADER_SIZE..start + size];
        Ok(Some(MessageRef {
            header,
            payload,
            fds,
        }))
    }

    /// Makes room and lets `read` fill it.
    fn fill<R>(&mut self, read: R) -> Result<bool, TransportError>
    where
        R: FnOnce(&mut [u8], &mut Vec<OwnedFd>) -> Result<Option<usize>, TransportError>,
    {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let needed = self.peek()?.map_or(0, |header| header.size as usize);
        if needed > self.buffer.len() {
            self.buffer.resize(needed, 0);
        }
        let mut fds = Vec::new();
        let result = read(&mut self.buffer[self.end..], &mut fds);
        let Some(count) = result? else {
            return Ok(false);
        };
        self.end += count;
        let last = self.position + self.end as u64 - 1;
        self.fds.extend(fds.into_iter().map(|fd| (last, fd)));
        if self.fds.len() > MAX_FDS {
            // More than one message has a right to, piled up on messages that are not complete.
            return Err(Violation::ControlTruncated { most: MAX_FDS }.into());
        }
        Ok(true)
    }

    /// Receives some bytes, waiting for them until the deadline.
    pub(crate) fn receive(
        &mut self,
        socket: &Socket,
        deadline: Instant,
    ) -> Result<(), TransportError> {
        self.fill(|buffer, fds| socket.receive(buffer, fds, deadline).map(Some))
            .map(drop)
    }

    /// The same for a peer that takes its time, see [`Socket::receive_quietly`].
    pub(crate) fn receive_quietly(
        &mut self,
        socket: &Socket,
        deadline: Instant,
    ) -> Result<(), TransportError> {
        self.fill(|buffer, fds| socket.receive_quietly(buffer, fds, deadline).map(Some))
            .map(drop)
    }

    /// Receives what comes within a short while; `false` when nothing came.
    pub(crate) fn receive_hopefully(&mut self, socket: &Socket) -> Result<bool, TransportError> {
        self.fill(|buffer, fds| socket.receive_hopefully(buffer, fds))
    }

    /// Receives more of a message that has begun, or what is there; `false` when there is neither.
    pub(crate) fn receive_rest(
        &mut self,
        socket: &Socket,
        deadline: Instant,
    ) -> Result<bool, TransportError> {
        if self.has_begun() {
            return self.receive(socket, deadline).map(|()| true);
        }
        self.receive_now(socket)
    }

    /// Receives what is there; `false` when nothing is.
    pub(crate) fn receive_now(&mut self, socket: &Socket) -> Result<bool, TransportError> {
        self.fill(|buffer, fds| socket.receive_now(buffer, fds))
    }

    /// Whether the first message has been received as a whole.
    pub(crate) fn has_whole(&self) -> Result<bool, Violation> {
        Ok(self
            .peek()?
            .is_some_and(|header| self.end - self.start >= header.size as usize))
    }

    /// Whether a part of a message has been received.
    pub(crate) fn has_begun(&self) -> bool {
        self.start != self.end
    }
}
