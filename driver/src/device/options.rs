//! How to open a device.

use std::path::PathBuf;
use std::time::Duration;

use super::RecoveryPolicy;
use crate::bus::vfio::Access;
use crate::deadline::Deadline;
use crate::dma::DmaSpace;

/// How to open a device.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub(super) timeout: Duration,
    pub(super) longest: Duration,
    pub(super) space: Option<DmaSpace>,
    pub(super) restart_faulted: bool,
    pub(super) access: Access,
    pub(super) recovery: RecoveryPolicy,
    pub(super) reports: Option<PathBuf>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            longest: Duration::from_secs(120),
            space: None,
            restart_faulted: false,
            access: Access::Auto,
            recovery: RecoveryPolicy::Off,
            reports: None,
        }
    }
}

impl OpenOptions {
    /// How long opening may wait for the chip in all; 30 s unless told. Requests to the bus have their own time beside, 10 s
    /// each with a simulator.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The most that is believed of the timeouts that the chip advertises; 2 minutes unless told.
    #[must_use]
    pub fn longest_timeout(mut self, longest: Duration) -> Self {
        self.longest = longest;
        self
    }

    /// The space to attach the device to, for buffers that many devices reach; a new one unless told.
    #[must_use]
    pub fn space(mut self, space: &DmaSpace) -> Self {
        self.space = Some(space.clone());
        self
    }

    /// Restart the firmware of a chip that is found stopped on a fault, instead of saying so.
    #[must_use]
    pub fn restart_faulted(mut self, yes: bool) -> Self {
        self.restart_faulted = yes;
        self
    }

    /// By which of the kernel's interfaces to open a function that no simulator serves; the best that the host has unless
    /// told.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// What the driver does by itself about a chip or a queue that is of no more use; nothing unless told.
    #[must_use]
    pub fn recovery(mut self, policy: RecoveryPolicy) -> Self {
        self.recovery = policy;
        self
    }

    /// Has a [`Report`](crate::Report) written to this directory when the whole device is met to be of no use, one for each time. It is
    /// made before the policy of recovery is followed, and has the logs when that has brought the chip back.
    #[must_use]
    pub fn reports(mut self, directory: impl Into<PathBuf>) -> Self {
        self.reports = Some(directory.into());
        self
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }
}
