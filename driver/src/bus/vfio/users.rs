//! Who is in the way of opening a function, as an error that names them.

use super::errno::Call;
use crate::bus::BusError;
use crate::pci::{Host, PciFunction, VfioHolders};

/// The function, or its group, is open already, or drivers of the kernel use members of the group.
pub(super) fn in_use(call: Call, host: &Host, function: &PciFunction) -> BusError {
    in_the_way(call, host, function).unwrap_or_else(|| BusError::InUse {
        what: call.name().to_owned(),
        holder: "a process that this one cannot see (look as root, or outside of this container)"
            .to_owned(),
    })
}

/// As [`in_use`], if somebody is seen.
pub(super) fn in_the_way(call: Call, host: &Host, function: &PciFunction) -> Option<BusError> {
    // A group that cannot be read explains nothing, and the refusal itself is told all the same.
    let group = function.group_members().ok()??;
    if !group.is_viable() {
        return Some(BusError::GroupNotViable {
            group: group.number,
            members: group.offenders().cloned().collect(),
        });
    }
    let holders = VfioHolders::look(host);
    let holder = group.members.iter().find_map(|member| {
        let function = host.function(member.name.parse().ok()?).ok()?;
        holders.of(&function).next().cloned()
    })?;
    Some(BusError::InUse {
        what: call.name().to_owned(),
        holder: if holder.pid == std::process::id() {
            "this process, through another DmaSpace (the functions of a group must share one)"
                .to_owned()
        } else {
            holder.to_string()
        },
    })
}
