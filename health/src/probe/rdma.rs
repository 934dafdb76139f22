//! RDMA ports: `/sys/class/infiniband/*/ports/*` (`Documentation/ABI/stable/sysfs-class-infiniband`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::{ProbeError, text};
use crate::facts::{LinkLayer, RdmaPort, RdmaState};

/// RDMA devices of a function, and ports of one, that are looked at; cards have one and two.
const MOST_DEVICES: usize = 8;
const MOST_PORTS: u32 = 8;
/// Entries of the table of addresses that are looked at: those of the interface itself come first, and a table has
/// up to a thousand.
const MOST_GIDS: u32 = 8;
/// An entry of that table that is not set.
const NO_GID: &str = "0000:0000:0000:0000:0000:0000:0000:0000";

/// Counters that are read: those that are judged. `check/rdma_errors.rs` says why.
pub const COUNTERS: &[&str] = &[
    // Of the port itself, InfiniBand Architecture Specification 1.3, section 16.1.3.5 (PortCounters).
    "counters/symbol_error",
    "counters/link_error_recovery",
    "counters/link_downed",
    "counters/port_rcv_errors",
    "counters/port_rcv_remote_physical_errors",
    "counters/local_link_integrity_errors",
    "counters/excessive_buffer_overrun_errors",
    "counters/port_xmit_discards",
    // Of the transport, by the driver's names: drivers/infiniband/hw/mlx5/counters.c, hw/bnxt_re/hw_counters.c,
    // sw/rxe/rxe_hw_counters.c.
    "hw_counters/out_of_sequence",
    "hw_counters/packet_seq_err",
    "hw_counters/local_ack_timeout_err",
    "hw_counters/rx_icrc_encapsulated",
    "hw_counters/max_retry_exceeded",
    "hw_counters/retry_exceeded_err",
    "hw_counters/link_downed",
];

/// Reads the ports of a function's RDMA devices, and of those that software makes over its interface.
///
/// # Errors
/// When a device or a port cannot be read, or one says what no kernel writes. A counter alone may be missing or
/// refused: that is normal for some drivers.
pub fn read(
    root: &Path,
    function: &Directory,
    interface: Option<&str>,
) -> Result<Vec<RdmaPort>, ProbeError> {
    let mut ports = Vec::new();
    for device in devices(root, function, interface)? {
        for port in 1..=MOST_PORTS {
            let path = device.join(format!("ports/{port}"));
            let Some(directory) = text::optional(Directory::open(&path))? else {
                break;
            };
            let name = device.file_name().unwrap_or_default();
            // It may have left since it was listed.
            let read = self::port(&directory, name.to_string_lossy().into_owned(), port);
            ports.extend(text::optional(read)?);
        }
    }
    Ok(ports)
}

/// The directories of the devices, by name.
fn devices(
    root: &Path,
    function: &Directory,
    interface: Option<&str>,
) -> Result<Vec<PathBuf>, ProbeError> {
    let mut devices = listing(&function.path().join("infiniband"))?;
    if devices.is_empty()
        && let Some(interface) = interface
    {
        // One of software is below no function, and names the interface that it was made over.
        let of_interface = |path: &PathBuf| {
            text::read(&path.join("parent")).is_ok_and(|parent| parent == interface)
        };
        let all = listing(&root.join("sys/class/infiniband"))?;
        devices.extend(all.into_iter().filter(of_interface));
    }
    devices.truncate(MOST_DEVICES);
    Ok(devices)
}

/// Paths in a directory, in order; none when it is not there.
fn listing(directory: &Path) -> Result<Vec<PathBuf>, ProbeError> {
    let failed = |error| ProbeError::io(directory, &error);
    let entries = match text::optional(fs::read_dir(directory).map_err(failed))? {
        Some(entries) => entries,
        None => return Ok(Vec::new()),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn port(directory: &Directory, device: String, port: u32) -> Result<RdmaPort, ProbeError> {
    let state = directory.text("state")?;
    let rate = text::optional(directory.text("rate"))?;
    Ok(RdmaPort {
        device,
        port,
        link_layer: match text::optional(directory.text("link_layer"))?.as_deref() {
            Some("InfiniBand") => LinkLayer::InfiniBand,
            Some("Ethernet") => LinkLayer::Ethernet,
            _ => LinkLayer::Unknown,
        },
        state: parse_state(&state).ok_or_else(|| {
            directory.malformed("state", &state, "the number and the name of a port's state")
        })?,
        phys_state: directory.text("phys_state")?.chars().take(64).collect(),
        rate_mbit: rate.as_deref().and_then(parse_rate),
        gids: gids(directory),
        // Refused with EINVAL where the address is not set.
        interface: (directory.text("gid_attrs/ndevs/0").ok())
            .map(|name| name.chars().take(64).collect()),
        counters: counters(directory),
    })
}

/// `4: ACTIVE`. The number counts; the name is for people.
#[must_use]
pub fn parse_state(contents: &str) -> Option<RdmaState> {
    let (number, _) = contents.split_once(':')?;
    Some(match number {
        "0" => RdmaState::Nop,
        "1" => RdmaState::Down,
        "2" => RdmaState::Init,
        "3" => RdmaState::Armed,
        "4" => RdmaState::Active,
        "5" => RdmaState::ActiveDefer,
        _ => return None,
    })
}

/// Mbit/s of `2.5 Gb/sec (1X SDR)`; `None` when it is no such text, or 0.
#[must_use]
pub fn parse_rate(contents: &str) -> Option<u64> {
    let (number, _) = contents.split_once(" Gb/sec")?;
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let [digit @ b'0'..=b'9'] = tenths.as_bytes() else {
        return None;
    };
    let whole: u64 = whole.parse().ok()?;
    let mbit = whole.checked_mul(1000)?;
    let mbit = mbit.checked_add(u64::from(digit - b'0') * 100)?;
    Some(mbit).filter(|&mbit| mbit > 0)
}

/// An entry that is not set is all zeros, or refused with EINVAL.
fn gids(directory: &Directory) -> u32 {
    let gid = |index: &u32| {
        let gid = directory.text(&format!("gids/{index}"));
        gid.is_ok_and(|gid| gid != NO_GID)
    };
    let set = (0..MOST_GIDS).filter(gid).count();
    u32::try_from(set).unwrap_or(MOST_GIDS)
}

/// A driver that does not count something has no such file, refuses it with EINVAL, or writes `N/A (no PMA)`.
fn counters(directory: &Directory) -> BTreeMap<String, u64> {
    let read = |name: &&str| {
        let count = directory.number::<u64>(name, "a count").ok()?;
        Some(((*name).to_owned(), count))
    };
    COUNTERS.iter().filter_map(read).collect()
}
