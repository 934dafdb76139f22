//! What a function was before it was bound, kept where the next process finds it and the next boot does not.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::{Bdf, Host, PciFunction};
use super::is_driver_name;

/// Most bytes that are read of a record.
const MOST_TEXT: u64 = 4096;

/// A function as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The driver that it had.
    pub(super) driver: Option<String>,
    /// Its `driver_override`.
    pub(super) driver_override: Option<String>,
    /// What it was bound to. It has another driver now? Then somebody else was there since, and the record is stale.
    pub(super) bound_to: String,
    /// Vendor and device ID: another card may have come to the same slot.
    pub(super) vendor: u16,
    pub(super) device: u16,
}

/// What a record says.
pub(super) enum Recorded {
    Nothing,
    Before(Record),
    /// It says nothing of use; why.
    Stale(String),
}

impl Record {
    pub(super) fn path(host: &Host, bdf: Bdf) -> PathBuf {
        host.root().join(format!("run/auk/bind/{bdf}"))
    }

    /// The drivers that it names.
    fn names(&self) -> impl Iterator<Item = &String> {
        let may_be = [&self.driver, &self.driver_override];
        may_be.into_iter().flatten().chain([&self.bound_to])
    }

    /// Whole or not at all: a process that dies on the way leaves the old one.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = directory.join(format!(".{name}.{}", std::process::id()));
        let written = File::create(&new)
            .and_then(|mut file| {
                file.write_all(&serde_json::to_vec(self)?)?;
                file.write_all(b"\n")
            })
            .and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // It was never there, or is of no use.
            let _ = fs::remove_file(&new);
        }
        written
    }

    /// What is recorded of a function whose driver is now `driver`.
    pub(super) fn read(host: &Host, function: &PciFunction, driver: Option<&str>) -> Recorded {
        let path = Self::path(host, function.bdf());
        let shown = path.display();
        let mut text = Vec::new();
        match File::open(&path).and_then(|file| file.take(MOST_TEXT).read_to_end(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Recorded::Nothing,
            Err(error) => return Recorded::Stale(format!("{shown} cannot be read: {error}")),
            Ok(_) => {}
        }
        let record: Self = match serde_json::from_slice(&text) {
            Ok(record) => record,
            Err(error) => return Recorded::Stale(format!("{shown} is no record: {error}")),
        };
        if let Some(name) = record.names().find(|name| !is_driver_name(name)) {
            let name: String = name.chars().take(64).collect();
            return Recorded::Stale(format!("{shown} names a driver {name:?}, which is none"));
        }
        if (function.vendor().ok(), function.device().ok())
            != (Some(record.vendor), Some(record.device))
        {
            return Recorded::Stale(format!(
                "{shown} is of another device, {:04x}:{:04x}, that was in this place",
                record.vendor, record.device
            ));
        }
        match driver {
            Some(driver) if driver != record.bound_to => Recorded::Stale(format!(
                "{shown} says that it was bound to {}, and its driver is {driver}: somebody else has bound it since",
                record.bound_to
            )),
            _ => Recorded::Before(record),
        }
    }

    /// Forgets it. One that stays is found to be stale by the next who reads it.
    pub(super) fn forget(host: &Host, bdf: Bdf) {
        let path = Self::path(host, bdf);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a record of a former driver stays");
        }
    }
}
