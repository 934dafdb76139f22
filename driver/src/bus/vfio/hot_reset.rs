//! Hot reset: of a whole bus or slot, and so of every function there.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use libc::c_int;
use vfio_bindings::bindings::vfio;

use super::Vfio;
use super::device::Attachment;
use super::errno::Call;
use super::group::Group;
use super::info::{BadInfo, Info};
use super::ioctl::{self, InfoRequest};
use crate::bus::BusError;
use crate::deadline::Deadline;
use crate::pci::Bdf;

/// Whose a function is that a hot reset affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Of whoever has this IOMMU group open; all groups must be named for the reset.
    Group(u32),
    /// Ours: it is behind the same iommufd, or in a group of a function that is.
    Ours,
    /// Somebody else's, or nobody's.
    Other,
}

/// A function that a hot reset affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffectedFunction {
    /// Its address.
    pub bdf: Bdf,
    /// Whose it is.
    pub owner: Owner,
}

impl fmt::Display for AffectedFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner {
            Owner::Group(group) => write!(f, "{} (IOMMU group {group})", self.bdf),
            Owner::Ours => write!(f, "{} (ours)", self.bdf),
            Owner::Other => write!(f, "{} (not ours)", self.bdf),
        }
    }
}

/// What a hot reset keeps open until it is over.
struct Kept {
    device: Arc<OwnedFd>,
    groups: Vec<Arc<Group>>,
}

impl Vfio {
    /// The functions that a hot reset of this one would reset, itself included.
    ///
    /// # Errors
    /// [`BusError::Unsupported`] when the kernel can reset neither bus nor slot, and what it says.
    pub fn hot_reset_group(&self) -> Result<Vec<AffectedFunction>, BusError> {
        let call = Call::HotResetInfo;
        self.resets.idle(call)?;
        let info = ioctl::info(&self.device, InfoRequest::HotReset, None).map_err(|errno| {
            if errno == nix::errno::Errno::ENODEV {
                BusError::Unsupported {
                    what: call.name().to_owned(),
                    reason: "neither the function's bus nor its slot can be reset".to_owned(),
                }
            } else {
                call.error(errno)
            }
        })?;
        affected(&info).map_err(|bad| BusError::Protocol {
            what: call.name().to_owned(),
            reason: bad.to_string(),
        })
    }

    /// Resets the bus or slot, with all functions there; those that are open must be `with`.
    ///
    /// # Errors
    /// [`BusError::NotOwned`] naming the functions that are not among them, [`BusError::TimedOut`] as
    /// [`Function::reset`](crate::bus::Function::reset) has it, and what the kernel says.
    pub fn hot_reset(&self, with: &[&Self], deadline: Deadline) -> Result<(), BusError> {
        let mut groups: BTreeMap<u32, Arc<Group>> = BTreeMap::new();
        for function in with.iter().copied().chain([self]) {
            if let Attachment::Group(group) = &function.attachment {
                groups.insert(group.number(), Arc::clone(group));
            }
        }
        let missing: Vec<String> = self
            .hot_reset_group()?
            .iter()
            .filter(|affected| match affected.owner {
                Owner::Group(number) => !groups.contains_key(&number),
                Owner::Ours => false,
                Owner::Other => true,
            })
            .map(|affected| format!("{affected}, driver {}", self.driver_of(affected.bdf)))
            .collect();
        if !missing.is_empty() {
            return Err(BusError::NotOwned { functions: missing });
        }
        let kept = Kept {
            device: Arc::clone(&self.device),
            groups: groups.into_values().collect(),
        };
        self.resets.run(Call::HotReset, deadline, move || {
            let fds: Vec<c_int> = kept
                .groups
                .iter()
                .map(|group| group.as_fd().as_raw_fd())
                .collect();
            ioctl::hot_reset(&kept.device, &fds)
        })
    }

    fn driver_of(&self, bdf: Bdf) -> String {
        let driver = self
            .host
            .function(bdf)
            .and_then(|function| function.driver());
        match driver {
            Ok(Some(driver)) => driver,
            Ok(None) => "none".to_owned(),
            Err(_) => "unknown".to_owned(),
        }
    }
}

fn affected(info: &Info) -> Result<Vec<AffectedFunction>, BadInfo> {
    use vfio::vfio_pci_dependent_device as entry;
    use vfio::vfio_pci_hot_reset_info as header;

    /// `VFIO_PCI_DEVID_NOT_OWNED`; any other number is a device of ours, or of a group of ours.
    const NOT_OWNED: u32 = u32::MAX;

    let by_device =
        info.u32(offset_of!(header, flags))? & vfio::VFIO_PCI_HOT_RESET_FLAG_DEV_ID != 0;
    let count = info.u32(offset_of!(header, count))? as usize;
    let start = offset_of!(header, devices);
    let mut found = Vec::new();
    for i in 0..count {
        let at = start + i * size_of::<entry>();
        let id = info.u32(at)?;
        let segment = u16::from_ne_bytes(info.take(at + offset_of!(entry, segment))?);
        let [bus, devfn] = info.take(at + offset_of!(entry, bus))?;
        // `PCI_SLOT` and `PCI_FUNC` of `<linux/pci.h>`.
        let Some(bdf) = Bdf::new(u32::from(segment), bus, devfn >> 3, devfn & 7) else {
            continue;
        };
        let owner = match (by_device, id) {
            (false, group) => Owner::Group(group),
            (true, NOT_OWNED) => Owner::Other,
            (true, _) => Owner::Ours,
        };
        found.push(AffectedFunction { bdf, owner });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(flags: u32, devices: &[(u32, u32)]) -> Info {
        let mut bytes = Vec::new();
        for word in [0, flags, devices.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        for (id, place) in devices {
            bytes.extend(id.to_ne_bytes());
            bytes.extend(place.to_ne_bytes());
        }
        Info::new(bytes)
    }

    #[test]
    fn functions_are_told_with_their_group_or_their_owner() {
        let by_group = affected(&answer(0, &[(7, 0x0941_0000)])).unwrap();
        assert_eq!(by_group[0].to_string(), "0000:41:01.1 (IOMMU group 7)");
        let by_device = vfio::VFIO_PCI_HOT_RESET_FLAG_DEV_ID;
        let found = affected(&answer(by_device, &[(0, 0), (3, 1), (u32::MAX, 2)])).unwrap();
        let owners: Vec<_> = found.iter().map(|function| function.owner).collect();
        assert_eq!(owners, [Owner::Ours, Owner::Ours, Owner::Other]);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = affected(&Info::new(bytes));
        }
    }
}
