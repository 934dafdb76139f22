//! The simulated chip's public face.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use auk_asic::config::SIZE;
use auk_asic::vitals::VitalSigns;
use auk_asic::{State, bar0, msix};
use auk_vfio_user::Errno;

use crate::accesses::Connection;
use crate::device::ChipDevice;
use crate::engine;
use crate::gate::{Gate, RegisterDelay};
use crate::inject::{InjectError, Injection, Verb};
use crate::machine::Machine;
use crate::memory::Memfd;
use crate::profile::{ChipProfile, Link, ProfileError};
use crate::strict::Violation;

/// Why a chip could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChipError {
    /// The profile asks for what the programming model does not have.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The system gives no shared memory.
    #[error(
        "simulated chip: no shared memory of {bytes} bytes for {what}: {source}; the limits on \
         memory and open files of this process may be too low"
    )]
    Memory {
        /// What it was for.
        what: &'static str,
        /// How much it was.
        bytes: u64,
        /// What the system said.
        source: Errno,
    },
    /// The system gives no thread.
    #[error("simulated chip: cannot start its engine thread: {0}")]
    Thread(std::io::Error),
}

/// What a handle and the devices share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) gate: Arc<Gate>,
    pub(crate) profile: ChipProfile,
    pub(crate) doorbells: Arc<OwnedFd>,
    pub(crate) memory: Arc<OwnedFd>,
    pub(crate) register_delay: RegisterDelay,
    engine: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    fn stop(&self) {
        let engine = self
            .engine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(engine) = engine else {
            return;
        };
        self.gate.visit(|machine| machine.stopping = true);
        if engine.join().is_err() {
            tracing::error!(serial = self.profile.serial, "the engine thread panicked");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A simulated chip, powered on. Clones are handles of the same chip; when the last handle and the
/// last [`ChipDevice`] are gone, its thread and its memory are too.
#[derive(Clone, Debug)]
pub struct Chip {
    shared: Arc<Shared>,
}

impl Chip {
    /// Powers a chip on: it boots from its factory slot.
    ///
    /// # Errors
    /// [`ChipError`] when the profile is wrong or the system lacks memory, descriptors or threads.
    pub fn new(profile: ChipProfile) -> Result<Self, ChipError> {
        profile.check()?;
        let memory = shared_memory(c"auk-sim-memory", "device memory", profile.memory)?;
        let pages = bar0::doorbell_page(u16::from(profile.io_queues) + 1);
        let doorbells = shared_memory(c"auk-sim-doorbells", "doorbells", pages)?;
        let (memory_fd, doorbell_fd) = (Arc::clone(&memory.fd), Arc::clone(&doorbells.fd));
        let machine = Machine::new(profile.clone(), memory, doorbells, Instant::now());
        let register_delay = machine.register_delay.clone();
        let gate = Arc::new(Gate::new(machine));
        let engine = engine::start(Arc::clone(&gate), profile.spin).map_err(ChipError::Thread)?;
        Ok(Self {
            shared: Arc::new(Shared {
                gate,
                profile,
                doorbells: doorbell_fd,
                memory: memory_fd,
                register_delay,
                engine: Mutex::new(Some(engine)),
            }),
        })
    }

    /// The chip for a vfio-user server, which may serve several clients in turn.
    #[must_use]
    pub fn device(&self) -> ChipDevice {
        self.device_until(Arc::default())
    }

    /// The same, for a server that is to end when the flag is set.
    pub(crate) fn device_until(&self, closing: Arc<AtomicBool>) -> ChipDevice {
        ChipDevice::new(Arc::clone(&self.shared), closing)
    }

    /// Config space as sysfs shows it, with live vital signs.
    #[must_use]
    pub fn config(&self) -> [u8; SIZE] {
        self.look(|machine| {
            if machine.ailments.off_bus() {
                [0xFF; SIZE]
            } else {
                *machine.config.bytes()
            }
        })
    }

    /// The vital signs as config space shows them.
    #[must_use]
    pub fn vital_signs(&self) -> VitalSigns {
        self.look(|machine| *machine.vitals.block())
    }

    /// What the chip has.
    #[must_use]
    pub fn profile(&self) -> &ChipProfile {
        &self.shared.profile
    }

    /// Serial number.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.shared.profile.serial
    }

    /// Bytes of BAR 0 to 5; 0 for the upper halves and for BARs that do not exist.
    #[must_use]
    pub fn bar_sizes(&self) -> [u64; 6] {
        [bar0::SIZE, 0, msix::SIZE, 0, self.shared.profile.memory, 0]
    }

    /// State of the firmware.
    #[must_use]
    pub fn state(&self) -> State {
        self.look(|machine| machine.life.state)
    }

    /// Whether the function is in D3hot.
    #[must_use]
    pub fn in_d3hot(&self) -> bool {
        self.look(|machine| machine.config.in_d3hot())
    }

    /// The link as it is trained.
    #[must_use]
    pub fn link(&self) -> Link {
        self.look(|machine| machine.config.link())
    }

    /// What drivers did so far that silicon leaves undefined, at most the first 256.
    #[must_use]
    pub fn strict_violations(&self) -> Vec<Violation> {
        self.look(|machine| machine.resources.strict.violations().to_vec())
    }

    /// The access log: what each client asked for, the last 256 of them, the oldest first.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        self.look(|machine| machine.accesses.connections())
    }

    /// Has a fault happen, or wait for its occasion. Whose target it names is not looked at.
    ///
    /// # Errors
    /// [`InjectError`] for a number that is out of its range, or what no chip can have; then nothing happened.
    pub fn inject_when(&self, injection: &Injection) -> Result<(), InjectError> {
        self.change(|machine, now| machine.inject(injection, now))
    }

    /// The same, at once or at the next occasion of its kind.
    ///
    /// # Errors
    /// As [`Chip::inject_when`].
    pub fn inject(&self, verb: Verb) -> Result<(), InjectError> {
        self.inject_when(&Injection::new("", verb))
    }

    /// How often each injected fault has happened, by its name.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.look(|machine| machine.plan_mut().acted().clone())
    }

    /// What happened to the chip and is the host's to do.
    pub(crate) fn for_the_host(&self) -> Vec<Verb> {
        self.look(|machine| std::mem::take(&mut machine.for_the_host))
    }

    /// Stops the chip's thread. It never serves a queue again, whatever handles there are.
    pub fn shutdown(&self) {
        self.shared.stop();
    }

    fn look<R>(&self, work: impl FnOnce(&mut Machine) -> R) -> R {
        self.shared.gate.visit(|machine| {
            machine.update(Instant::now());
            work(machine)
        })
    }

    fn change<R>(&self, work: impl FnOnce(&mut Machine, Instant) -> R) -> R {
        self.shared.gate.visit(|machine| {
            let now = Instant::now();
            machine.update(now);
            machine.attention = true;
            work(machine, now)
        })
    }
}

fn shared_memory(
    name: &std::ffi::CStr,
    what: &'static str,
    bytes: u64,
) -> Result<Memfd, ChipError> {
    Memfd::new(name, bytes).map_err(|error| ChipError::Memory {
        what,
        bytes,
        source: error.errno(),
    })
}
