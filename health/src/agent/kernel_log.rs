//! The kernel log in the loop of the agent: read when there is something, stored, told, and kept for the next looks.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tracing::{info, warn};

use super::functions::Functions;
use super::shared::Shared;
use super::uevent::Notice;
use crate::facts::{Heard, Reading};
use crate::kernel_log::follow::{Batch, Follower, Named};
use crate::kernel_log::source::{self, Source};
use crate::probe::ProbeError;
use crate::probe::discover::is_bdf;
use crate::store::KernelBatch;
use crate::time::Moment;

/// Records that are read before the loop does something else: a few milliseconds of it.
const AT_ONCE: usize = 2048;
/// A log that could not be opened is tried again after so long: the opener may start later than the agent.
const AGAIN: Duration = Duration::from_secs(10);
/// How far the log was read is kept so often when there is nothing of interest in it.
const KEEP_EACH: Duration = Duration::from_secs(60);

/// The log of the host.
#[derive(Debug)]
pub(super) struct KernelLog {
    root: PathBuf,
    log: Result<Open, ProbeError>,
    tried: Instant,
    follower: Follower,
    /// There was a round, so that the components are known that lines may be about.
    begun: bool,
    /// What could not be stored yet. No more is read until it is: the kernel keeps it meanwhile.
    unstored: Option<KernelBatch>,
    /// There is more to read than was read at once.
    more: bool,
    kept: Instant,
}

/// A log that is open.
#[derive(Debug)]
struct Open {
    source: Source,
    /// Tells when there is something to read; not of a plain file, which is looked at in each round.
    /// To tokio it is a socket: nothing but its readiness is asked.
    readiness: Option<UnixDatagram>,
}

impl KernelLog {
    /// The log of the host below a root, from where the last agent of this boot stopped. To be called in a runtime.
    pub(super) fn of(root: &Path, shared: &Shared) -> Self {
        let now = Instant::now();
        let mut log = Self {
            root: root.to_owned(),
            log: open(root),
            tried: now,
            follower: Follower::after(shared.kernel_log_seen()),
            begun: false,
            unstored: None,
            more: false,
            kept: now,
        };
        log.say();
        log.more = log.log.is_ok();
        log
    }

    /// Waits until there is something to read.
    pub(super) async fn ready(&mut self) {
        let reads = self.begun && self.unstored.is_none();
        if self.more && reads {
            return;
        }
        match &self.log {
            Ok(Open {
                readiness: Some(readiness),
                ..
            }) if reads => {
                let waited = readiness.async_io(Interest::READABLE, || readable(readiness));
                if let Err(error) = waited.await {
                    warn!(%error, "the kernel log tells no more when there is news; rounds look");
                    std::future::pending::<()>().await;
                }
            }
            _ => std::future::pending().await,
        }
    }

    /// Reads what there is; of whom it tells.
    pub(super) fn read(&mut self, shared: &Shared, functions: &Functions<'_>) -> Option<Notice> {
        if !self.begun {
            return None;
        }
        if let Some(batch) = self.unstored.take() {
            self.unstored = shared.keep_kernel_log(batch).err();
            if self.unstored.is_some() {
                return None;
            }
        }
        if self.log.is_err() && self.tried.elapsed() >= AGAIN {
            self.tried = Instant::now();
            self.log = open(&self.root);
            self.say();
        }
        let Ok(open) = &mut self.log else { return None };
        let now = Moment::now();
        let named = |name: Named<'_>| functions.named(name);
        let read = self.follower.read(&mut open.source, now, AT_ONCE, named);
        let Batch { kept, blamed, more } = match read {
            Ok(batch) => batch,
            Err(error) => {
                let error = ProbeError::io(&source::path(&self.root), &error);
                self.log = Err(error);
                self.more = false;
                self.say();
                return None;
            }
        };
        self.more = more;
        if !kept.is_empty() || (kept.seen.is_some() && self.kept.elapsed() >= KEEP_EACH) {
            self.kept = Instant::now();
            self.judge(shared);
            self.unstored = shared.keep_kernel_log(kept).err();
        }
        let functions: Vec<String> = blamed.into_iter().filter(|name| is_bdf(name)).collect();
        (!functions.is_empty()).then_some(Notice::Of(functions))
    }

    /// Has judged what was heard, and kept what follows from it: once a line is stored nobody reads it again, so that after
    /// a kill between the two it would have been told and never judged.
    fn judge(&mut self, shared: &Shared) {
        let heard_of: Vec<String> = self.follower.heard_of().map(str::to_owned).collect();
        shared.judge_heard(&heard_of, |component| self.follower.take_heard(component));
    }

    /// What was heard of a component since this was last asked; `None` where there is no log to hear anything from, and an
    /// error while nothing is read.
    pub(super) fn heard(&mut self, component: &str) -> Option<Reading<Vec<Heard>>> {
        match &self.log {
            Ok(_) => {
                let heard = self.follower.take_heard(component);
                // What was heard before is to be judged all the same.
                Some(match self.unstored.is_some() && heard.is_empty() {
                    true => Err(ProbeError::Unstored),
                    false => Ok(heard),
                })
            }
            Err(error) if error.is_not_found() => None,
            Err(error) => Some(Err(error.clone())),
        }
    }

    /// All that are watched have been asked about.
    pub(super) fn round_ended(&mut self) {
        self.begun = true;
        self.follower.forget_heard();
    }

    /// Tells what was only counted so far, and keeps how far the log was read.
    pub(super) fn close(mut self, shared: &Shared) {
        if self.unstored.is_some() || self.follower.seen().is_none() {
            return;
        }
        self.judge(shared);
        let told = self.follower.finish(Moment::now());
        let seen = KernelBatch {
            seen: self.follower.seen(),
            ..KernelBatch::default()
        };
        // What cannot be written now is read again.
        if shared.keep_kernel_log(told).is_ok() {
            let _ = shared.keep_kernel_log(seen);
        }
    }

    fn say(&self) {
        match &self.log {
            Ok(_) => info!("the kernel log is followed"),
            Err(error) if error.is_not_found() => info!("this host shows no kernel log"),
            Err(error) => warn!(%error, "the kernel log is not followed"),
        }
    }
}

fn open(root: &Path) -> Result<Open, ProbeError> {
    let source = Source::open(root)?;
    let path = source::path(root);
    let failed = |error| ProbeError::io(&path, &error);
    let readiness = match source.device() {
        Some(device) => {
            let device = device.as_fd().try_clone_to_owned().map_err(failed)?;
            Some(UnixDatagram::from_std(device.into()).map_err(failed)?)
        }
        None => None,
    };
    Ok(Open { source, readiness })
}

fn readable(log: impl AsFd) -> io::Result<()> {
    let mut asked = [PollFd::new(log.as_fd(), PollFlags::POLLIN)];
    match poll(&mut asked, PollTimeout::ZERO)? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}
