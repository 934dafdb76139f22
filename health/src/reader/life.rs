//! A reader as the agent holds it: a process, or a thread in a program that named none.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use super::ReaderCommand;
use super::serve::serve;
use super::wire::{Answer, Request, VERSION, receive, transmit};

/// A look needs a few frames and a page of buffer.
const STACK: usize = 128 << 10;

/// A reader and the agent's end of its socket.
#[derive(Debug)]
pub(super) struct Life {
    socket: OwnedFd,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Process(Child),
    Thread(JoinHandle<()>),
}

impl Life {
    /// Starts a reader of the host under `root`.
    ///
    /// # Errors
    /// When there is no process, thread or socket to be had.
    pub(super) fn start(command: Option<&ReaderCommand>, root: &Path) -> io::Result<Self> {
        let (socket, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let body = match command {
            Some(command) => {
                let mut command = command.command();
                // A key press that ends the agent must not end its readers before it.
                command.stdin(theirs).stdout(Stdio::null()).process_group(0);
                Body::Process(command.spawn()?)
            }
            None => Body::Thread(
                thread::Builder::new()
                    .name("auk-reader".to_owned())
                    .stack_size(STACK)
                    .spawn(move || {
                        if let Err(error) = serve(theirs) {
                            tracing::debug!(%error, "a reader ends");
                        }
                    })?,
            ),
        };
        let life = Self { socket, body };
        life.ask(&Request::Start {
            version: VERSION,
            root: root.to_owned(),
        })?;
        Ok(life)
    }

    /// Sends a request; it does not wait for a reader that does not listen.
    pub(super) fn ask(&self, request: &Request) -> io::Result<()> {
        transmit(&self.socket, request, SendFlags::DONTWAIT)
    }

    /// The next answer, if there is one now.
    ///
    /// # Errors
    /// When the reader has ended, or what came is no answer.
    pub(super) fn answer(&self, buffer: &mut [u8]) -> io::Result<Option<Answer>> {
        match receive(&self.socket, buffer, RecvFlags::DONTWAIT) {
            Ok(Some(answer)) => Ok(Some(answer)),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its process, unless it is a thread.
    pub(super) fn process(&self) -> Option<u32> {
        match &self.body {
            Body::Process(child) => Some(child.id()),
            Body::Thread(_) => None,
        }
    }

    /// Kills a process, which takes effect when the kernel lets go of it; a thread cannot be.
    pub(super) fn kill(&mut self) {
        if let Body::Process(child) = &mut self.body {
            // An error means that it has ended already.
            let _ = child.kill();
        }
    }

    /// Closes the socket, which tells the reader to end, and gives what is to be reaped.
    pub(super) fn close(mut self) -> Remains {
        self.kill();
        Remains(self.body)
    }
}

/// A reader that was told to end.
#[derive(Debug)]
pub(super) struct Remains(Body);

impl Remains {
    /// Whether it has ended, and is reaped.
    pub(super) fn has_ended(&mut self) -> bool {
        match &mut self.0 {
            // An error means that there is no such child any more.
            Body::Process(child) => !matches!(child.try_wait(), Ok(None)),
            Body::Thread(thread) => thread.is_finished(),
        }
    }
}
