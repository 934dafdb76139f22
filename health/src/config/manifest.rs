//! `[manifest]`: what the host should have. Whatever it does not say is not held against anybody.

use std::collections::BTreeMap;

use auk_asic::firmware::FirmwareVersion;

use super::host::ExpectedHost;
use super::keys::{Keys, Section};
use super::value::{Value, quote};
use crate::facts::{Identity, Kind, LinkRate};

/// What the host should have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Of every accelerator.
    pub every_accelerator: Wanted,
    /// Of every NIC.
    pub every_nic: Wanted,
    /// Accelerators by a name for people.
    pub accelerators: BTreeMap<String, Expected>,
    /// NICs by a name for people.
    pub nics: BTreeMap<String, ExpectedNic>,
    /// The host.
    pub host: ExpectedHost,
}

/// How a component should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Lanes of its link, at least.
    pub link_width: Option<u32>,
    /// Giga-transfers a second and lane of its link, at least.
    pub link_gigatransfers: Option<f64>,
    /// The oldest firmware.
    pub firmware_from: Option<FirmwareVersion>,
    /// The newest firmware.
    pub firmware_to: Option<FirmwareVersion>,
    /// The driver that is bound.
    pub driver: Option<String>,
    /// Whether it is in an IOMMU group.
    pub iommu: Option<bool>,
    /// The NUMA node.
    pub numa_node: Option<u32>,
    /// The ports of a NIC.
    pub port: WantedPort,
}

/// How the ports of a NIC should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedPort {
    /// Mbit/s of the network port, at least.
    pub mbit: Option<u64>,
    /// Mbit/s of its RDMA ports, at least; there must be one.
    pub rdma_mbit: Option<u64>,
    /// Lanes of the network port's link, at least.
    pub lanes: Option<u32>,
    /// Forward error correction, as ethtool(8) writes it.
    pub fec: Option<String>,
    /// With what the firmware's version may begin.
    pub firmware: Option<Vec<String>>,
    /// With what the driver's version may begin.
    pub driver_version: Option<Vec<String>>,
}

/// An accelerator that should be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// Where: its physical slot.
    pub slot: Option<String>,
    /// Where: its PCI address.
    pub address: Option<String>,
    /// Which: its serial number.
    pub serial: Option<String>,
    /// How.
    pub wanted: Wanted,
}

/// A NIC that should be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedNic {
    /// Where: its PCI address.
    pub address: Option<String>,
    /// Which: its MAC address.
    pub mac: Option<String>,
    /// How.
    pub wanted: Wanted,
}

/// A component that the manifest names, of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name for people.
    pub name: &'a str,
    /// Where: its PCI address.
    pub address: Option<&'a str>,
    /// Where: its physical slot.
    pub slot: Option<&'a str>,
    /// Which: its serial number.
    pub serial: Option<&'a str>,
    /// Which: its MAC address.
    pub mac: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn accelerator((name, expected): (&'a String, &'a Expected)) -> Self {
        Self {
            name,
            address: expected.address.as_deref(),
            slot: expected.slot.as_deref(),
            serial: expected.serial.as_deref(),
            mac: None,
        }
    }

    fn nic((name, expected): (&'a String, &'a ExpectedNic)) -> Self {
        Self {
            name,
            address: expected.address.as_deref(),
            slot: None,
            serial: None,
            mac: expected.mac.as_deref(),
        }
    }

    /// What it is known by, in words.
    pub(crate) fn describe(&self) -> String {
        let parts = [
            ("address", self.address),
            ("slot", self.slot),
            ("serial number", self.serial),
            ("MAC address", self.mac),
        ];
        let known = parts
            .iter()
            .filter_map(|(what, value)| Some(format!("{what} {}", (*value)?)));
        let known: Vec<String> = known.collect();
        format!("manifest, {}: {}", self.name, known.join(", "))
    }
}

impl WantedPort {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let speed = |mbit: &u64| (10..=10_000_000).contains(mbit);
        let expected = "a speed in Mbit/s, such as 400000";
        let why = "Mbit/s of its port, at least";
        keys.optional("port_mbit", &mut self.mbit, expected, speed, why);
        let why = "Mbit/s of each of its RDMA ports, at least; it must have one";
        keys.optional("rdma_mbit", &mut self.rdma_mbit, expected, speed, why);
        let why = "lanes of its port's link, at least";
        let lanes = |lanes: &u32| [1, 2, 4, 8, 16].contains(lanes);
        let expected = "1, 2, 4, 8 or 16 lanes";
        keys.optional("port_lanes", &mut self.lanes, expected, lanes, why);
        let why = "forward error correction of its port: both ends must agree, and what corrects less errs more";
        let modes = |mode: &String| ["off", "rs", "baser", "llrs"].contains(&mode.as_str());
        let expected = "off, rs, baser or llrs";
        keys.optional("fec", &mut self.fec, expected, modes, why);
        let versions =
            |list: &Vec<String>| !list.is_empty() && list.iter().all(|version| !version.is_empty());
        let expected = "a list of versions, such as [\"22.41.1000\"]";
        let why = "with one of these its firmware's version begins, as ethtool -i shows it";
        keys.optional("nic_firmware", &mut self.firmware, expected, versions, why);
        let why = "with one of these its driver's version begins; that of a driver in the kernel is the kernel's";
        let field = &mut self.driver_version;
        keys.optional("driver_version", field, expected, versions, why);
    }

    fn or(&self, general: &Self) -> Self {
        Self {
            mbit: self.mbit.or(general.mbit),
            rdma_mbit: self.rdma_mbit.or(general.rdma_mbit),
            lanes: self.lanes.or(general.lanes),
            fec: self.fec.clone().or_else(|| general.fec.clone()),
            firmware: self.firmware.clone().or_else(|| general.firmware.clone()),
            driver_version: self
                .driver_version
                .clone()
                .or_else(|| general.driver_version.clone()),
        }
    }
}

impl Section for Manifest {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        keys.table("every_accelerator", |keys| {
            self.every_accelerator.link(keys);
            self.every_accelerator.firmware(keys);
            self.every_accelerator.place(keys);
        });
        keys.table("every_nic", |keys| {
            self.every_nic.link(keys);
            self.every_nic.place(keys);
            self.every_nic.port.keys(keys);
        });
        keys.named("accelerator", &mut self.accelerators);
        keys.named("nic", &mut self.nics);
        keys.table("host", |keys| self.host.keys(keys));
    }
}

impl Wanted {
    fn link(&mut self, keys: &mut Keys<'_>) {
        let why = "lanes of its link, at least; both ends must be able to";
        let widths = |width: &u32| [1, 2, 4, 8, 16].contains(width);
        let expected = "1, 2, 4, 8 or 16 lanes";
        keys.optional("link_width", &mut self.link_width, expected, widths, why);
        let why = "giga-transfers a second and lane of its link, at least";
        let rates = |rate: &f64| [2.5, 5.0, 8.0, 16.0, 32.0, 64.0].contains(rate);
        let expected = "2.5, 5, 8, 16, 32 or 64 GT/s";
        let field = &mut self.link_gigatransfers;
        keys.optional("link_gigatransfers", field, expected, rates, why);
    }

    fn firmware(&mut self, keys: &mut Keys<'_>) {
        let any = |_: &FirmwareVersion| true;
        let expected = FirmwareVersion::EXPECTED;
        let why = "the oldest firmware that is good";
        keys.optional("firmware_from", &mut self.firmware_from, expected, any, why);
        let why = "the newest firmware that is known to be good";
        keys.optional("firmware_to", &mut self.firmware_to, expected, any, why);
        let in_order = match (self.firmware_from, self.firmware_to) {
            (Some(from), Some(to)) => from <= to,
            _ => true,
        };
        keys.require(in_order, &["firmware_to", "firmware_from"], || {
            "at least firmware_from".to_owned()
        });
    }

    fn place(&mut self, keys: &mut Keys<'_>) {
        let why = "the driver that is bound to it";
        let expected = "the name of a driver, such as \"vfio-pci\"";
        keys.optional("driver", &mut self.driver, expected, is_name, why);
        let why = "true: it is in an IOMMU group, without which VFIO can isolate nothing";
        let any = |_: &bool| true;
        keys.optional("iommu", &mut self.iommu, bool::EXPECTED, any, why);
        let why = "the NUMA node that it hangs on; memory and threads of its jobs belong there";
        let expected = "the number of a node";
        let node = |node: &u32| *node < 1024;
        keys.optional("numa_node", &mut self.numa_node, expected, node, why);
    }

    /// These wishes, and those of `general` where these have none.
    fn or(&self, general: &Self) -> Self {
        Self {
            link_width: self.link_width.or(general.link_width),
            link_gigatransfers: self.link_gigatransfers.or(general.link_gigatransfers),
            firmware_from: self.firmware_from.or(general.firmware_from),
            firmware_to: self.firmware_to.or(general.firmware_to),
            driver: self.driver.clone().or_else(|| general.driver.clone()),
            iommu: self.iommu.or(general.iommu),
            numa_node: self.numa_node.or(general.numa_node),
            port: self.port.or(&general.port),
        }
    }

    /// Whether a link is as wide and as fast as it should be.
    #[must_use]
    pub fn is_met_by(&self, link: LinkRate) -> bool {
        let gigatransfers = f64::from(link.megatransfers) / 1000.0;
        self.link_width.is_none_or(|width| link.width >= width)
            && self
                .link_gigatransfers
                .is_none_or(|least| gigatransfers >= least)
    }
}

impl Section for Expected {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "where it is: its physical slot, as sys/bus/pci/slots names it";
        let expected = "the name of a slot";
        keys.optional("slot", &mut self.slot, expected, is_name, why);
        address(keys, &mut self.address);
        let why = "which it is: the serial number that auk list shows";
        let expected = "a serial number";
        keys.optional(
            "serial",
            &mut self.serial,
            expected,
            |text| !text.is_empty(),
            why,
        );
        self.wanted.link(keys);
        self.wanted.firmware(keys);
        self.wanted.place(keys);
        let placed = self.slot.is_some() || self.address.is_some() || self.serial.is_some();
        keys.require(placed, &["slot", "address", "serial"], || {
            "a slot, an address or a serial number, to know it by".to_owned()
        });
    }
}

impl Section for ExpectedNic {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        address(keys, &mut self.address);
        let why = "which it is: its permanent MAC address";
        let expected = "a MAC address, such as \"02:a1:00:00:00:00\"";
        keys.optional("mac", &mut self.mac, expected, |text| is_mac(text), why);
        self.wanted.link(keys);
        self.wanted.place(keys);
        self.wanted.port.keys(keys);
        let placed = self.address.is_some() || self.mac.is_some();
        keys.require(placed, &["address", "mac"], || {
            "an address or a MAC address, to know it by".to_owned()
        });
    }
}

fn address(keys: &mut Keys<'_>, field: &mut Option<String>) {
    let why = "where it is: its PCI address";
    let expected = "a PCI address, such as \"0000:01:00.0\"";
    keys.optional("address", field, expected, |text| is_bdf(text), why);
}

/// A name that can be a file's in `sys/bus/pci/slots`.
fn is_name(text: &String) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\0'])
}

/// `0000:01:00.0`, in lower case as sysfs has it.
fn is_bdf(text: &str) -> bool {
    let hex = |text: &str, length| {
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        text.len() == length && text.chars().all(digit)
    };
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let [domain, bus, device, function] = parts[..] else {
        return false;
    };
    let rebuilt = format!("{domain}:{bus}:{device}.{function}");
    rebuilt == text
        && hex(domain, 4)
        && hex(bus, 2)
        && hex(device, 2)
        && function.len() == 1
        && ('0'..='7').contains(&function.chars().next().unwrap_or('x'))
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    let octet = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    parts.len() == 6 && parts.iter().all(octet)
}

impl Value for FirmwareVersion {
    const EXPECTED: &str = "a firmware version, such as \"1.4.0\"";

    fn read(raw: &super::tree::Raw) -> Option<Self> {
        let text = String::read(raw)?;
        let parts: Vec<&str> = text.split('.').collect();
        let [major, minor, patch] = parts[..] else {
            return None;
        };
        Some(Self::of(
            major.parse().ok()?,
            minor.parse().ok()?,
            patch.parse().ok()?,
        ))
    }

    fn to_toml(&self) -> String {
        quote(&self.to_string())
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self.to_string())
    }
}

impl Manifest {
    /// How a component should be, by what the manifest says of all and of it.
    #[must_use]
    pub fn wanted(&self, kind: Kind, bdf: &str, identity: &Identity) -> Wanted {
        match kind {
            Kind::Accelerator => self
                .accelerator(bdf, identity)
                .map(|(_, expected)| &expected.wanted)
                .unwrap_or(&self.every_accelerator)
                .or(&self.every_accelerator),
            Kind::Nic => self
                .nic(bdf, identity)
                .map(|(_, expected)| &expected.wanted)
                .unwrap_or(&self.every_nic)
                .or(&self.every_nic),
            Kind::Host => Wanted::default(),
        }
    }

    /// The entry for a component.
    #[must_use]
    pub fn entry<'a>(&'a self, kind: Kind, bdf: &str, identity: &Identity) -> Option<Entry<'a>> {
        match kind {
            Kind::Accelerator => self.accelerator(bdf, identity).map(Entry::accelerator),
            Kind::Nic => self.nic(bdf, identity).map(Entry::nic),
            Kind::Host => None,
        }
    }

    /// All components that it names.
    pub fn entries(&self) -> impl Iterator<Item = (Kind, Entry<'_>)> {
        let accelerators = self.accelerators.iter().map(Entry::accelerator);
        let nics = self.nics.iter().map(Entry::nic);
        let of = |kind| move |entry| (kind, entry);
        let accelerators = accelerators.map(of(Kind::Accelerator));
        accelerators.chain(nics.map(of(Kind::Nic)))
    }

    /// The entry for an accelerator: by its place, else by its serial number.
    #[must_use]
    pub fn accelerator(&self, bdf: &str, identity: &Identity) -> Option<(&String, &Expected)> {
        let here = |expected: &Expected| {
            expected.address.as_deref() == Some(bdf)
                || (expected.slot.is_some() && expected.slot == identity.slot)
        };
        let this = |expected: &Expected| {
            expected.serial.is_some() && same(&expected.serial, &identity.serial)
        };
        let mut entries = self.accelerators.iter();
        let placed = entries.clone().find(|(_, expected)| here(expected));
        placed.or_else(|| entries.find(|(_, expected)| this(expected)))
    }

    /// The entry for a NIC: by its place, else by its MAC address.
    #[must_use]
    pub fn nic(&self, bdf: &str, identity: &Identity) -> Option<(&String, &ExpectedNic)> {
        let mut entries = self.nics.iter();
        let placed = entries
            .clone()
            .find(|(_, expected)| expected.address.as_deref() == Some(bdf));
        placed.or_else(|| {
            entries.find(|(_, expected)| {
                expected.mac.is_some() && same(&expected.mac, &identity.serial)
            })
        })
    }
}

/// Serial numbers and MAC addresses are written in either case.
fn same(left: &Option<String>, right: &Option<String>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => left.eq_ignore_ascii_case(right),
        _ => false,
    }
}
