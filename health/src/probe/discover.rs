//! Which accelerators and NICs a host has.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use auk_asic::ident::{Model, VENDOR};
use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::{ProbeError, text};
use crate::facts::Kind;
use crate::operator::HOST;

/// A function worth watching.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Address, as sysfs writes it.
    pub bdf: String,
    /// What it is.
    pub kind: Kind,
    /// PCI vendor and device ID, `1ae5:a100`.
    pub pci_id: String,
    /// Its network interface.
    pub interface: Option<String>,
    /// Of the host: what the manifest asks of it beyond what is always read.
    pub asked: Vec<String>,
}

impl Found {
    /// The host itself.
    #[must_use]
    pub fn host(asked: Vec<String>) -> Self {
        Self {
            bdf: HOST.to_owned(),
            kind: Kind::Host,
            pci_id: String::new(),
            interface: None,
            asked,
        }
    }
}

impl Found {
    /// Device ID in the upper half, vendor ID in the lower one, as config space begins.
    pub(super) fn ids(&self) -> Option<u32> {
        let (vendor, device) = self.pci_id.split_once(':')?;
        let half = |text| u16::from_str_radix(text, 16).ok().map(u32::from);
        Some(half(device)? << 16 | half(vendor)?)
    }
}

/// Whether a name is a PCI address in full, `0000:01:00.0`.
#[must_use]
pub fn is_bdf(name: &str) -> bool {
    let mut parts = name.splitn(3, ':');
    let hex = |part: Option<&str>, least: usize, most: usize| {
        part.is_some_and(|part| {
            (least..=most).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    // Domains beyond 16 bits exist: VMD has them.
    if !hex(parts.next(), 4, 8) || !hex(parts.next(), 2, 2) {
        return false;
    }
    let Some((device, function)) = parts.next().and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    hex(Some(device), 2, 2) && matches!(function.as_bytes(), [b'0'..=b'7'])
}

/// Lists a host's accelerators and NICs by address, as [`Discovery::list`] does the first time.
///
/// # Errors
/// As [`Discovery::list`].
pub fn discover(root: &Path) -> Result<Vec<Found>, ProbeError> {
    Discovery::new(root).list()
}

/// Lists a host's devices again and again, and reads each function's IDs once.
#[derive(Debug)]
pub struct Discovery {
    root: PathBuf,
    known: BTreeMap<String, Function>,
    unread: Option<ProbeError>,
}

/// What does not change while a function is listed.
#[derive(Clone, Copy, Debug)]
struct Function {
    vendor: u32,
    device: u32,
    /// The physical one has the link, the counters and the port.
    is_virtual: bool,
    is_network: bool,
}

/// PCI Code and ID Assignment Specification 1.15, section 1.3: network controllers.
const NETWORK: u32 = 0x02;

impl Function {
    fn read(directory: &Directory) -> Result<Self, ProbeError> {
        Ok(Self {
            vendor: directory.hexadecimal("vendor")?,
            device: directory.hexadecimal("device")?,
            is_virtual: directory.link("physfn")?.is_some(),
            is_network: directory
                .hexadecimal("class")
                .is_ok_and(|class| class >> 16 == NETWORK),
        })
    }

    fn is_accelerator(self) -> bool {
        self.vendor == u32::from(VENDOR)
            && u16::try_from(self.device).is_ok_and(|device| Model::parse(device).is_ok())
    }
}

/// Whether a function is an accelerator, or by its class a NIC: what the opener may open.
///
/// # Errors
/// When its IDs or its class cannot be read.
pub(crate) fn is_watched(function: &Directory) -> Result<bool, ProbeError> {
    let ids = Function::read(function)?;
    Ok(ids.is_accelerator() || function.hexadecimal("class")? >> 16 == NETWORK)
}

impl Discovery {
    /// A list of the host under `root`; reads nothing yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            known: BTreeMap::new(),
            unread: None,
        }
    }

    /// Why the last list may not be whole: of some function it could not be read what it is.
    #[must_use]
    pub fn unread(&self) -> Option<&ProbeError> {
        self.unread.as_ref()
    }

    /// The accelerators and NICs by address. Virtual functions are left out.
    ///
    /// # Errors
    /// When the list of devices cannot be read or is not there: the root is no host's, or its `/sys`
    /// is not mounted.
    pub fn list(&mut self) -> Result<Vec<Found>, ProbeError> {
        let ports = interfaces(&self.root)?;
        let directory = self.root.join("sys/bus/pci/devices");
        let mut found = Vec::new();
        self.unread = None;
        let listed = listing(&directory)?;
        self.known
            .retain(|bdf, _| listed.binary_search(bdf).is_ok());
        for bdf in listed {
            let function = match self.known.get(&bdf) {
                Some(function) => *function,
                None if !is_bdf(&bdf) => continue,
                None => match Directory::open(&directory.join(&bdf))
                    .and_then(|directory| Function::read(&directory))
                {
                    Ok(function) => {
                        self.known.insert(bdf.clone(), function);
                        function
                    }
                    Err(error) => {
                        // A device may leave between the listing and this; the next list has it no more.
                        if directory.join(&bdf).is_dir() {
                            self.unread.get_or_insert(error);
                        }
                        continue;
                    }
                },
            };
            let interface = ports.get(&bdf).cloned();
            let kind = match (function.is_accelerator(), &interface) {
                _ if function.is_virtual => continue,
                (true, _) => Kind::Accelerator,
                (false, Some(_)) => Kind::Nic,
                (false, None) if function.is_network && has_port(&directory.join(&bdf)) => {
                    Kind::Nic
                }
                (false, None) => continue,
            };
            found.push(Found {
                pci_id: format!("{:04x}:{:04x}", function.vendor, function.device),
                bdf,
                kind,
                interface,
                asked: Vec::new(),
            });
        }
        Ok(found)
    }
}

/// Whether a function of the network class has a port though no interface of it is listed. The kernel shows no interface of
/// another network namespace, and still the directory that it is in; and InfiniBand needs none.
fn has_port(function: &Path) -> bool {
    let is_there = |name: &&str| function.join(name).is_dir();
    ["net", "infiniband"].iter().any(is_there)
}

/// Interfaces by the address of the function that they belong to; of more than one the first.
fn interfaces(root: &Path) -> Result<BTreeMap<String, String>, ProbeError> {
    let directory = root.join("sys/class/net");
    let owned = |name: String| {
        let target = fs::read_link(directory.join(&name)).ok()?;
        Some((owner(&target)?, name))
    };
    let names = names(&directory)?;
    Ok(names.into_iter().rev().filter_map(owned).collect())
}

/// The last PCI address in a device path; a virtual interface has none.
fn owner(path: &Path) -> Option<String> {
    path.iter()
        .rev()
        .filter_map(|part| part.to_str())
        .find(|part| is_bdf(part))
        .map(str::to_owned)
}

/// Names in a directory that not every host has, in order; none when it is not there.
fn names(directory: &Path) -> Result<Vec<String>, ProbeError> {
    match listing(directory) {
        Err(ProbeError::NotFound { .. }) => Ok(Vec::new()),
        listed => listed,
    }
}

/// Names in a directory, in order.
fn listing(directory: &Path) -> Result<Vec<String>, ProbeError> {
    let failed = |error: &io::Error| ProbeError::io(directory, error);
    let entries = fs::read_dir(directory).map_err(|error| failed(&error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(&error))?;
        // Names that are not UTF-8 are not the kernel's.
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The directory of the port above a function, from where its link in `sys/bus/pci` leads.
#[must_use]
pub(crate) fn upstream(function: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(function).ok()?;
    let parent = real.parent()?;
    is_bdf(parent.file_name()?.to_str()?).then(|| parent.to_owned())
}

/// The physical slot of a function: `sys/bus/pci/slots/*/address` has its address without the
/// function number.
#[must_use]
pub(crate) fn slot(root: &Path, bdf: &str) -> Option<String> {
    let (device, _) = bdf.rsplit_once('.')?;
    let directory = root.join("sys/bus/pci/slots");
    names(&directory).ok()?.into_iter().find(|name| {
        text::read(&directory.join(name).join("address")).is_ok_and(|address| address == device)
    })
}
