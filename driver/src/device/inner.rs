//! The state that all handles of a device share.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use auk_asic::Malformed;
use auk_asic::admin::{AdminCommand, Identify};
use auk_asic::bar0;
use auk_asic::config::header;
use auk_asic::register::Register;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::admin::Admin;
use super::capabilities::Capabilities;
use super::lease::Lease;
use super::notices::Notices;
use super::queue_number::QueueNumbers;
use super::recovery::RecoveryPolicy;
use super::remains::Remains;
use crate::bus::{BusError, DmaTarget, Function, Interrupt, Region};
use crate::deadline::Deadline;
use crate::dma::DmaSpace;
use crate::error::Error;
use crate::mmio::{Doorbell, Window};
use crate::pci::PciFunction;
use crate::report::{RecentCommands, Reports, RingView};

/// A device between two resets. Odd while a reset is under way or after one has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life(u32);

impl Life {
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    fn is_reset(self) -> bool {
        self.0 % 2 == 1
    }
}

/// The last field of a handle of something on the chip: frees there what the handle's other fields gave up.
#[derive(Clone, Debug)]
pub(super) struct Sweeper(Arc<Inner>);

impl Sweeper {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self(Arc::clone(inner))
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.sweep();
    }
}

/// Something on the chip whose handle was dropped where the chip could not be asked.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) life: Life,
    pub(super) command: AdminCommand,
}

pub(crate) struct Inner {
    pub(crate) name: Arc<str>,
    pub(crate) function: Arc<dyn Function>,
    pub(crate) capabilities: Capabilities,
    pub(crate) space: DmaSpace,
    /// What was attached to the space, once that has succeeded.
    pub(super) attached: OnceLock<Arc<dyn DmaTarget>>,
    /// Vector 0, for the admin queue and events, then one per I/O queue; empty when the bus has no interrupts.
    vectors: Vec<EventFd>,
    pub(super) notices: Notices,
    /// Readable while any of the descriptors is that an event may come by.
    pub(super) any_event: Epoll,
    life: AtomicU32,
    /// `None` while the chip has no admin queue of ours.
    admin: Mutex<Option<Admin>>,
    pub(crate) policy: RecoveryPolicy,
    /// The life at whose end the policy's recovery has failed.
    pub(super) given_up: AtomicU32,
    pub(super) reports: Reports,
    /// Of the I/O queues, for reports.
    rings: Mutex<BTreeMap<u16, RingView>>,
    /// Held by the thread that resets; never waited for.
    pub(super) resetting: Mutex<()>,
    identity: Mutex<Option<Identify>>,
    pub(super) queues: Mutex<QueueNumbers>,
    /// By queue; 0 is the admin queue's.
    doorbells: Mutex<BTreeMap<u16, Doorbell>>,
    leftovers: Mutex<VecDeque<Leftover>>,
    /// Memory that the chip may still write, kept until a reset says otherwise.
    quarantine: Mutex<Vec<Remains>>,
    /// COMMAND lets the BARs decode, as far as is known.
    decodes: AtomicBool,
    /// Offset in config space of the vital signs.
    pub(super) vitals: Option<u16>,
    /// The function in sysfs, when there is one.
    pub(crate) listed: Option<PciFunction>,
    _lease: Option<Lease>,
}

/// The lock, whether or not another thread panicked while it held it: what it guards is right between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("name", &self.name)
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

pub(super) struct Parts {
    pub(super) name: Arc<str>,
    pub(super) function: Arc<dyn Function>,
    pub(super) capabilities: Capabilities,
    pub(super) space: DmaSpace,
    pub(super) vitals: Option<u16>,
    pub(super) listed: Option<PciFunction>,
    pub(super) lease: Option<Lease>,
    pub(super) policy: RecoveryPolicy,
    pub(super) reports: Reports,
}

impl Inner {
    /// A device that has been looked at, and neither attached nor brought up yet.
    pub(super) fn new(parts: Parts) -> Result<Self, Error> {
        let vectors = vectors(&parts)?;
        let notices = Notices::of(&*parts.function)
            .map_err(|source| bus_error(&parts.name, "asking for the bus's notices", source))?;
        let any_event = any_of(event_fds(&vectors, &notices))?;
        Ok(Self {
            name: parts.name,
            function: parts.function,
            capabilities: parts.capabilities,
            space: parts.space,
            attached: OnceLock::new(),
            vectors,
            notices,
            any_event,
            life: AtomicU32::new(1),
            admin: Mutex::new(None),
            policy: parts.policy,
            // No life that has begun.
            given_up: AtomicU32::new(u32::MAX),
            reports: parts.reports,
            rings: Mutex::default(),
            resetting: Mutex::new(()),
            identity: Mutex::new(None),
            queues: Mutex::new(QueueNumbers::default()),
            doorbells: Mutex::new(BTreeMap::new()),
            leftovers: Mutex::new(VecDeque::new()),
            quarantine: Mutex::new(Vec::new()),
            decodes: AtomicBool::new(true),
            vitals: parts.vitals,
            listed: parts.listed,
            _lease: parts.lease,
        })
    }

    /// Lets the function reach the space's memory, up to the address `last`.
    pub(super) fn attach(&self, last: u64) -> Result<(), Error> {
        let target = self.function.dma();
        self.space.attach(Arc::clone(&target), last)?;
        match self.listed.as_ref().map(PciFunction::numa_node) {
            Some(Ok(Some(node))) => self.space.attached_at(&target, node),
            Some(Err(error)) => tracing::debug!(device = %self.name, %error, "its NUMA node"),
            Some(Ok(None)) | None => {}
        }
        // A device attaches once, when it is opened.
        let _ = self.attached.set(target);
        Ok(())
    }

    /// A reset of the function is about to begin: it clears COMMAND.
    pub(super) fn stops_decoding(&self) {
        self.decodes.store(false, Ordering::Relaxed);
    }

    /// Lets the BARs decode again after a reset, also one that failed before that could be done.
    pub(super) fn decode(&self) -> Result<(), Error> {
        if !self.decodes.load(Ordering::Relaxed) {
            self.set_command(header::COMMAND_MEMORY, 0)?;
            self.decodes.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn read_register(&self, register: Register) -> Result<u32, Error> {
        self.decode()?;
        read_register(&*self.function, &self.name, register)
    }

    pub(crate) fn write_register(&self, register: Register, value: u32) -> Result<(), Error> {
        self.decode()?;
        self.function
            .write(Region::Bar0, register.offset, &value.to_le_bytes())
            .map_err(|source| bus_error(&self.name, register.name, source))
    }

    /// Wakes a chip that parked.
    #[cold]
    pub(crate) fn kick(&self, queue: u16) -> Result<(), Error> {
        self.write_register(bar0::KICK, u32::from(queue))
    }

    pub(crate) fn malformed(&self, source: Malformed) -> Error {
        Error::Malformed {
            device: Arc::clone(&self.name),
            source,
        }
    }

    pub(crate) fn bus_error(&self, what: &'static str, source: BusError) -> Error {
        bus_error(&self.name, what, source)
    }

    /// The doorbell page of a queue, mapped once and again when the mapping was lost.
    pub(crate) fn doorbell(&self, queue: u16) -> Result<Doorbell, Error> {
        let mut doorbells = lock(&self.doorbells);
        if let Some(doorbell) = doorbells.get(&queue)
            && !doorbell.is_lost()
        {
            return Ok(doorbell.clone());
        }
        let bus = |source| self.bus_error("mapping a doorbell page", source);
        let info = self.function.region(Region::Bar0).map_err(bus)?;
        let page = Window::map(
            Region::Bar0.index(),
            &info,
            bar0::doorbell_page(queue),
            auk_asic::PAGE as u64,
        )
        .map_err(bus)?;
        let doorbell = Doorbell::new(page);
        doorbells.insert(queue, doorbell.clone());
        Ok(doorbell)
    }

    /// Whether the doorbell page of a queue was found gone; what was stored to it since went nowhere.
    pub(super) fn check_doorbell(&self, queue: u16) -> Result<(), Error> {
        let doorbells = lock(&self.doorbells);
        if doorbells.get(&queue).is_some_and(Doorbell::is_lost) {
            return Err(Error::MappingLost {
                device: Arc::clone(&self.name),
            });
        }
        Ok(())
    }

    /// The eventfd of a vector.
    pub(crate) fn vector(&self, vector: u16) -> Option<&EventFd> {
        self.vectors.get(usize::from(vector))
    }

    /// What becomes readable when there may be an event.
    pub(super) fn event_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        event_fds(&self.vectors, &self.notices)
    }

    pub(super) fn enable_interrupts(&self) -> Result<(), Error> {
        if self.vectors.is_empty() {
            return Ok(());
        }
        let eventfds: Vec<_> = self.vectors.iter().map(AsFd::as_fd).collect();
        self.function
            .enable_interrupts(Interrupt::Msix, &eventfds)
            .map_err(|source| self.bus_error("enabling interrupts", source))
    }

    pub(super) fn disable_interrupts(&self) -> Result<(), Error> {
        if self.vectors.is_empty() {
            return Ok(());
        }
        self.function
            .disable_interrupts(Interrupt::Msix)
            .map_err(|source| self.bus_error("disabling interrupts", source))
    }

    pub(super) fn admin(&self) -> MutexGuard<'_, Option<Admin>> {
        lock(&self.admin)
    }

    pub(super) fn identity(&self) -> Result<Identify, Error> {
        lock(&self.identity).ok_or_else(|| Error::Resetting {
            device: Arc::clone(&self.name),
        })
    }

    pub(super) fn set_identity(&self, identity: Option<Identify>) {
        *lock(&self.identity) = identity;
    }

    /// The life that the device is in.
    #[inline]
    pub(crate) fn life(&self) -> Life {
        Life(self.life.load(Ordering::Acquire))
    }

    /// The life that the device is in, unless it is being reset.
    pub(crate) fn running_life(&self) -> Result<Life, Error> {
        let life = self.life();
        if life.is_reset() {
            return Err(Error::Resetting {
                device: Arc::clone(&self.name),
            });
        }
        Ok(life)
    }

    /// Whether a reset has succeeded since `life`: then nothing of that life is on the chip any more, and all its DMA
    /// has ended.
    pub(crate) fn has_outlived(&self, life: Life) -> bool {
        let now = self.life();
        !now.is_reset() && now != life
    }

    pub(super) fn begin_reset(&self) {
        self.life.fetch_or(1, Ordering::AcqRel);
    }

    /// The last commands of all queues.
    pub(crate) fn recent_commands(&self) -> Vec<RecentCommands> {
        let admin = self.admin().as_ref().map(|admin| admin.pair.view());
        let admin = admin.iter().map(|view| view.recent(0));
        // The lock is held by who makes or drops a queue for a moment, and here by who can wait.
        let queues = lock(&self.rings);
        let queues = queues.iter().map(|(queue, view)| view.recent(*queue));
        admin.chain(queues).collect()
    }

    /// Has reports show a queue's rings.
    pub(crate) fn show_rings(&self, queue: u16, view: RingView) {
        lock(&self.rings).insert(queue, view);
    }

    /// Lets go of the rings.
    pub(crate) fn hide_rings(&self, queue: u16) {
        lock(&self.rings).remove(&queue);
    }

    /// The reset has succeeded: nothing of former lives is written any more.
    pub(super) fn end_reset(&self) {
        self.life.fetch_add(1, Ordering::AcqRel);
        lock(&self.queues).end_of_life();
        lock(&self.quarantine).clear();
        lock(&self.leftovers).clear();
    }

    /// Keeps what is left of a queue of that life until a reset has proven that the chip does not write it any more.
    pub(crate) fn keep_until_reset(&self, life: Life, remains: Remains) {
        let mut quarantine = lock(&self.quarantine);
        // A reset that succeeds after this look waits for the lock, and then finds what is kept.
        if self.has_outlived(life) {
            return;
        }
        tracing::debug!(device = %self.name, "memory that the chip may still write is kept until a reset");
        quarantine.push(remains);
    }

    pub(super) fn take_quarantine(&self) -> Vec<Remains> {
        std::mem::take(&mut lock(&self.quarantine))
    }

    pub(super) fn leave(&self, life: Life, command: AdminCommand) {
        if life == self.life() {
            lock(&self.leftovers).push_back(Leftover { life, command });
        }
    }

    /// Frees on the chip what dropped handles left behind. If the chip does not answer, its next reset will.
    pub(super) fn sweep(&self) {
        loop {
            // Not held while the chip works.
            let Some(leftover) = lock(&self.leftovers).pop_front() else {
                return;
            };
            if leftover.life != self.life() {
                continue;
            }
            let deadline = Deadline::after(self.capabilities.timeouts().command);
            let what = leftover.command.opcode().name();
            match self.execute_quietly(leftover.life, leftover.command, None, what, deadline) {
                Ok(_) => {}
                Err(error @ Error::Command { .. }) => {
                    tracing::warn!(%error, "something stays on the chip until its next reset");
                }
                Err(error) => {
                    tracing::warn!(%error, "what dropped handles left stays on the chip until its next reset");
                    lock(&self.leftovers).clear();
                }
            }
        }
    }
}

pub(super) fn read_register(
    function: &dyn Function,
    name: &Arc<str>,
    register: Register,
) -> Result<u32, Error> {
    let mut data = [0; 4];
    function
        .read(Region::Bar0, register.offset, &mut data)
        .map_err(|source| bus_error(name, register.name, source))?;
    Ok(u32::from_le_bytes(data))
}

pub(super) fn bus_error(name: &Arc<str>, what: &'static str, source: BusError) -> Error {
    let device = Arc::clone(name);
    if source.is_final() {
        Error::Disconnected { device, source }
    } else {
        Error::Bus {
            device,
            what,
            source,
        }
    }
}

fn event_fds<'a>(
    vectors: &'a [EventFd],
    notices: &'a Notices,
) -> impl Iterator<Item = BorrowedFd<'a>> {
    vectors
        .first()
        .map(AsFd::as_fd)
        .into_iter()
        .chain(notices.fds())
}

fn any_of<'a>(descriptors: impl Iterator<Item = BorrowedFd<'a>>) -> Result<Epoll, Error> {
    let system = |errno: Errno| Error::System {
        what: "making an epoll descriptor",
        source: errno.into(),
    };
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system)?;
    for descriptor in descriptors {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        epoll.add(descriptor, event).map_err(system)?;
    }
    Ok(epoll)
}

/// An eventfd a vector: all at once, because not every bus can add one later.
fn vectors(parts: &Parts) -> Result<Vec<EventFd>, Error> {
    let info = parts
        .function
        .interrupts(Interrupt::Msix)
        .map_err(|source| bus_error(&parts.name, "asking for interrupts", source))?;
    if !info.eventfd {
        return Ok(Vec::new());
    }
    let count = info
        .count
        .min(u32::from(parts.capabilities.io_queues()) + 1);
    (0..count)
        .map(|_| {
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(|errno| {
                Error::System {
                    what: "making an eventfd",
                    source: errno.into(),
                }
            })
        })
        .collect()
}
