//! What sysfs keeps of any PCI function, a value a file
//! (`Documentation/ABI/testing/sysfs-bus-pci`).

use std::fs;
use std::path::Path;

use super::{ProbeError, text};
use crate::facts::PowerState;

/// `power_state`.
///
/// # Errors
/// When it cannot be read or holds what no kernel writes.
pub fn power_state(function: &Path) -> Result<PowerState, ProbeError> {
    let path = function.join("power_state");
    let contents = text::read(&path)?;
    match contents.as_str() {
        "D0" => Ok(PowerState::D0),
        "D1" | "D2" | "D3hot" | "D3cold" => Ok(PowerState::Asleep),
        "unknown" | "error" => Ok(PowerState::Unknown),
        _ => Err(ProbeError::malformed(
            &path,
            &contents,
            "D0, D1, D2, D3hot, D3cold or unknown",
        )),
    }
}

/// The driver that is bound, by where the link `driver` leads; `None` when there is no such link.
///
/// # Errors
/// When the function is gone, or the link cannot be read or leads nowhere with a name.
pub fn driver(function: &Path) -> Result<Option<String>, ProbeError> {
    last_of_link(function, "driver")
}

/// The IOMMU group, by where the link `iommu_group` leads; `None` when there is no such link.
///
/// # Errors
/// As [`driver`], and when the link leads to no number.
pub fn iommu_group(function: &Path) -> Result<Option<u32>, ProbeError> {
    let Some(name) = last_of_link(function, "iommu_group")? else {
        return Ok(None);
    };
    let path = function.join("iommu_group");
    name.parse()
        .map(Some)
        .map_err(|_| ProbeError::malformed(&path, &name, "a link to a group's number"))
}

/// `numa_node`; `None` for -1, which is how the kernel writes that the firmware names none.
///
/// # Errors
/// When it cannot be read or holds no number.
pub fn numa_node(function: &Path) -> Result<Option<u32>, ProbeError> {
    let path = function.join("numa_node");
    match text::number::<i32>(&path, "the number of a node, or -1")? {
        -1 => Ok(None),
        node => u32::try_from(node).map(Some).map_err(|_| {
            ProbeError::malformed(&path, &node.to_string(), "the number of a node, or -1")
        }),
    }
}

/// The last name in where a link leads; `None` when the function has no such link.
fn last_of_link(function: &Path, name: &str) -> Result<Option<String>, ProbeError> {
    let path = function.join(name);
    let target = match fs::read_link(&path) {
        Ok(target) => target,
        Err(error) => {
            let error = ProbeError::io(&path, &error);
            // That the link is missing is a fact as long as the function is there.
            return match error.is_not_found() && function.exists() {
                true => Ok(None),
                false => Err(error),
            };
        }
    };
    let last = target.file_name().and_then(|name| name.to_str());
    last.map(|last| Some(last.to_owned())).ok_or_else(|| {
        let found = target.display().to_string();
        ProbeError::malformed(&path, &found, "a link to a directory with a name")
    })
}
