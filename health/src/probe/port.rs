//! A network port: `/sys/class/net/*`.

use std::path::Path;

use nix::errno::Errno;

use super::directory::Directory;
use super::{ProbeError, text};
use crate::facts::{Port, PortDrops, PortErrors};

/// `IFF_UP`, include/uapi/linux/if.h.
const IFF_UP: u32 = 1;

/// Reads a port; `None` when its interface is not there (moved to another network namespace, or
/// the driver is not bound).
///
/// # Errors
/// When a file is there and holds what no kernel writes, or cannot be read.
pub fn read(interface: &Path) -> Result<Option<Port>, ProbeError> {
    let Some(interface) = text::optional(Directory::open(interface))? else {
        return Ok(None);
    };
    let interface = &interface;
    // Each interface has this one, whatever its driver.
    if text::optional(interface.text("operstate"))?.is_none() {
        return Ok(None);
    }
    let count = |file: &str| text::optional(interface.number::<u64>(file, "a count"));
    // The kernel counts these in 32 bits.
    let changes = |file: &str| {
        let count = text::optional(interface.number::<u32>(file, "a count"));
        count.map(|count| count.map(u64::from))
    };
    Ok(Some(Port {
        index: text::optional(interface.number("ifindex", "an interface's index"))?,
        admin_up: admin_up(interface)?,
        carrier: carrier(interface)?,
        carrier_up: changes("carrier_up_count")?,
        carrier_down: changes("carrier_down_count")?,
        speed_mbit: speed(interface)?,
        full_duplex: full_duplex(interface)?,
        errors: PortErrors {
            rx: count("statistics/rx_errors")?,
            tx: count("statistics/tx_errors")?,
            rx_crc: count("statistics/rx_crc_errors")?,
        },
        drops: PortDrops {
            rx_packets: count("statistics/rx_packets")?,
            rx: count("statistics/rx_dropped")?,
            rx_missed: count("statistics/rx_missed_errors")?,
            tx_packets: count("statistics/tx_packets")?,
            tx: count("statistics/tx_dropped")?,
        },
    }))
}

fn admin_up(interface: &Directory) -> Result<Option<bool>, ProbeError> {
    let flags = text::optional(interface.hexadecimal("flags"))?;
    Ok(flags.map(|flags| flags & IFF_UP != 0))
}

/// Of an interface that is down the kernel answers EINVAL.
fn carrier(interface: &Directory) -> Result<Option<bool>, ProbeError> {
    match interface.text("carrier") {
        Ok(contents) => match contents.as_str() {
            "0" => Ok(Some(false)),
            "1" => Ok(Some(true)),
            _ => Err(interface.malformed("carrier", &contents, "0 or 1")),
        },
        Err(ProbeError::Io {
            errno: Errno::EINVAL,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Without a carrier the kernel answers EINVAL, -1 or 4294967295, as the driver has it.
fn speed(interface: &Directory) -> Result<Option<u64>, ProbeError> {
    match text::optional(interface.number::<i64>("speed", "a speed in Mbit/s, or -1")) {
        Ok(speed) => Ok(speed.and_then(known_speed)),
        Err(ProbeError::Io {
            errno: Errno::EINVAL | Errno::EOPNOTSUPP,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`speed`], and `unknown` where the driver does not say.
fn full_duplex(interface: &Directory) -> Result<Option<bool>, ProbeError> {
    match text::optional(interface.text("duplex")) {
        Ok(None) => Ok(None),
        Ok(Some(contents)) => match contents.as_str() {
            "full" => Ok(Some(true)),
            "half" => Ok(Some(false)),
            "unknown" => Ok(None),
            _ => Err(interface.malformed("duplex", &contents, "full, half or unknown")),
        },
        Err(ProbeError::Io {
            errno: Errno::EINVAL | Errno::EOPNOTSUPP,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a text is a hardware address that somebody can be known by: not that of nobody.
pub(super) fn is_address(text: &str) -> bool {
    let octet = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Six octets of Ethernet, twenty of IP over InfiniBand.
    let octets = text.split(':').count();
    matches!(octets, 6 | 8 | 20)
        && text.split(':').all(octet)
        && text.split(':').any(|part| part != "00")
}

fn known_speed(mbit: i64) -> Option<u64> {
    u64::try_from(mbit)
        .ok()
        .filter(|&mbit| mbit > 0 && mbit < u64::from(u32::MAX))
}
