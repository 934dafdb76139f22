//! What the manifest names and the host does not list.

use super::Engine;
use crate::config::Entry;
use crate::facts::{Facts, Identity, Kind, Presence};
use crate::probe::discover::is_bdf;
use crate::probe::target::Sample;
use crate::time::Moment;

/// A component that the manifest names, and that none of the host's can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it should be.
    pub kind: Kind,
    /// Its address, or where the manifest gives none its name there.
    pub name: String,
    /// What it is known by, but for the address.
    pub identity: Identity,
}

impl Missing {
    /// A look that did not find it.
    #[must_use]
    pub fn sample(&self, at: Moment) -> Sample {
        Sample {
            bdf: self.name.as_str().into(),
            kind: self.kind,
            identity: self.identity.clone(),
            facts: Facts {
                presence: Some(Ok(Presence::Absent)),
                ..Facts::none(at)
            },
        }
    }

    fn of(kind: Kind, entry: &Entry<'_>) -> Self {
        let name = match entry.address {
            Some(address) => address.to_owned(),
            // It must be taken for no component that is listed.
            None if is_bdf(entry.name) => format!("manifest {}", entry.name),
            None => entry.name.to_owned(),
        };
        let mut identity = Identity::default();
        // Only what it takes to find the entry again: what is not there has shown nothing.
        match (entry.address, entry.slot) {
            (Some(_), _) => {}
            (None, Some(slot)) => identity.slot = Some(slot.to_owned()),
            (None, None) => identity.serial = entry.serial.or(entry.mac).map(str::to_owned),
        }
        Self {
            kind,
            name,
            identity,
        }
    }
}

impl Engine {
    /// What the manifest names and none of the listed components can be. One whose serial number or slot could not be
    /// read may be any that is known by that.
    #[must_use]
    pub fn missing(&self, listed: &[(Kind, &str)]) -> Vec<Missing> {
        let nobody = Identity::default();
        let is_missing = |kind: Kind, entry: &Entry<'_>| {
            let same_kind = listed.iter().filter(|(other, _)| *other == kind);
            same_kind.copied().all(|(kind, bdf)| {
                let component = self.components.get(&(kind, bdf.to_owned()));
                let identity = component.map_or(&nobody, |component| &component.identity);
                !may_be(entry, bdf, identity)
            })
        };
        let entries = self.settings.manifest.entries();
        entries
            .filter(|(kind, entry)| is_missing(*kind, entry))
            .map(|(kind, entry)| Missing::of(kind, &entry))
            .collect()
    }
}

/// Whether a component can be the one that an entry names.
fn may_be(entry: &Entry<'_>, bdf: &str, identity: &Identity) -> bool {
    let serial = identity.serial.as_deref();
    let is = |wanted: Option<&str>, found: Option<&str>| {
        let both = wanted.zip(found);
        both.is_some_and(|(wanted, found)| wanted.eq_ignore_ascii_case(found))
    };
    if is(entry.serial, serial) || is(entry.mac, serial) {
        return true;
    }
    if let Some(address) = entry.address {
        return address == bdf;
    }
    // The serial number of a NIC is its MAC address only where it has no other.
    let mac = serial.filter(|serial| serial.contains(':'));
    let unknown = |wanted: Option<&str>, found: Option<&str>| wanted.is_some() && found.is_none();
    is(entry.slot, identity.slot.as_deref())
        || unknown(entry.slot, identity.slot.as_deref())
        || unknown(entry.serial, serial)
        || unknown(entry.mac, mac)
}
