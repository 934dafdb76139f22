//! Asks the agent of a host for what it knows.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::Status;
use crate::agent::socket_path;
use crate::operator::{Done, Order};
use crate::output::events::Asked;
use crate::status::SCHEMA;
use crate::store::{self, Page, Query};

/// A status of a host with hundreds of components is a few hundred KiB.
const LIMIT: usize = 16 << 20;
/// Least time for a read or write, as 0 would mean to wait for ever.
const TICK: Duration = Duration::from_millis(1);

/// Between two tries to connect to an agent that has let too many clients wait.
const RETRY: Duration = Duration::from_millis(10);

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent answers at {socket}; start one with `auk agent`", socket = .socket.display())]
    NoAgent {
        /// Where it would.
        socket: PathBuf,
    },
    /// The connection failed.
    #[error("asking the agent at {socket} failed: {source}", socket = .socket.display())]
    Io {
        /// Where it answers.
        socket: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("the agent at {socket} did not answer within {deadline:?}", socket = .socket.display())]
    Timeout {
        /// Where it answers.
        socket: PathBuf,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// It answered with something else.
    #[error("the agent at {socket} answered {found:?}, expected {expected}", socket = .socket.display())]
    Malformed {
        /// Where it answers.
        socket: PathBuf,
        /// What came, cut short.
        found: String,
        /// What should have come.
        expected: &'static str,
    },
    /// It will not do it.
    #[error("the agent at {socket} refuses: {reason}", socket = .socket.display())]
    Refused {
        /// Where it answers.
        socket: PathBuf,
        /// Its reason.
        reason: String,
    },
    /// It speaks another version.
    #[error("the agent at {socket} speaks version {found} of the status, this program version {SCHEMA}; \
         use the `auk` that the agent was started from", socket = .socket.display())]
    Schema {
        /// Where it answers.
        socket: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// Asks the agent of the host under `root` for its status.
///
/// # Errors
/// When none runs, it does not answer by the deadline, or its answer is no status of this version.
pub fn fetch_status(root: &Path, deadline: Duration) -> Result<Status, ClientError> {
    let socket = socket_path(root);
    let body = get(&socket, "/v1/status", deadline)?;
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u32,
    }
    let malformed = |error: serde_json::Error| ClientError::Malformed {
        socket: socket.clone(),
        found: error.to_string(),
        expected: "a status document in JSON",
    };
    let version: Version = serde_json::from_slice(&body).map_err(malformed)?;
    if version.schema != SCHEMA {
        return Err(ClientError::Schema {
            socket: socket.clone(),
            found: version.schema,
        });
    }
    serde_json::from_slice(&body).map_err(malformed)
}

/// Asks the agent of the host under `root` for events. With a `wait` it answers an empty page only after so long, which
/// is at most 8 s; the deadline counts from then on.
///
/// # Errors
/// As [`fetch_status`], and when there is no component of that name or the agent cannot read its store.
pub fn fetch_events(
    root: &Path,
    query: &Query,
    wait: Duration,
    deadline: Duration,
) -> Result<Page, ClientError> {
    let socket = socket_path(root);
    let malformed = |found: String| ClientError::Malformed {
        socket: socket.clone(),
        found,
        expected: "events in JSON",
    };
    let asked = Asked::new(query, wait);
    let asked = serde_urlencoded::to_string(asked).map_err(|error| malformed(error.to_string()))?;
    let body = get(&socket, &format!("/v1/events?{asked}"), deadline + wait)?;
    let page: Page = serde_json::from_slice(&body).map_err(|error| malformed(error.to_string()))?;
    match page.schema {
        store::SCHEMA => Ok(page),
        found => Err(malformed(format!("events of version {found}"))),
    }
}

/// Asks the agent of the host under `root` for its metrics.
///
/// # Errors
/// As [`fetch_status`].
pub fn fetch_metrics(root: &Path, deadline: Duration) -> Result<String, ClientError> {
    let socket = socket_path(root);
    let body = get(&socket, "/metrics", deadline)?;
    String::from_utf8(body).map_err(|error| ClientError::Malformed {
        socket,
        found: error.to_string(),
        expected: "metrics in UTF-8",
    })
}

/// Has the agent of the host under `root` do something.
///
/// # Errors
/// When none runs, it does not answer by the deadline, or it refuses: this user may not, or the order makes no sense.
pub fn order(root: &Path, order: &Order, deadline: Duration) -> Result<Done, ClientError> {
    let socket = socket_path(root);
    let malformed = |error: serde_json::Error| ClientError::Malformed {
        socket: socket.clone(),
        found: error.to_string(),
        expected: "the record of an order in JSON",
    };
    let body = serde_json::to_string(order).map_err(malformed)?;
    let request = format!(
        "POST /v1/orders HTTP/1.0\r\nHost: auk\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(&socket, &request, deadline)?;
    serde_json::from_slice(&answer).map_err(malformed)
}

fn get(socket: &Path, path: &str, deadline: Duration) -> Result<Vec<u8>, ClientError> {
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    ask(
        socket,
        &format!("GET {path} HTTP/1.0\r\nHost: auk\r\n\r\n"),
        deadline,
    )
}

fn ask(socket: &Path, request: &str, deadline: Duration) -> Result<Vec<u8>, ClientError> {
    let start = Instant::now();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoAgent {
            socket: socket.to_owned(),
        },
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout {
            socket: socket.to_owned(),
            deadline,
        },
        _ => ClientError::Io {
            socket: socket.to_owned(),
            source,
        },
    };
    let left = || deadline.saturating_sub(start.elapsed()).max(TICK);
    let mut stream = connected(socket, start + deadline).map_err(failed)?;
    stream.set_write_timeout(Some(left())).map_err(failed)?;
    stream.write_all(request.as_bytes()).map_err(failed)?;

    let mut answer = Vec::new();
    let mut chunk = [0u8; 16 << 10];
    loop {
        if start.elapsed() >= deadline {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left())).map_err(failed)?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
        if answer.len() > LIMIT {
            return Err(ClientError::Malformed {
                socket: socket.to_owned(),
                found: format!("more than {LIMIT} bytes"),
                expected: "a status document",
            });
        }
    }
    if let Some(reason) = refusal(&answer) {
        return Err(ClientError::Refused {
            socket: socket.to_owned(),
            reason,
        });
    }
    body(&answer)
        .map(<[u8]>::to_vec)
        .map_err(|found| ClientError::Malformed {
            socket: socket.to_owned(),
            found,
            expected: "HTTP with status 200 and as much body as announced",
        })
}

/// A connection to whoever listens at `path`. `UnixStream::connect` waits without end while the
/// listener's backlog is full, as one of a stopped agent is.
fn connected(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    loop {
        match connect(stream.as_raw_fd(), &address) {
            Ok(()) => break,
            // Nothing tells when a backlog has room again.
            Err(Errno::EAGAIN) if Instant::now() < deadline => thread::sleep(RETRY),
            Err(Errno::EINTR) if Instant::now() < deadline => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let stream = UnixStream::from(stream);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The agent's own words in an answer that is none.
fn refusal(answer: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    if !matches!(answer.get(9..10), Some(b"4" | b"5")) {
        return None;
    }
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let refusal: Refusal = serde_json::from_slice(answer.get(end + 4..)?).ok()?;
    Some(refusal.error)
}

/// The body of an answer with status 200; else what it was, cut short.
fn body(answer: &[u8]) -> Result<&[u8], String> {
    const SHOWN: usize = 80;
    let shown = || {
        let start = answer.get(..SHOWN).unwrap_or(answer);
        String::from_utf8_lossy(start).into_owned()
    };
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(shown)?;
    let (head, body) = answer.split_at(end + 4);
    let head = std::str::from_utf8(head).map_err(|_| shown())?;
    let mut lines = head.lines();
    let code = lines.next().and_then(|line| line.split(' ').nth(1));
    if !head.starts_with("HTTP/1.") || code != Some("200") {
        return Err(shown());
    }
    let announced = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())
    });
    match announced {
        Some(Some(length)) if length != body.len() => {
            Err(format!("{} bytes of body, {length} announced", body.len()))
        }
        Some(None) => Err(shown()),
        _ => Ok(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_that_was_cut_short_is_refused() {
        let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nabc";
        assert!(body(answer).is_err());
        let answer = b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(body(answer), Ok(b"abc".as_slice()));
    }

    #[test]
    fn any_code_but_200_is_refused() {
        assert!(body(b"HTTP/1.1 404 Not Found\r\n\r\n").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes: Vec<u8>) {
            let _ = body(&bytes);
        }
    }
}
