//! The functions of a host.

use std::io;
use std::path::{Path, PathBuf};

use auk_asic::ident;

use super::{Bdf, PciError, PciFunction};

/// A host, real or simulated: a directory that has its `sys`, `run` and `dev`.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The host whose tree begins at `root`; `/` is this machine.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where the tree begins.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All PCI functions, sorted by address.
    ///
    /// # Errors
    /// [`PciError::NoTree`] when the root has no `sys/bus/pci/devices`, [`PciError::Address`] when that
    /// holds something other than functions.
    pub fn functions(&self) -> Result<Vec<PciFunction>, PciError> {
        let path = self.devices();
        let no_tree = |source: io::Error| PciError::NoTree {
            path: path.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(no_tree)? {
            let entry = entry.map_err(no_tree)?;
            let bdf: Bdf = entry.file_name().to_string_lossy().parse()?;
            found.push(PciFunction::new(bdf, entry.path()));
        }
        found.sort_by_key(PciFunction::bdf);
        Ok(found)
    }

    /// The functions that say by vendor and device ID that they are A1s, sorted by address.
    ///
    /// # Errors
    /// As [`Host::functions`]. A function that vanishes meanwhile is left out.
    pub fn accelerators(&self) -> Result<Vec<PciFunction>, PciError> {
        Ok(self
            .functions()?
            .into_iter()
            .filter(|function| {
                matches!(
                    (function.vendor(), function.device()),
                    (Ok(ident::VENDOR), Ok(device)) if ident::Model::parse(device).is_ok()
                )
            })
            .collect())
    }

    /// The function at `bdf`.
    ///
    /// # Errors
    /// [`PciError::NoSuchFunction`], or [`PciError::NoTree`] when there are no functions at all.
    pub fn function(&self, bdf: Bdf) -> Result<PciFunction, PciError> {
        let devices = self.devices();
        if let Err(source) = std::fs::metadata(&devices) {
            return Err(PciError::NoTree {
                path: devices,
                source,
            });
        }
        let path = devices.join(bdf.to_string());
        if !path.exists() {
            return Err(PciError::NoSuchFunction { bdf, path });
        }
        Ok(PciFunction::new(bdf, path))
    }

    /// Where the simulator of the chip at `bdf` listens, whether or not there is one.
    #[must_use]
    pub fn simulator_socket(&self, bdf: Bdf) -> PathBuf {
        self.root.join(format!("run/auk/sim/{bdf}.sock"))
    }

    /// The lock file that says who holds the chip at `bdf`.
    #[must_use]
    pub fn lease_path(&self, bdf: Bdf) -> PathBuf {
        self.root.join(format!("run/auk/lease/{bdf}"))
    }

    fn devices(&self) -> PathBuf {
        self.root.join("sys/bus/pci/devices")
    }
}
