//! What sysfs keeps of any PCI function, a value a file
//! (`Documentation/ABI/testing/sysfs-bus-pci`).

use std::path::Path;

use super::ProbeError;
use super::directory::Directory;
use crate::facts::PowerState;

/// `power_state`.
///
/// # Errors
/// When it cannot be read or holds what no kernel writes.
pub fn power_state(function: &Directory) -> Result<PowerState, ProbeError> {
    let contents = function.text(POWER_STATE)?;
    parse_power_state(function, &contents)
}

/// Name of the file that [`power_state`] reads.
pub(super) const POWER_STATE: &str = "power_state";

/// The power state by the contents of its file.
pub(super) fn parse_power_state(
    function: &Directory,
    contents: &str,
) -> Result<PowerState, ProbeError> {
    match contents {
        "D0" => Ok(PowerState::D0),
        "D1" | "D2" | "D3hot" | "D3cold" => Ok(PowerState::Asleep),
        "unknown" | "error" => Ok(PowerState::Unknown),
        _ => Err(function.malformed(
            POWER_STATE,
            contents,
            "D0, D1, D2, D3hot, D3cold or unknown",
        )),
    }
}

/// The driver that is bound, by where the link `driver` leads; `None` when there is no such link.
///
/// # Errors
/// When the function is gone, or the link cannot be read or leads nowhere with a name.
pub fn driver(function: &Directory) -> Result<Option<String>, ProbeError> {
    last_of_link(function, "driver")
}

/// The IOMMU group, by where the link `iommu_group` leads; `None` when there is no such link.
///
/// # Errors
/// As [`driver`], and when the link leads to no number.
pub fn iommu_group(function: &Directory) -> Result<Option<u32>, ProbeError> {
    let Some(name) = last_of_link(function, "iommu_group")? else {
        return Ok(None);
    };
    let expected = "a link to a group's number";
    name.parse()
        .map(Some)
        .map_err(|_| function.malformed("iommu_group", &name, expected))
}

/// `numa_node`; `None` for -1, which is how the kernel writes that the firmware names none.
///
/// # Errors
/// When it cannot be read or holds no number.
pub fn numa_node(function: &Directory) -> Result<Option<u32>, ProbeError> {
    const EXPECTED: &str = "the number of a node, or -1";
    match function.number::<i32>("numa_node", EXPECTED)? {
        -1 => Ok(None),
        node => u32::try_from(node)
            .map(Some)
            .map_err(|_| function.malformed("numa_node", &node.to_string(), EXPECTED)),
    }
}

/// The last name in where a link leads; `None` when the function has no such link.
fn last_of_link(function: &Directory, name: &str) -> Result<Option<String>, ProbeError> {
    let Some(target) = function.link(name)? else {
        return Ok(None);
    };
    let last = Path::new(&target).file_name();
    match last.and_then(|last| last.to_str()) {
        Some(last) => Ok(Some(last.to_owned())),
        None => {
            let expected = "a link to a directory with a name";
            Err(function.malformed(name, &target.to_string_lossy(), expected))
        }
    }
}
