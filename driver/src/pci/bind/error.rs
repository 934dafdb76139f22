//! Why a function was not given to a driver.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::super::{Bdf, PciError, Use};

/// Errors of [`bind`](super::bind) and [`unbind`](super::unbind).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// What sysfs says of the function could not be read.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// The function is a bridge: what is behind it would lose its way to the host. Bind what is behind it instead.
    #[error(
        "{bdf}: a bridge is never given away: all that is behind it goes with it; bind the devices behind it instead"
    )]
    Bridge {
        /// The function.
        bdf: Bdf,
    },
    /// Something uses the function. Stop that first, or force.
    #[error("{bdf}: in use: {}", Uses(uses))]
    InUse {
        /// The function.
        bdf: Bdf,
        /// What uses it.
        uses: Vec<Use>,
    },
    /// What was given as a driver's name cannot be one.
    #[error("\"{found}\" is not the name of a driver")]
    DriverName {
        /// The beginning of what was given.
        found: String,
    },
    /// The driver is not loaded. Load its module.
    #[error("no driver {driver} at {}; load it: modprobe {driver}", path.display())]
    NoDriver {
        /// The driver.
        driver: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// The function is in no IOMMU group, so VFIO will not have it. Turn the IOMMU on.
    #[error(
        "{bdf}: it is in no IOMMU group, and VFIO takes only what an IOMMU protects the host from; turn the IOMMU on, in the \
         firmware's setup and on the kernel's command line (intel_iommu=on)"
    )]
    NoIommu {
        /// The function.
        bdf: Bdf,
    },
    /// Nothing is known of a former driver, and the present one is not VFIO's. Name the driver it should have.
    #[error(
        "{bdf}: its driver is {driver}, and not by `auk bind`: there is nothing to restore; name the driver that it should have"
    )]
    NotBound {
        /// The function.
        bdf: Bdf,
        /// The present driver.
        driver: String,
    },
    /// A step failed. What was done before it was undone, unless it says otherwise.
    #[error("{bdf}: {step}: {source} ({meaning}){rollback}")]
    Step {
        /// The function.
        bdf: Bdf,
        /// What was being done.
        step: Step,
        /// What the kernel said.
        source: io::Error,
        /// What that means here, and what to do.
        meaning: &'static str,
        /// Whether the function is as it was.
        rollback: Rollback,
    },
    /// The kernel took a step without an error, and the function's driver is not the one it should be then.
    #[error(
        "{bdf}: {step}: the kernel took it, and yet its driver is {}, not {}; the kernel's log may say why{rollback}", name(found.as_deref()), name(expected.as_deref())
    )]
    NoEffect {
        /// The function.
        bdf: Bdf,
        /// What was done.
        step: Step,
        /// The driver that it has.
        found: Option<String>,
        /// The driver that it should have.
        expected: Option<String>,
        /// Whether the function is as it was.
        rollback: Rollback,
    },
    /// The function is open through VFIO; its users were asked to let go, and did not in time. The kernel takes it away as soon as
    /// they do; call [`unbind`](super::unbind) again then.
    #[error(
        "{bdf}: {} not let go within {} s; the kernel asked, and takes it away once that happens; then do the same again",
        Holders(uses), waited.as_secs()
    )]
    StillOpen {
        /// The function.
        bdf: Bdf,
        /// Who has it.
        uses: Vec<Use>,
        /// How long was waited.
        waited: Duration,
    },
    /// The former driver could not be noted down, so nothing was changed. Look at the directory's permissions.
    #[error("{bdf}: noting its driver down in {}: {source}; nothing was changed", path.display())]
    Record {
        /// The function.
        bdf: Bdf,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BindError {
    /// Whether steps were taken and undone.
    pub(super) const fn is_undone(&self) -> bool {
        matches!(
            self,
            Self::Step {
                rollback: Rollback::Done,
                ..
            } | Self::NoEffect {
                rollback: Rollback::Done,
                ..
            }
        )
    }
}

/// A write to sysfs on the way from one driver to another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// `driver_override` of the function: the one driver that may have it; none lets any.
    Override(Option<String>),
    /// `unbind` of its driver.
    Unbind(String),
    /// `drivers_probe` of the bus: whoever matches may have it.
    Probe,
    /// `bind` of a driver.
    Bind(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Override(Some(driver)) => write!(f, "setting driver_override to {driver}"),
            Self::Override(None) => f.write_str("clearing driver_override"),
            Self::Unbind(driver) => write!(f, "unbinding it from {driver}"),
            Self::Probe => f.write_str("having drivers probed"),
            Self::Bind(driver) => write!(f, "binding it to {driver}"),
        }
    }
}

/// What became of the steps before the one that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// There were none, or they were undone: the function is as it was.
    Done,
    /// They could not all be undone; the reason.
    Failed(String),
}

impl fmt::Display for Rollback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("; it is as it was before"),
            Self::Failed(reason) => write!(f, "; it could not be brought back: {reason}"),
        }
    }
}

/// What an errno of a step means, by `drivers/base/bus.c`, `drivers/base/dd.c` and `drivers/vfio/pci/vfio_pci_core.c`.
pub(super) fn meaning(step: &Step, source: &io::Error) -> &'static str {
    if source.kind() == io::ErrorKind::Unsupported {
        return "these are plain files, as a simulated host has them: there is no kernel that acts on them";
    }
    match (source.raw_os_error(), step) {
        (Some(libc::EACCES | libc::EPERM), _) => "only root may; run it as root",
        (Some(libc::EROFS), _) => {
            "sysfs is mounted read-only, as containers have it; run it on the host"
        }
        (Some(libc::ENOENT), Step::Override(_)) => {
            "the function is gone, or this is no host's sysfs"
        }
        (Some(libc::ENOENT), Step::Probe) => "this is no host's sysfs",
        (Some(libc::ENOENT), _) => "the driver is not loaded any more; modprobe it",
        (Some(libc::ENODEV), Step::Unbind(_)) => "another has taken it from that driver meanwhile",
        (Some(libc::ENODEV), Step::Bind(_)) => {
            "the driver does not know such a device, or the device does not answer it"
        }
        (Some(libc::ENODEV), _) => "the function is gone; rescan the bus",
        (Some(libc::EBUSY), _) => {
            "another driver has it, or a process has its IOMMU group open through VFIO; end that process first"
        }
        (Some(libc::EINVAL), Step::Override(_)) => "the kernel does not take that name",
        (Some(libc::EINVAL), _) => {
            "the driver refuses such a function: VFIO wants an endpoint in an IOMMU group; turn the IOMMU on"
        }
        (Some(libc::EAGAIN), _) => "the driver waits for another device first; try again later",
        _ => "the kernel's log says more",
    }
}

fn name(driver: Option<&str>) -> &str {
    driver.unwrap_or("none")
}

struct Uses<'a>(&'a [Use]);

impl fmt::Display for Uses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("; "))
    }
}

struct Holders<'a>(&'a [Use]);

impl fmt::Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .0
            .iter()
            .filter_map(|used| match used {
                Use::Open(holder) => Some(holder.to_string()),
                _ => None,
            })
            .collect();
        match names.len() {
            0 => f.write_str("its user has"),
            1 => write!(f, "{} has", names[0]),
            _ => write!(f, "{} have", names.join(", ")),
        }
    }
}
