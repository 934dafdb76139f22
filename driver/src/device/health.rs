//! Whether the chip is there and well, by its registers and vital signs; never on the hot path.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use auk_asic::bar0::{self, Status};
use auk_asic::ident;
use auk_asic::vitals::{BODY, VitalSigns, Vitals};
use auk_asic::{Fault, State};

use super::Device;
use super::inner::Inner;
use crate::bus::{FunctionConfig, Region};
use crate::deadline::Deadline;
use crate::error::Error;
use crate::pci::{ConfigError, read_vitals};

/// Reads of all ones before a chip counts as gone, and the time between them: a link that trains reads ones too.
const GONE_TRIES: u32 = 3;
const GONE_PAUSE: Duration = Duration::from_millis(2);
/// Between two looks at STATUS while a state is waited for.
const STATE_PAUSE: Duration = Duration::from_millis(1);

impl Inner {
    /// STATUS, once it is certain that the chip is there.
    pub(super) fn status(&self) -> Result<Status, Error> {
        for _ in 0..GONE_TRIES {
            let status = self.read_register(bar0::STATUS)?;
            if status != u32::MAX {
                return Ok(Status::from_bits(status));
            }
            let identity = self.read_register(bar0::IDENT)?;
            if identity == ident::ident_register(self.capabilities.model()) {
                return Err(self.malformed(auk_asic::Malformed {
                    what: "STATUS",
                    found: u64::from(status),
                    expected: "a status, while IDENT can be read",
                }));
            }
            thread::sleep(GONE_PAUSE);
        }
        Err(Error::Gone {
            device: Arc::clone(&self.name),
            found: u32::MAX,
        })
    }

    /// The state in STATUS.
    pub(super) fn state(&self) -> Result<State, Error> {
        self.status()?
            .state()
            .map_err(|source| self.malformed(source))
    }

    /// Whether the chip is there, and serves the queues that were made since its last reset.
    pub(crate) fn check_serving(&self, what: &'static str) -> Result<(), Error> {
        self.serving_status(what)?;
        self.check_doorbell(0)
    }

    /// The same, and that the chip has not stopped the queue.
    pub(crate) fn check_queue(&self, what: &'static str, queue: u16) -> Result<(), Error> {
        if !self.serving_status(what)?.queue_stopped() {
            return self.check_doorbell(queue);
        }
        let (register, bit) = if queue < 32 {
            (bar0::STOPPED_LO, queue)
        } else {
            (bar0::STOPPED_HI, queue - 32)
        };
        if self.read_register(register)? & 1 << bit == 0 {
            return self.check_doorbell(queue);
        }
        Err(Error::QueueStopped {
            device: Arc::clone(&self.name),
            queue,
        })
    }

    fn serving_status(&self, what: &'static str) -> Result<Status, Error> {
        let status = self.status()?;
        if status.faulted() {
            return Err(self.fault_error());
        }
        if status.ready() {
            return Ok(status);
        }
        Err(Error::NotReady {
            device: Arc::clone(&self.name),
            what,
            state: status.state().map_err(|source| self.malformed(source))?,
        })
    }

    /// The error for a chip that says that it faulted.
    pub(super) fn fault_error(&self) -> Error {
        let fault = self
            .read_register(bar0::FAULT)
            .ok()
            .and_then(|code| Fault::parse(code as u16).ok());
        Error::Faulted {
            device: Arc::clone(&self.name),
            fault,
        }
    }

    /// Waits until STATUS is as wanted.
    pub(super) fn wait_status(
        &self,
        what: &'static str,
        deadline: Deadline,
        wanted: impl Fn(Status) -> bool,
    ) -> Result<Status, Error> {
        loop {
            let over = deadline.is_over();
            let status = self.status()?;
            if wanted(status) {
                return Ok(status);
            }
            if over {
                return Err(Error::TimedOut {
                    device: Arc::clone(&self.name),
                    what,
                    waited: deadline.elapsed(),
                    heartbeat: crate::error::Heartbeat::Unknown,
                });
            }
            thread::sleep(STATE_PAUSE.min(deadline.remaining()));
        }
    }

    /// The heartbeat, where the chip has one that the bus shows.
    pub(crate) fn heartbeat(&self) -> Option<u32> {
        let start = self.vitals?.checked_add(BODY)?;
        let offset = u64::from(start) + std::mem::offset_of!(VitalSigns, heartbeat) as u64;
        let mut data = [0; 4];
        self.function.read(Region::Config, offset, &mut data).ok()?;
        Some(u32::from_le_bytes(data))
    }
}

impl Device {
    /// The vital signs: through the bus, or through sysfs where the bus hides them.
    ///
    /// # Errors
    /// [`Error::Config`], or [`Error::Pci`] from sysfs.
    pub fn vitals(&self) -> Result<Vitals, Error> {
        let inner = &self.inner;
        match read_vitals(&FunctionConfig(&*inner.function)) {
            Ok(vitals) => Ok(vitals),
            Err(ConfigError::Missing(_)) if inner.listed.is_some() => match &inner.listed {
                Some(listed) => Ok(listed.config()?.vitals()?),
                None => Err(inner.config_error(ConfigError::Gone)),
            },
            Err(source) => Err(inner.config_error(source)),
        }
    }
}

impl Inner {
    pub(super) fn config_error(&self, source: ConfigError) -> Error {
        Error::Config {
            device: Arc::clone(&self.name),
            source,
        }
    }
}
