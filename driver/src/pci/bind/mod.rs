//! Giving a function to another driver, and giving it back.
//!
//! By `driver_override`, which names the one driver that may have the function: unlike `new_id` it concerns no other
//! function with the same IDs, and it outlasts a rescan. The way is that of `Documentation/driver-api/vfio.rst` and
//! `Documentation/ABI/testing/sysfs-bus-pci`.
//!
//! Nothing here takes the function's lease. Who changes the driver of a chip takes it first, and keeps it meanwhile.

mod error;
mod record;
mod steps;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::time::Duration;

use auk_asic::config::header;

use super::usage::uses;
use super::{ConfigSpace, Host, PciError, PciFunction, Use, group};
pub use error::{BindError, Rollback, Step};
use record::{Record, Recorded};
use steps::{Kernel, Move, write, write_patiently};

/// The driver of `drivers/vfio/pci` that takes any function.
pub const VFIO_PCI: &str = "vfio-pci";

/// Longest that a forced change waits for those who have the function open.
const PATIENCE: Duration = Duration::from_secs(30);

/// The layout in Header Type, PCI Express Base Specification 6.0, section 7.5.1.1.9: 0 of an endpoint, 1 of a bridge, 2 of a
/// CardBus bridge. Bit 7 says that the device has more functions.
const HEADER_LAYOUT: u8 = 0x7F;

/// What to do with a function that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfInUse {
    /// Leave it alone, and say who uses it.
    Refuse,
    /// Take it away all the same. Those who have it open through VFIO are asked to let go, and waited for.
    Force,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The driver that it had.
    pub before: Option<String>,
    /// The driver that it has.
    pub now: Option<String>,
    /// What was odd on the way and did no harm.
    pub warnings: Vec<String>,
}

/// Gives a function to a driver, as a rule [`VFIO_PCI`]. A function that has that driver already is left alone.
///
/// What it was before is noted down below `run/auk/bind` first, for [`unbind`] by whichever process. When a step fails, the steps before it are
/// undone.
///
/// # Errors
/// [`BindError`]; nothing was changed when it is none of the last four.
pub fn bind(
    host: &Host,
    function: &PciFunction,
    driver: &str,
    if_in_use: IfInUse,
) -> Result<Bound, BindError> {
    let uses = guard(host, function, if_in_use)?;
    bind_by(&kernel(&uses), host, function, driver).map_err(|error| told(error, uses))
}

/// Gives a function back to the driver that it had before [`bind`], or to `driver`. Without a note of a former driver, a function
/// of VFIO's is left to the drivers that match it.
///
/// # Errors
/// As [`bind`].
pub fn unbind(
    host: &Host,
    function: &PciFunction,
    driver: Option<&str>,
    if_in_use: IfInUse,
) -> Result<Bound, BindError> {
    let uses = guard(host, function, if_in_use)?;
    unbind_by(&kernel(&uses), host, function, driver).map_err(|error| told(error, uses))
}

/// Refuses bridges always, and functions in use unless told otherwise.
fn guard(host: &Host, function: &PciFunction, if_in_use: IfInUse) -> Result<Vec<Use>, BindError> {
    let bdf = function.bdf();
    let config = function.config()?;
    let broken = |source| PciError::Config { bdf, source };
    config.identity().map_err(broken)?;
    let layout = config.read_u8(header::TYPE).map_err(broken)? & HEADER_LAYOUT;
    if layout != 0 {
        return Err(BindError::Bridge { bdf });
    }
    let uses = uses(host, function);
    match if_in_use {
        IfInUse::Refuse if !uses.is_empty() => Err(BindError::InUse { bdf, uses }),
        _ => Ok(uses),
    }
}

/// Unbinding a function that somebody has open sleeps until it is closed (`vfio_unregister_group_dev`).
fn kernel(uses: &[Use]) -> impl Fn(&Path, &str) -> io::Result<()> + use<> {
    let is_open = uses.iter().any(|used| matches!(used, Use::Open(_)));
    move |path, text| match is_open && path.ends_with("unbind") {
        true => write_patiently(path, text, PATIENCE),
        false => write(path, text),
    }
}

/// A wait that ended is not an error of the kernel's.
fn told(error: BindError, uses: Vec<Use>) -> BindError {
    match error {
        BindError::Step { bdf, source, .. } if source.kind() == io::ErrorKind::TimedOut => {
            BindError::StillOpen {
                bdf,
                uses,
                waited: PATIENCE,
            }
        }
        error => error,
    }
}

fn bind_by(
    kernel: Kernel<'_>,
    host: &Host,
    function: &PciFunction,
    driver: &str,
) -> Result<Bound, BindError> {
    let bdf = function.bdf();
    check_driver(host, driver)?;
    let way = start(kernel, host, function)?;
    let mut warnings = Vec::new();
    let before = way.driver.clone();
    if before.as_deref() == Some(driver) {
        return Ok(Bound {
            now: before.clone(),
            before,
            warnings,
        });
    }
    if group::is_vfio_driver(driver) && !may_have_group(host, function)? {
        return Err(BindError::NoIommu { bdf });
    }
    let older = match Record::read(host, function, before.as_deref()) {
        Recorded::Before(older) => Some(older),
        Recorded::Nothing => None,
        Recorded::Stale(why) => {
            warnings.push(why);
            None
        }
    };
    // From one of our drivers to the next: what it was before the first still counts.
    let (first, first_override) = match &older {
        Some(older) => (&older.driver, &older.driver_override),
        None => (&before, &way.driver_override),
    };
    let record = Record {
        driver: first.clone(),
        driver_override: first_override.clone(),
        bound_to: driver.to_owned(),
        vendor: function.vendor()?,
        device: function.device()?,
    };
    note_down(host, function, &record)?;
    if let Err(trouble) = way.go(Some(driver), Some(driver)) {
        let error = way.undo(trouble);
        if error.is_undone() {
            match &older {
                Some(older) => note_down(host, function, older)?,
                None => Record::forget(host, bdf),
            }
        }
        return Err(error);
    }
    Ok(Bound {
        before,
        now: function.driver()?,
        warnings,
    })
}

fn note_down(host: &Host, function: &PciFunction, record: &Record) -> Result<(), BindError> {
    let bdf = function.bdf();
    let path = Record::path(host, bdf);
    record
        .write(&path)
        .map_err(|source| BindError::Record { bdf, path, source })
}

fn unbind_by(
    kernel: Kernel<'_>,
    host: &Host,
    function: &PciFunction,
    driver: Option<&str>,
) -> Result<Bound, BindError> {
    let bdf = function.bdf();
    if let Some(driver) = driver {
        check_driver(host, driver)?;
    }
    let way = start(kernel, host, function)?;
    let before = way.driver.clone();
    let mut warnings = Vec::new();
    let record = match Record::read(host, function, before.as_deref()) {
        Recorded::Before(record) => Some(record),
        Recorded::Nothing => None,
        Recorded::Stale(why) => {
            warnings.push(why);
            None
        }
    };
    let gone = match (&driver, &record) {
        (Some(driver), _) => way.go(Some(driver), None),
        (None, Some(record)) => way.go(record.driver.as_deref(), record.driver_override.as_deref()),
        (None, None) => match &before {
            Some(found) if !is_ours(found) => {
                return Err(BindError::NotBound {
                    bdf,
                    driver: found.clone(),
                });
            }
            _ => way.go(None, None).and_then(|()| way.probe()),
        },
    };
    gone.map_err(|trouble| way.undo(trouble))?;
    Record::forget(host, bdf);
    Ok(Bound {
        before,
        now: function.driver()?,
        warnings,
    })
}

fn start<'a>(
    kernel: Kernel<'a>,
    host: &'a Host,
    function: &'a PciFunction,
) -> Result<Move<'a>, BindError> {
    // The kernel writes its `(null)` for none.
    let text = function.text("driver_override")?;
    Ok(Move {
        host,
        function,
        kernel,
        driver: function.driver()?,
        driver_override: Some(text).filter(|text| !text.is_empty() && text != "(null)"),
    })
}

fn check_driver(host: &Host, driver: &str) -> Result<(), BindError> {
    if !is_driver_name(driver) {
        return Err(BindError::DriverName {
            found: driver.chars().take(64).collect(),
        });
    }
    let path = host.root().join("sys/bus/pci/drivers").join(driver);
    if !path.is_dir() {
        return Err(BindError::NoDriver {
            driver: driver.to_owned(),
            path,
        });
    }
    Ok(())
}

/// Whether a text can be the name of a driver: it becomes a part of a path and a line.
fn is_driver_name(name: &str) -> bool {
    let harmless = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    !name.is_empty() && name.len() < 256 && name.bytes().all(harmless) && !name.starts_with('.')
}

/// Whether a driver is one that functions are given to, and not one that they come with.
fn is_ours(driver: &str) -> bool {
    group::is_vfio_driver(driver) || driver == "pci-stub"
}

/// Whether VFIO can find the function in a group. Some IOMMUs' drivers give it one only when a driver asks (`virtio_iommu`), and VFIO
/// makes one up in its no-IOMMU mode, a parameter of its module.
fn may_have_group(host: &Host, function: &PciFunction) -> Result<bool, BindError> {
    if function.iommu_group()?.is_some() {
        return Ok(true);
    }
    let below = |path: &str| host.root().join(path);
    let units = std::fs::read_dir(below("sys/class/iommu"));
    let mode = std::fs::read_to_string(below(
        "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
    ));
    Ok(units.is_ok_and(|mut units| units.next().is_some())
        || mode.is_ok_and(|mode| mode.trim() == "Y"))
}
