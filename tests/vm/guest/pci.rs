//! PCI functions in sysfs: finding them, and giving them to vfio-pci.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Vendor and device ID.
pub(crate) type Kind = (u16, u16);

/// QEMU's teaching device, `docs/specs/edu.rst` of QEMU.
pub(crate) const EDU: Kind = (0x1234, 0x11e8);
/// QEMU's NVMe controller, `docs/specs/pci-ids.rst` of QEMU.
pub(crate) const NVME: Kind = (0x1b36, 0x0010);
/// Intel's 82574L, which QEMU has as `e1000e`.
pub(crate) const E1000E: Kind = (0x8086, 0x10d3);
/// QEMU's virtio network device in its transitional form, `docs/specs/pci-ids.rst` of QEMU.
pub(crate) const VIRTIO_NET: Kind = (0x1af4, 0x1000);
/// Our chip, in silicon.
pub(crate) const CHIP: Kind = (0x1ae5, 0xa100);

const DEVICES: &str = "/sys/bus/pci/devices";

/// The addresses of all functions of a kind, sorted.
pub(crate) fn find(kind: Kind) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(DEVICES).with_context(|| format!("listing {DEVICES}"))? {
        let address = entry?.file_name().to_string_lossy().into_owned();
        let number = |name| {
            let text = attribute(&address, name)?;
            u16::from_str_radix(text.trim_start_matches("0x"), 16)
                .with_context(|| format!("{name} of {address} is {text:?}"))
        };
        if (number("vendor")?, number("device")?) == kind {
            found.push(address);
        }
    }
    found.sort();
    Ok(found)
}

/// The address of the one function of a kind.
pub(crate) fn only(kind: Kind) -> Result<String> {
    let (vendor, device) = kind;
    let found = find(kind)?;
    match &found[..] {
        [one] => Ok(one.clone()),
        _ => bail!("of {vendor:04x}:{device:04x} there are {found:?}, and one was expected"),
    }
}

/// The network interface of a function, directly or through virtio.
pub(crate) fn interface(address: &str) -> Result<String> {
    let mut directories = vec![path(address, "net")];
    for entry in fs::read_dir(path(address, ""))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("virtio") {
            directories.push(entry.path().join("net"));
        }
    }
    for directory in directories {
        if let Some(interface) = fs::read_dir(directory).ok().and_then(|mut all| all.next()) {
            return Ok(interface?.file_name().to_string_lossy().into_owned());
        }
    }
    bail!("{address} has no network interface")
}

/// A sysfs attribute of a function, without the end of its line.
pub(crate) fn attribute(address: &str, name: &str) -> Result<String> {
    let path = path(address, name);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a sysfs attribute of a function.
pub(crate) fn set_attribute(address: &str, name: &str, value: &str) -> Result<()> {
    write(&path(address, name), value)
}

/// What a link of a function leads to, by its last name; `None` when there is no link.
pub(crate) fn link_name(address: &str, name: &str) -> Result<Option<String>> {
    let path = path(address, name);
    match fs::read_link(&path) {
        Ok(target) => Ok(target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading the link {}", path.display())),
    }
}

/// The port that a function is behind.
pub(crate) fn port_of(address: &str) -> Result<String> {
    let link = fs::read_link(Path::new(DEVICES).join(address))?;
    let port = link.parent().and_then(Path::file_name);
    let port = port.with_context(|| format!("{address} is behind no port: {}", link.display()))?;
    Ok(port.to_string_lossy().into_owned())
}

/// Gives a function to vfio-pci, whoever has it now.
pub(crate) fn bind_vfio(address: &str) -> Result<()> {
    set_driver(address, "vfio-pci")?;
    match link_name(address, "driver")?.as_deref() {
        Some("vfio-pci") => Ok(()),
        other => bail!("{address} was given to vfio-pci, and its driver is {other:?}"),
    }
}

/// Takes a function from vfio-pci; the kernel finds the driver that it had before.
pub(crate) fn unbind_vfio(address: &str) -> Result<()> {
    set_driver(address, "\n")
}

fn set_driver(address: &str, name: &str) -> Result<()> {
    set_attribute(address, "driver_override", name)?;
    if link_name(address, "driver")?.is_some() {
        set_attribute(address, "driver/unbind", address)?;
    }
    write(Path::new("/sys/bus/pci/drivers_probe"), address)
}

fn path(address: &str, name: &str) -> PathBuf {
    Path::new(DEVICES).join(address).join(name)
}

fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value)
        .with_context(|| format!("writing {:?} to {}", value.trim_end(), path.display()))
}
