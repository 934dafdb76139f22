//! Who is in the way of opening a function, as an error that names them.

use super::errno::Call;
use crate::bus::BusError;
use crate::pci::{Host, PciFunction, VfioHolders};

/// The function, or its group, is open already.
pub(super) fn in_use(call: Call, host: &Host, function: &PciFunction) -> BusError {
    let holder = VfioHolders::look(host).of(function).next().map_or_else(
        || {
            "a process that this one cannot see (look as root, or outside of this container)"
                .to_owned()
        },
        |holder| {
            if holder.pid == std::process::id() {
                "this process, through another DmaSpace (the functions of a group must share one)"
                    .to_owned()
            } else {
                holder.to_string()
            }
        },
    );
    BusError::InUse {
        what: call.name().to_owned(),
        holder,
    }
}

/// The kernel does not give out the function's group: drivers of its own use members of it, or else it is in use.
pub(super) fn not_viable(call: Call, host: &Host, function: &PciFunction) -> BusError {
    match function.group_members() {
        Ok(Some(group)) if !group.is_viable() => BusError::GroupNotViable {
            group: group.number,
            members: group.offenders().cloned().collect(),
        },
        Ok(_) => in_use(call, host, function),
        Err(error) => error.into(),
    }
}
