//! The host's end of a guest's second serial port.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use auk_vm::{FromGuest, FromHost, MAX_LINE, from_line, to_line};

use crate::qemu::Running;

/// How often QEMU is looked after while nothing comes.
const TICK: Duration = Duration::from_millis(200);

/// A connection to a guest.
pub(crate) struct Port {
    stream: UnixStream,
    messages: Receiver<FromGuest>,
}

/// Waits at a path for QEMU to connect a guest's port.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    let listener =
        UnixListener::bind(path).with_context(|| format!("listening at {}", path.display()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Port {
    /// Takes QEMU's connection.
    pub(crate) fn accept(
        listener: &UnixListener,
        qemu: &mut Running,
        limit: Duration,
    ) -> Result<Self> {
        let deadline = Instant::now() + limit;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("waiting for QEMU"),
            }
            if qemu.has_ended() {
                bail!("QEMU has ended before the machine was made");
            }
            if Instant::now() > deadline {
                bail!("QEMU made no machine within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        stream.set_nonblocking(false)?;
        let reader = BufReader::new(stream.try_clone()?);
        let (sender, messages) = channel();
        // Ends when the stream does, which is with QEMU.
        std::thread::spawn(move || {
            for message in Lines(reader) {
                match message {
                    Ok(message) => {
                        if sender.send(message).is_err() {
                            break;
                        }
                    }
                    Err(error) => eprintln!("the guest says {error}"),
                }
            }
        });
        Ok(Self { stream, messages })
    }

    pub(crate) fn send(&mut self, message: &FromHost) -> Result<()> {
        self.stream
            .write_all(to_line(message).as_bytes())
            .context("writing to the guest")
    }

    /// The guest's next message, which must come within `limit`.
    pub(crate) fn receive(&self, qemu: &mut Running, limit: Duration) -> Result<FromGuest> {
        let deadline = Instant::now() + limit;
        loop {
            match self.messages.recv_timeout(TICK) {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Disconnected) => bail!("the guest has stopped"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if qemu.has_ended() {
                bail!("QEMU has ended");
            }
            if Instant::now() > deadline {
                bail!("the guest has said nothing for {} s", limit.as_secs());
            }
        }
    }
}

struct Lines(BufReader<UnixStream>);

impl Iterator for Lines {
    type Item = Result<FromGuest, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let mut limited = (&mut self.0).take(MAX_LINE as u64);
        match limited.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(from_line(&String::from_utf8_lossy(&line))),
        }
    }
}
