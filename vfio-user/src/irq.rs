//! Interrupts for devices: which eventfd a vector signals, masks, and what is pending.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

use crate::Errno;
use crate::model::{IrqAction, IrqData, IrqInfo, IrqSet};

/// The vectors of one interrupt index. The thread that serves the client configures them; any thread fires them.
#[derive(Debug)]
pub struct IrqTable {
    info: IrqInfo,
    vectors: Vec<Mutex<Vector>>,
}

#[derive(Debug, Default)]
struct Vector {
    eventfd: Option<Eventfd>,
    masked: bool,
    pending: bool,
}

impl IrqTable {
    /// As many vectors as `info` says, none of them with an eventfd.
    pub fn new(info: IrqInfo) -> Self {
        Self {
            info,
            vectors: (0..info.count).map(|_| Mutex::default()).collect(),
        }
    }

    /// Fires a vector: signals its eventfd, or makes it pending while it is masked. Whether there is such a vector and
    /// it has an eventfd.
    pub fn fire(&self, vector: u32) -> bool {
        let Some(mut vector) = self.vector(vector) else {
            return false;
        };
        vector.fire(self.info.automasked);
        vector.eventfd.is_some()
    }

    /// Whether a vector has fired while it was masked.
    pub fn is_pending(&self, vector: u32) -> bool {
        self.vector(vector).is_some_and(|vector| vector.pending)
    }

    /// Whether a vector has an eventfd.
    pub fn is_enabled(&self, vector: u32) -> bool {
        self.vector(vector)
            .is_some_and(|vector| vector.eventfd.is_some())
    }

    /// Does what a DEVICE_SET_IRQS for this index asks for.
    ///
    /// # Errors
    /// `EINVAL` for vectors that do not exist, a number of eventfds that is not theirs, and descriptors that are no
    /// eventfds; `EOPNOTSUPP` for masking what cannot be masked, and for eventfds that are to mask or unmask. Nothing
    /// was changed then.
    pub fn set(&self, request: IrqSet) -> Result<(), Errno> {
        if request.disables_index() {
            self.clear();
            return Ok(());
        }
        let vectors = self.range(request.start, request.count)?;
        let action = request.action;
        if action != IrqAction::Trigger && !self.info.maskable {
            return Err(Errno::EOPNOTSUPP);
        }
        match request.data {
            IrqData::None => vectors.iter().for_each(|vector| self.act(vector, action)),
            IrqData::Bools(which) if which.len() == vectors.len() => {
                let chosen = vectors.iter().zip(which).filter(|(_, chosen)| *chosen);
                chosen.for_each(|(vector, _)| self.act(vector, action));
            }
            IrqData::Eventfds(_) | IrqData::Deassign if action != IrqAction::Trigger => {
                return Err(Errno::EOPNOTSUPP);
            }
            IrqData::Eventfds(fds) if fds.len() == vectors.len() => {
                let eventfds: Vec<_> = fds
                    .into_iter()
                    .map(Eventfd::new)
                    .collect::<Result<_, _>>()?;
                for (vector, eventfd) in vectors.iter().zip(eventfds) {
                    lock(vector).eventfd = Some(eventfd);
                }
            }
            IrqData::Deassign => vectors
                .iter()
                .for_each(|vector| *lock(vector) = Vector::default()),
            IrqData::Bools(_) | IrqData::Eventfds(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// Forgets eventfds, masks and what is pending, as when the client is gone.
    pub fn clear(&self) {
        self.vectors
            .iter()
            .for_each(|vector| *lock(vector) = Vector::default());
    }

    /// Forgets what is pending, as a reset of the function does; the client's eventfds and masks stay.
    pub fn reset(&self) {
        self.vectors
            .iter()
            .for_each(|vector| lock(vector).pending = false);
    }

    fn act(&self, vector: &Mutex<Vector>, action: IrqAction) {
        let mut vector = lock(vector);
        match action {
            IrqAction::Mask => vector.masked = true,
            IrqAction::Unmask => vector.unmask(self.info.automasked),
            IrqAction::Trigger => vector.fire(self.info.automasked),
        }
    }

    fn range(&self, start: u32, count: u32) -> Result<&[Mutex<Vector>], Errno> {
        let end = start.checked_add(count).ok_or(Errno::EINVAL)?;
        self.vectors
            .get(start as usize..end as usize)
            .ok_or(Errno::EINVAL)
    }

    fn vector(&self, vector: u32) -> Option<MutexGuard<'_, Vector>> {
        self.vectors.get(vector as usize).map(lock)
    }
}

impl Vector {
    fn fire(&mut self, automasked: bool) {
        let Some(eventfd) = &self.eventfd else { return };
        if self.masked {
            self.pending = true;
        } else {
            eventfd.signal();
            self.masked = automasked;
        }
    }

    fn unmask(&mut self, automasked: bool) {
        self.masked = false;
        if std::mem::take(&mut self.pending) {
            self.fire(automasked);
        }
    }
}

/// An eventfd of the client's.
#[derive(Debug)]
struct Eventfd(OwnedFd);

impl Eventfd {
    fn new(fd: OwnedFd) -> Result<Self, Errno> {
        // Anything else could make a write wait, or do something when it is written to.
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let is_eventfd = link.is_ok_and(|target| target.as_os_str() == "anon_inode:[eventfd]");
        if is_eventfd {
            Ok(Self(fd))
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// Adds 1 to the counter. A counter that is full has been signalled often enough.
    fn signal(&self) {
        // Whether a write waits while the counter is full is a property of the open file, which the client has as
        // well and may change at any time. So it is asked first.
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        let signalled = match poll(&mut fds, PollTimeout::ZERO) {
            Ok(0) => return,
            Ok(_) => write(&self.0, &1_u64.to_ne_bytes()),
            Err(errno) => Err(errno),
        };
        match signalled {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => tracing::warn!(%errno, "cannot signal an interrupt"),
        }
    }
}

/// A vector is in order at every moment, so a panic of another thread breaks nothing.
fn lock(vector: &Mutex<Vector>) -> MutexGuard<'_, Vector> {
    vector.lock().unwrap_or_else(PoisonError::into_inner)
}
