//! How the command ends when it could not do what it was asked: a message, its causes, and what to try.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write};

use auk_driver::Error as DriverError;
use auk_driver::bus::BusError;
use auk_driver::pci::bind::BindError;
use auk_driver::pci::{ConfigError, PciError};

/// Exit code: something was found to be wrong, or could not be seen.
pub(crate) const FOUND_WRONG: u8 = 1;
/// Exit code: it could not be done. (2 is clap's, for a command line that makes no sense.)
pub(crate) const COULD_NOT: u8 = 3;

/// An error with advice.
#[derive(Debug)]
struct Hinted {
    hint: String,
    error: anyhow::Error,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Hinted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// The error, with advice that is printed below its causes.
pub(crate) fn with_hint(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Hinted {
        hint: hint.into(),
        error: error.into(),
    })
}

/// Prints the error to stderr. A stderr that nobody reads is no further error.
pub(crate) fn report(error: &anyhow::Error) {
    let _ = io::stderr().write_all(describe(error).as_bytes());
}

fn describe(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    let mut text = format!("error: {said}\n");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Many messages end in that of their source already.
        if !said.contains(&cause) {
            // Problems of a configuration come a line each.
            let lines = cause.replace('\n', "\n             ");
            text.push_str(&format!("  caused by: {lines}\n"));
            said = cause;
        }
    }
    if let Some(hint) = hint(error) {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    text
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        return Some(hinted.hint.clone());
    }
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<PciError>() {
            return pci_hint(error);
        }
        if let Some(error) = cause.downcast_ref::<BindError>() {
            return bind_hint(error);
        }
        driver_hint(cause.downcast_ref::<DriverError>()?)
    })
}

fn pci_hint(error: &PciError) -> Option<String> {
    Some(match error {
        PciError::NoTree { .. } => {
            "give the root of a host with --root DIR; `auk sim host --root DIR` starts a simulated one"
                .to_owned()
        }
        PciError::Config {
            source: ConfigError::Short { .. },
            ..
        } => "run as root: the kernel shows others the first 64 bytes only".to_owned(),
        error if error.is_gone() => {
            "rescan the bus (write 1 to sys/bus/pci/rescan), or look at the slot".to_owned()
        }
        _ => return None,
    })
}

fn bind_hint(error: &BindError) -> Option<String> {
    Some(match error {
        BindError::Pci(error) => return pci_hint(error),
        BindError::InUse { .. } => "stop that first; --force takes it all the same".to_owned(),
        BindError::NotBound { .. } => "--driver NAME gives it to that driver".to_owned(),
        BindError::NoIommu { .. } => "`auk doctor` shows what the host lacks".to_owned(),
        _ => return None,
    })
}

fn driver_hint(error: &DriverError) -> Option<String> {
    Some(match error {
        DriverError::Pci(error) => return pci_hint(error),
        DriverError::Busy { .. } => {
            "wait until it is done, or leave out --open: all else is read without touching the chip"
                .to_owned()
        }
        DriverError::Faulted { .. } => {
            "leave out --open to see its vital signs; the last fault and the counters are there"
                .to_owned()
        }
        DriverError::Disconnected { .. }
        | DriverError::Bus {
            source: BusError::Connect { .. },
            ..
        } => "is its simulator still running? Start it again with `auk sim host`".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn causes_are_told_once_and_the_hint_comes_last() {
        let error = Err::<(), _>(with_hint(
            anyhow!("the disk is full").context("writing failed: the disk is full"),
            "delete something",
        ))
        .context("saving")
        .unwrap_err();
        assert_eq!(
            describe(&error),
            "error: saving\n  caused by: writing failed: the disk is full\n  hint: delete something\n"
        );
    }

    #[test]
    fn a_wrong_root_is_answered_with_what_to_give_instead() {
        let error = auk_driver::pci::Host::at("/nowhere/at/all").functions();
        let text = describe(&error.unwrap_err().into());
        assert!(text.contains("/nowhere/at/all"), "{text}");
        assert!(text.contains("hint: give the root"), "{text}");
    }
}
