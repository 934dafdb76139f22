//! The connection to a client, shared by the thread that serves it and by those that reach into its memory.
//!
//! Whoever needs a message receives: normally the serving thread; while that is busy in the device, a thread
//! that waits for the reply to a DMA request. It hands replies to those who wait for them and keeps
//! requests for the serving thread.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use super::door::Door;
use super::{Ended, Options};
use crate::Errno;
use crate::inbox::Inbox;
use crate::socket::{Socket, TransportError};
use crate::wire::{Command, Header, Violation};

/// Requests kept while the serving thread is busy. A client that sends more than this without waiting for
/// a reply has to wait until the device has time again.
const MAX_BACKLOG: usize = 64;
const MAX_BACKLOG_BYTES: usize = 4 << 20;

/// How often a thread that waits for its reply looks whether it must receive itself; it is woken before.
const LOOK: Duration = Duration::from_millis(10);
/// How often a busy server looks for others at the door.
const GLANCE: Duration = Duration::from_millis(20);

/// Messages may be longer than their data by this much.
const MAX_OVERHEAD: usize = 64 << 10;

/// One message, with memory of its own, which the next message reuses.
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

pub(super) struct Link {
    pub(super) socket: Socket,
    /// Held while a message is sent; whether one was sent only in part.
    sending: Mutex<bool>,
    receiving: Mutex<Receiving>,
    waiting: Mutex<Waiting>,
    /// A reply has come, the connection is gone, or nobody is receiving.
    news: Condvar,
    waiters: AtomicUsize,
    /// How long the client may take for the rest of a message, and to take a reply.
    patience: Duration,
}

struct Receiving {
    inbox: Inbox,
    backlog: VecDeque<Message>,
    backlog_bytes: usize,
    last_glance: Instant,
}

/// The server's own requests.
struct Waiting {
    next_id: u16,
    replies: HashMap<u16, Slot>,
    gone: bool,
}

enum Slot {
    Awaited(Command),
    Here(Message),
    /// The one who asked has given up; the reply is to be thrown away.
    Abandoned,
}

impl Link {
    pub(super) fn new(socket: Socket, options: &Options) -> Self {
        let limit = options.max_data_xfer_size as usize + MAX_OVERHEAD;
        let (backlog, backlog_bytes) = (VecDeque::new(), 0);
        let last_glance = Instant::now();
        let inbox = Inbox::new(limit);
        Self {
            socket,
            sending: Mutex::new(false),
            receiving: Mutex::new(Receiving {
                inbox,
                backlog,
                backlog_bytes,
                last_glance,
            }),
            waiting: Mutex::new(Waiting {
                next_id: 0,
                replies: HashMap::new(),
                gone: false,
            }),
            news: Condvar::new(),
            waiters: AtomicUsize::new(0),
            patience: options.message_timeout,
        }
    }

    /// Sends one message.
    pub(super) fn send(
        &self,
        header: &Header,
        payload: [&[u8]; 2],
        fds: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), TransportError> {
        let mut broken = lock(&self.sending);
        if *broken {
            return Err(TransportError::Closed);
        }
        let result = self
            .socket
            .send(&[header.as_bytes(), payload[0], payload[1]], fds, deadline);
        if result.is_err() {
            // Part of the message may be on its way: the stream has no meaning any more.
            *broken = true;
            self.socket.shut_down();
        }
        result
    }

    /// Sends a message with the deadline that all messages of the serving thread have.
    pub(super) fn reply(
        &self,
        header: &Header,
        payload: [&[u8]; 2],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), TransportError> {
        self.send(header, payload, fds, Instant::now() + self.patience)
    }

    /// Waits for the client's next request, and puts it into `into`; `Some` when the server is to end
    /// instead. With a deadline, the request must be there by then.
    pub(super) fn next_request(
        &self,
        door: &mut Door<'_>,
        deadline: Option<Instant>,
        into: &mut Message,
    ) -> Result<Option<Ended>, TransportError> {
        let result = self.receive_request(door, deadline, into);
        if self.waiters.load(Ordering::SeqCst) > 0 {
            // Someone has to receive while this thread is busy.
            let _waiting = lock(&self.waiting);
            self.news.notify_all();
        }
        result
    }

    fn receive_request(
        &self,
        door: &mut Door<'_>,
        deadline: Option<Instant>,
        into: &mut Message,
    ) -> Result<Option<Ended>, TransportError> {
        let mut receiving = lock(&self.receiving);
        if let Some(message) = receiving.backlog.pop_front() {
            receiving.backlog_bytes -= message.payload.len();
            *into = message;
            return Ok(door.ended());
        }
        loop {
            if self.next_in_inbox(&mut receiving, into)? {
                return Ok(door.ended());
            }
            if receiving.inbox.has_begun() {
                let end = Instant::now() + self.patience;
                let end = deadline.map_or(end, |deadline| deadline.min(end));
                self.receive_whole(&mut receiving.inbox, door, end)?;
                continue;
            }
            if receiving.last_glance.elapsed() > GLANCE {
                receiving.last_glance = Instant::now();
                door.turn_away(&self.socket);
                if let Some(ended) = door.ended() {
                    return Ok(Some(ended));
                }
            }
            if deadline.is_none() && receiving.inbox.receive_hopefully(&self.socket)? {
                continue;
            }
            if let Some(ended) = door.wait_for(&self.socket, deadline)? {
                return Ok(Some(ended));
            }
            receiving.inbox.receive_now(&self.socket)?;
        }
    }

    /// Receives the rest of a message that has begun. A client that keeps sending a byte now and then
    /// does not get more time by it.
    fn receive_whole(
        &self,
        inbox: &mut Inbox,
        door: &mut Door<'_>,
        end: Instant,
    ) -> Result<(), TransportError> {
        while !inbox.has_whole()? {
            if door.wait_for(&self.socket, Some(end))?.is_some() {
                // The server is to end: nobody will want the message.
                return Err(TransportError::Closed);
            }
            inbox.receive_now(&self.socket)?;
        }
        Ok(())
    }

    /// Takes the next request out of the inbox, if there is a whole one; hands out the replies before it.
    fn next_in_inbox(
        &self,
        receiving: &mut Receiving,
        into: &mut Message,
    ) -> Result<bool, TransportError> {
        while let Some(message) = receiving.inbox.next()? {
            if message.header.is_reply() {
                let (header, payload, fds) =
                    (message.header, message.payload.to_vec(), message.fds);
                self.hand_out(Message {
                    header,
                    payload,
                    fds,
                })?;
                continue;
            }
            into.header = message.header;
            into.payload.clear();
            into.payload.extend_from_slice(message.payload);
            into.fds = message.fds;
            return Ok(true);
        }
        Ok(false)
    }

    /// Gives a reply to whoever waits for it.
    fn hand_out(&self, message: Message) -> Result<(), Violation> {
        let Header { id, command, .. } = message.header;
        if !message.fds.is_empty() {
            return Err(Violation::Descriptors {
                found: message.fds.len(),
                expected: "none",
            });
        }
        let mut waiting = lock(&self.waiting);
        match waiting.replies.remove(&id) {
            Some(Slot::Abandoned) => Ok(()),
            Some(Slot::Awaited(expected)) if expected.number() == command => {
                waiting.replies.insert(id, Slot::Here(message));
                self.news.notify_all();
                Ok(())
            }
            Some(Slot::Awaited(expected)) => Err(Violation::WrongCommand {
                found: command,
                expected: expected.number(),
            }),
            Some(Slot::Here(..)) | None => Err(Violation::Unsolicited {
                command,
                found: "reply",
            }),
        }
    }

    /// Sends a request of the server's own, and waits for the reply. From whatever thread.
    pub(super) fn ask(
        &self,
        command: Command,
        payload: [&[u8]; 2],
        deadline: Instant,
    ) -> Result<Result<Vec<u8>, Errno>, TransportError> {
        let id = self.announce(command)?;
        let header = Header::command(id, command, payload[0].len() + payload[1].len());
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let sent = self.send(&header, payload, &[], deadline);
        let result = sent.and_then(|()| self.await_reply(id, deadline));
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        let mut waiting = lock(&self.waiting);
        match result {
            Ok(message) => Ok(match message.header.error() {
                Some(errno) => Err(Errno::from_raw(i32::try_from(errno).unwrap_or(0))),
                None => Ok(message.payload),
            }),
            Err(error) => {
                waiting.replies.insert(id, Slot::Abandoned);
                Err(error)
            }
        }
    }

    /// Reserves an id for a request.
    fn announce(&self, command: Command) -> Result<u16, TransportError> {
        let mut waiting = lock(&self.waiting);
        if waiting.gone {
            return Err(TransportError::Closed);
        }
        // Ids are few enough to be all taken only by a client that lets thousands of requests time out.
        for _ in 0..=u16::MAX {
            let id = waiting.next_id;
            waiting.next_id = id.wrapping_add(1);
            if let Entry::Vacant(free) = waiting.replies.entry(id) {
                free.insert(Slot::Awaited(command));
                return Ok(id);
            }
        }
        Err(TransportError::TimedOut)
    }

    fn await_reply(&self, id: u16, deadline: Instant) -> Result<Message, TransportError> {
        let mut waiting = lock(&self.waiting);
        loop {
            if matches!(waiting.replies.get(&id), Some(Slot::Here(..)))
                && let Some(Slot::Here(message)) = waiting.replies.remove(&id)
            {
                return Ok(message);
            }
            if waiting.gone {
                return Err(TransportError::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TransportError::TimedOut);
            }
            waiting = match self.receiving.try_lock() {
                Ok(mut receiving) => {
                    drop(waiting);
                    let received = self.receive_for_others(&mut receiving, deadline);
                    if let Err(TransportError::Violation(_) | TransportError::Io(_)) = &received {
                        // The serving thread is to learn that this connection is over.
                        self.socket.shut_down();
                    }
                    received?;
                    drop(receiving);
                    lock(&self.waiting)
                }
                Err(TryLockError::WouldBlock) => {
                    let look = left.min(LOOK);
                    self.news
                        .wait_timeout(waiting, look)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                Err(TryLockError::Poisoned(_)) => return Err(TransportError::Closed),
            };
        }
    }

    /// Receives once, for whomever it is, while the serving thread is busy.
    fn receive_for_others(
        &self,
        receiving: &mut Receiving,
        deadline: Instant,
    ) -> Result<(), TransportError> {
        if receiving.inbox.has_whole()? {
            let mut message = Message::empty();
            while self.next_in_inbox(receiving, &mut message)? {
                receiving.backlog_bytes += message.payload.len();
                receiving
                    .backlog
                    .push_back(std::mem::replace(&mut message, Message::empty()));
            }
            // The reply waited for may have been among them.
            return Ok(());
        }
        if receiving.backlog.len() >= MAX_BACKLOG || receiving.backlog_bytes >= MAX_BACKLOG_BYTES {
            return Err(TransportError::TimedOut);
        }
        let until = deadline.min(Instant::now() + LOOK);
        match receiving.inbox.receive(&self.socket, until) {
            Ok(()) | Err(TransportError::TimedOut) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The client is gone: nobody needs to wait for it any more.
    pub(super) fn close(&self) {
        self.socket.shut_down();
        lock(&self.waiting).gone = true;
        self.news.notify_all();
    }
}

impl Message {
    pub(super) fn empty() -> Self {
        let header = Header::command(0, Command::Version, 0);
        Self {
            header,
            payload: Vec::new(),
            fds: Vec::new(),
        }
    }
}

/// What these locks guard is in order at every moment, so a panic of another thread breaks nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
