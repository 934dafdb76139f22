//! The control socket: many clients, one thread, and nothing that a client does can hurt the others or the host.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::HostError;
use crate::inject::{Answer, InjectError, Injection, MAX_LINE};

/// Most clients at a time.
const MOST_CLIENTS: usize = 64;
/// A client that has asked nothing for so long makes room for others.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to rest when the machine has no descriptor for another client.
const REST: Duration = Duration::from_millis(100);

/// Does what a request asks for.
type Inject = Box<dyn Fn(&Injection) -> Result<(), InjectError> + Send>;

/// The thread that answers. Dropping it hangs up on all clients and removes the socket.
pub(crate) struct Control {
    path: PathBuf,
    /// Dropped to wake the thread: its other end then reads the end of the stream.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens at `path`, which does not exist, and hands requests to `inject`.
    pub(crate) fn start(
        path: &Path,
        inject: impl Fn(&Injection) -> Result<(), InjectError> + Send + 'static,
    ) -> Result<Self, HostError> {
        let listener = bind(path)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(HostError::io("listen at", path))?;
        let (stop, stopped) =
            UnixStream::pair().map_err(HostError::io("make a socket pair for", path))?;
        let name = "auk-sim-control".to_owned();
        let inject: Inject = Box::new(inject);
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                if let Err(error) = serve(&listener, &stopped, &inject) {
                    tracing::error!(%error, "the control socket of the simulated host is served no more");
                }
            })
            .map_err(|source| HostError::Thread { name, source })?;
        Ok(Self {
            path: path.to_owned(),
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!("the control thread of the simulated host panicked");
        }
        // Gone already when somebody has cleared the tree.
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds through the open directory, because a socket address holds 107 bytes and a root may be longer.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let directory = path.parent().map_or_else(|| File::open("."), File::open)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    UnixListener::bind(short.join(path.file_name().unwrap_or_default()))
}

fn serve(listener: &UnixListener, stopped: &UnixStream, inject: &Inject) -> io::Result<()> {
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let ready = wait(listener, stopped, &clients)?;
        if ready.stop {
            return Ok(());
        }
        let mut readable = ready.clients.into_iter();
        clients.retain_mut(|client| {
            let alive = !readable.next().unwrap_or(false) || client.hear(inject);
            alive && client.heard.elapsed() < PATIENCE
        });
        if ready.listener {
            accept(listener, &mut clients);
        }
    }
}

/// Who has something to read.
struct Ready {
    stop: bool,
    listener: bool,
    clients: Vec<bool>,
}

fn wait(listener: &UnixListener, stopped: &UnixStream, clients: &[Client]) -> io::Result<Ready> {
    let fds = [stopped.as_fd(), listener.as_fd()];
    let fds = fds
        .into_iter()
        .chain(clients.iter().map(|client| client.stream.as_fd()));
    let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let longest_silent = clients.iter().map(|client| client.heard).min();
    let timeout = longest_silent.map_or(PollTimeout::NONE, |heard| {
        let left = PATIENCE.saturating_sub(heard.elapsed()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
    Ok(Ready {
        stop: ready.next().unwrap_or(true),
        listener: ready.next().unwrap_or(false),
        clients: ready.collect(),
    })
}

fn accept(listener: &UnixListener, clients: &mut Vec<Client>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if stream.set_nonblocking(true).is_err() {
                    continue;
                }
                let mut client = Client {
                    stream,
                    line: Vec::new(),
                    heard: Instant::now(),
                };
                if clients.len() < MOST_CLIENTS {
                    clients.push(client);
                } else {
                    client.answer(Err(InjectError::TooManyClients { most: MOST_CLIENTS }));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "the simulated host cannot take another control client");
                // Out of descriptors, the listener stays readable: without a rest this would spin.
                std::thread::sleep(REST);
                return;
            }
        }
    }
}

struct Client {
    stream: UnixStream,
    /// What has come since the last whole line.
    line: Vec<u8>,
    /// When it connected, or last sent a whole line.
    heard: Instant,
}

impl Client {
    /// Reads what there is, once, and answers each whole line. Whether the client stays.
    fn hear(&mut self, inject: &Inject) -> bool {
        let mut chunk = [0; MAX_LINE];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            }
        };
        self.line.extend_from_slice(&chunk[..count]);
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            self.heard = Instant::now();
            let result = if end >= MAX_LINE {
                Err(InjectError::TooLong)
            } else {
                Injection::parse(&line).and_then(|injection| {
                    let verb = injection.verb.name();
                    tracing::info!(target = %injection.target, verb, "inject");
                    inject(&injection)
                })
            };
            if !self.answer(result) {
                return false;
            }
        }
        if self.line.len() >= MAX_LINE {
            self.answer(Err(InjectError::TooLong));
            return false;
        }
        true
    }

    /// Tells the client how it went. False when it does not take the answer, which nobody waits for.
    fn answer(&mut self, result: Result<(), InjectError>) -> bool {
        let answer = Answer {
            ok: result.is_ok(),
            error: result.err().map(|error| error.to_string()),
        };
        let Ok(mut text) = serde_json::to_vec(&answer) else {
            return false;
        };
        text.push(b'\n');
        self.stream.write_all(&text).is_ok()
    }
}
