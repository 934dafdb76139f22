//! The chip's vectors as VFIO routes them: an eventfd each, masks, and what is pending.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use auk_asic::msix::VECTORS;
use auk_vfio_user::Errno;
use auk_vfio_user::model::{IrqAction, IrqData, IrqSet};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::write;

#[derive(Debug, Default)]
struct Vector {
    eventfd: Option<OwnedFd>,
    masked: bool,
    pending: bool,
}

/// The MSI-X vectors.
#[derive(Debug)]
pub(crate) struct Interrupts {
    vectors: Vec<Vector>,
    /// Interrupts fired since power-on.
    pub(crate) fired: u64,
}

impl Interrupts {
    pub(crate) fn new() -> Self {
        Self {
            vectors: (0..VECTORS).map(|_| Vector::default()).collect(),
            fired: 0,
        }
    }

    /// Whether any vector has an eventfd, which is what MSI-X enable means to VFIO.
    pub(crate) fn enabled(&self) -> bool {
        self.vectors.iter().any(|vector| vector.eventfd.is_some())
    }

    /// Fires a vector: its eventfd is signalled, now or when it is unmasked.
    pub(crate) fn fire(&mut self, vector: u16) {
        let Some(entry) = self.vectors.get_mut(usize::from(vector)) else {
            return;
        };
        if entry.eventfd.is_none() {
            return;
        }
        self.fired += 1;
        if entry.masked {
            entry.pending = true;
        } else {
            entry.signal();
        }
    }

    /// Acts on a request that was checked against the number of vectors.
    ///
    /// # Errors
    /// `EINVAL` for vectors that do not exist, data that does not fit them, or descriptors that are
    /// not eventfds.
    pub(crate) fn set(&mut self, request: IrqSet) -> Result<(), Errno> {
        if request.action == IrqAction::Trigger && request.disables_index() {
            self.clear();
            return Ok(());
        }
        let start = usize::try_from(request.start).map_err(|_| Errno::EINVAL)?;
        let count = usize::try_from(request.count).map_err(|_| Errno::EINVAL)?;
        let end = start.checked_add(count).ok_or(Errno::EINVAL)?;
        let chosen = self.vectors.get_mut(start..end).ok_or(Errno::EINVAL)?;
        match request.data {
            IrqData::None => {
                for vector in chosen {
                    vector.act(request.action);
                }
            }
            IrqData::Bools(flags) if flags.len() == count => {
                for (vector, flag) in chosen.iter_mut().zip(flags) {
                    if flag {
                        vector.act(request.action);
                    }
                }
            }
            IrqData::Eventfds(eventfds)
                if eventfds.len() == count && request.action == IrqAction::Trigger =>
            {
                if !eventfds.iter().all(is_eventfd) {
                    return Err(Errno::EINVAL);
                }
                for (vector, eventfd) in chosen.iter_mut().zip(eventfds) {
                    vector.eventfd = Some(eventfd);
                }
            }
            IrqData::Deassign if request.action == IrqAction::Trigger => {
                for vector in chosen {
                    *vector = Vector::default();
                }
            }
            IrqData::Bools(_) | IrqData::Eventfds(_) | IrqData::Deassign => {
                return Err(Errno::EINVAL);
            }
        }
        Ok(())
    }

    /// Bit n of the pending bit array: vector n fired while it was masked.
    pub(crate) fn pending(&self) -> u64 {
        self.vectors
            .iter()
            .enumerate()
            .filter(|(_, vector)| vector.pending)
            .fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Forgets all eventfds, masks and pending bits.
    pub(crate) fn clear(&mut self) {
        self.vectors.fill_with(Vector::default);
    }

    /// Forgets what is pending: a function-level reset.
    pub(crate) fn reset(&mut self) {
        for vector in &mut self.vectors {
            vector.pending = false;
        }
    }
}

impl Vector {
    fn act(&mut self, action: IrqAction) {
        match action {
            IrqAction::Mask => self.masked = true,
            IrqAction::Unmask => {
                self.masked = false;
                if std::mem::take(&mut self.pending) {
                    self.signal();
                }
            }
            IrqAction::Trigger => self.signal(),
        }
    }

    fn signal(&self) {
        let Some(eventfd) = &self.eventfd else {
            return;
        };
        // A full counter means that whoever waits for it is awake already. The client chose whether
        // a write to it blocks, so that is found out first.
        let mut ready = [PollFd::new(eventfd.as_fd(), PollFlags::POLLOUT)];
        let signalled = match poll(&mut ready, PollTimeout::ZERO) {
            Ok(0) => return,
            // A zero timeout does not wait, so nothing interrupts it.
            Ok(_) => write(eventfd, &1u64.to_ne_bytes()),
            Err(error) => Err(error),
        };
        if let Err(error) = signalled
            && error != Errno::EAGAIN
        {
            tracing::warn!(%error, "cannot signal an interrupt's eventfd");
        }
    }
}

/// A write to anything else could block, or end the process by SIGPIPE.
fn is_eventfd(fd: &OwnedFd) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .is_ok_and(|target| target.as_os_str() == "anon_inode:[eventfd]")
}
