//! A reader's side: read what was asked, answer each as soon as it is read, until the agent is gone.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{close, getppid};
use rustix::net::sockopt::socket_peercred;
use rustix::net::{RecvFlags, SendFlags};

use super::wire::{Answer, LIST_PART, LONGEST, Look, Request, VERSION, receive, transmit};
use crate::probe::discover::{Discovery, Found};
use crate::probe::lease::Locks;
use crate::probe::target::Target;

/// The whole life of a reader process, for a program that an agent's
/// [`ReaderCommand`](super::ReaderCommand) starts: it serves the socket that is its standard input.
/// To be called first thing in `main`, for it closes every descriptor but the standard ones.
#[must_use]
pub fn run_process() -> ExitCode {
    let stdin = io::stdin();
    let agent = socket_peercred(&stdin).map(|peer| peer.pid);
    // A reader whose agent is gone must not read on; the socket tells one that does not sleep in a
    // read, the signal wakes one that does. The agent may have gone before it was set.
    let bound = set_pdeathsig(Signal::SIGKILL).is_ok()
        && agent.is_ok_and(|agent| agent.as_raw_nonzero().get() == getppid().as_raw());
    // The program's file is /proc/self/exe, so it would be called exe.
    let _ = set_name(c"auk-reader");
    if !bound || close_inherited().is_err() {
        return ExitCode::FAILURE;
    }
    match serve(&stdin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::warn!(%error, "a reader ends");
            ExitCode::FAILURE
        }
    }
}

/// Closes what the agent's process had open and did not mark: none of that may be held by a reader
/// that does not end.
fn close_inherited() -> io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&descriptor| descriptor > libc::STDERR_FILENO)
        .collect();
    for descriptor in open {
        // EBADF: the one by which the list was read.
        let _ = close(descriptor);
    }
    Ok(())
}

/// Serves one agent until it closes its end.
///
/// # Errors
/// When a message cannot be received, understood or sent.
pub(super) fn serve(agent: impl AsFd) -> io::Result<()> {
    let agent = agent.as_fd();
    let mut buffer = vec![0; LONGEST];
    let mut reader = match receive(agent, &mut buffer, RecvFlags::empty())? {
        Some(Request::Start { version, root }) if version == VERSION => Reader::new(root),
        None => return Ok(()),
        Some(other) => {
            let text = format!("{other:?}, expected Start of version {VERSION}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    };
    let answer = |answer: &Answer| transmit(agent, answer, SendFlags::empty());
    answer(&Answer::Ready { version: VERSION })?;
    while let Some(request) = receive(agent, &mut buffer, RecvFlags::empty())? {
        match request {
            Request::Read {
                round,
                list,
                looks,
                forget,
            } => {
                for id in forget {
                    reader.components.remove(&id);
                }
                if let Some(known) = list {
                    reader.list(round, known, answer)?;
                }
                let mut locks = Locks::default();
                for look in looks {
                    answer(&reader.look(round, look, &mut locks)?)?;
                }
            }
            Request::Start { .. } => {
                let text = "a second Start, expected what to read";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
    }
    Ok(())
}

struct Reader {
    root: PathBuf,
    discovery: Discovery,
    /// The list of devices and its number.
    listed: (u64, Vec<Found>),
    components: BTreeMap<u64, Target>,
}

impl Reader {
    fn new(root: PathBuf) -> Self {
        Self {
            discovery: Discovery::new(&root),
            root,
            listed: (0, Vec::new()),
            components: BTreeMap::new(),
        }
    }

    fn list(
        &mut self,
        round: u64,
        known: u64,
        answer: impl Fn(&Answer) -> io::Result<()>,
    ) -> io::Result<()> {
        let listed = self.discovery.list();
        let (number, last) = &mut self.listed;
        let part = |number, listed, whole| Answer::Listed {
            round,
            number,
            listed,
            whole,
        };
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => return answer(&part(*number, Err(error), true)),
        };
        if *number == 0 || *last != listed {
            *number += 1;
            *last = listed;
        }
        let unread = self.discovery.unread().cloned();
        if *number == known {
            let unchanged = unread.map_or(Ok(None), Err);
            return answer(&part(known, unchanged, true));
        }
        let parts = last.len().div_ceil(LIST_PART).max(1);
        for index in 0..parts {
            let some = last.iter().skip(index * LIST_PART).take(LIST_PART);
            let some = Ok(Some(some.cloned().collect()));
            let last = unread.is_none() && index + 1 == parts;
            answer(&part(*number, some, last))?;
        }
        match unread {
            Some(error) => answer(&part(*number, Err(error), true)),
            None => Ok(()),
        }
    }

    fn look(&mut self, round: u64, look: Look, locks: &mut Locks) -> io::Result<Answer> {
        let Look { id, class, found } = look;
        if let Some(found) = found {
            self.components.insert(id, Target::new(&self.root, found));
        }
        let Some(target) = self.components.get_mut(&id) else {
            let text = format!("a look at component {id}, which this reader was not told of");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        let sample = target.look_with(class, locks);
        Ok(Answer::Looked {
            round,
            id,
            identity: sample.identity,
            access: target.access(),
            dwords: target.dwords(),
            facts: Box::new(sample.facts),
        })
    }
}
