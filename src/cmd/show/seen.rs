//! What sysfs says, in sections.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auk_driver::Holder;

use crate::cmd::list;
use crate::inventory::{Bar, Group, Kind, Link, Member, Seen, VitalSigns};
use crate::output::{Cell, Fields, Tone, span};

const UNKNOWN: &str = "unknown";

/// `TAINT_USER`, bit 6 of `Documentation/admin-guide/tainted-kernels.rst`: among others VFIO sets it, when a device is opened without
/// an IOMMU.
const TAINT_USER: u64 = 1 << 6;

pub(super) fn sections(seen: &Seen, taint: Option<u64>) -> Vec<Fields> {
    let mut sections = vec![identity(seen), place(seen, taint)];
    if let Some(group) = &seen.group {
        sections.push(members(group));
    }
    if let Some(found) = &seen.link {
        sections.push(link(found));
    }
    if let Some(vitals) = &seen.vital_signs {
        sections.push(firmware(vitals));
        sections.push(vital_signs(vitals));
    }
    sections.push(errors(seen));
    if !seen.bars.is_empty() {
        sections.push(bars(&seen.bars));
    }
    sections
}

fn identity(seen: &Seen) -> Fields {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    let mut fields = Fields::new(&seen.address);
    fields
        .push("kind", seen.kind.name())
        .push("model", seen.model.unwrap_or("-"))
        .push("vendor", text(&seen.vendor))
        .push("device", text(&seen.device))
        .push("class", text(&seen.class))
        .push(
            "revision",
            seen.revision
                .map_or_else(|| UNKNOWN.to_owned(), |revision| revision.to_string()),
        )
        .push("serial number", seen.serial.as_deref().unwrap_or("-"));
    if !seen.interfaces.is_empty() {
        fields.push("interfaces", seen.interfaces.join(" "));
    }
    fields
}

fn place(seen: &Seen, taint: Option<u64>) -> Fields {
    let mut fields = Fields::new("Host");
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    fields
        .push("driver", seen.driver.as_deref().unwrap_or("none"))
        .push(
            "IOMMU group",
            seen.group
                .as_ref()
                .map_or_else(|| number(seen.iommu_group).into(), group),
        )
        .push("NUMA node", number(seen.numa_node))
        .push(
            "power state",
            seen.power_state.as_deref().unwrap_or(UNKNOWN),
        );
    if let Some(device) = &seen.vfio_device {
        fields.push("VFIO device", format!("/dev/vfio/devices/{device}"));
    }
    if let Some(methods) = &seen.reset_methods {
        let methods = match methods.is_empty() {
            true => "none".to_owned(),
            false => methods.join(" "),
        };
        fields.push("reset methods", methods);
    }
    if taint.is_some_and(|taint| taint & TAINT_USER != 0) {
        fields.push(
            "kernel",
            Cell::new(
                "tainted by a user, as by VFIO without an IOMMU",
                Tone::Doubtful,
            ),
        );
    }
    for process in &seen.open_in {
        fields.push(
            "open in",
            format!(
                "process {} ({}), by {}",
                process.pid, process.comm, process.node
            ),
        );
    }
    if seen.kind == Kind::Accelerator {
        let held = match &seen.held_by {
            Some(holder) => held(holder),
            None => "nobody".to_owned(),
        };
        fields.push("held by", held);
    }
    fields
}

/// The group, and whether VFIO can have it.
fn group(group: &Group) -> Cell {
    let number = group.number;
    match (group.noiommu, group.viable) {
        (true, _) => Cell::new(
            format!("{number}, made up by VFIO: NO IOMMU guards the host's memory from it"),
            Tone::Bad,
        ),
        (false, true) => format!("{number}, viable for VFIO").into(),
        (false, false) => Cell::new(
            format!("{number}, not viable for VFIO while a member has another driver"),
            Tone::Doubtful,
        ),
    }
}

/// The devices that go with it, whoever gets it.
fn members(group: &Group) -> Fields {
    let mut fields = Fields::new(&format!("Members of IOMMU group {}", group.number));
    for member in &group.members {
        fields.push(&member.address, self::member(member));
    }
    fields
}

fn member(member: &Member) -> Cell {
    let driver = member.driver.as_deref().unwrap_or("no driver");
    let bridge = if member.bridge { ", a bridge" } else { "" };
    match member.viable {
        true => format!("{driver}{bridge}").into(),
        false => Cell::new(format!("{driver}, which is not VFIO's"), Tone::Doubtful),
    }
}

/// The holder, and since when, as far as it says.
fn held(holder: &Holder) -> String {
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(holder.since));
    match since.and_then(|since| SystemTime::now().duration_since(since).ok()) {
        Some(lasting) if holder.pid != 0 => format!("{holder} for {}", span(lasting)),
        _ => holder.to_string(),
    }
}

fn link(link: &Link) -> Fields {
    let mut fields = Fields::new("PCIe link");
    fields
        .push("now", list::link(link))
        .push("at best", list::rate(&link.max_speed, link.max_width));
    fields
}

pub(in crate::cmd) fn firmware(vitals: &VitalSigns) -> Fields {
    let mut fields = Fields::new("Firmware");
    let last = match &vitals.last_fault {
        Some(last) => format!("{}, in generation {}", last.fault, last.generation),
        None => "none since power-on".to_owned(),
    };
    let passed = vitals.self_test == "Passed";
    fields
        .push("state", list::firmware_state(vitals))
        .push("version", vitals.firmware.as_deref().unwrap_or("none runs"))
        .push("generation", vitals.generation.to_string())
        .push("last fault", last)
        .push(
            "self-test",
            match vitals.self_test {
                "NotRun" => Cell::from("not run since power-on"),
                outcome => Cell::new(
                    format!("{outcome}, in generation {}", vitals.self_test_generation),
                    if passed { Tone::Good } else { Tone::Doubtful },
                ),
            },
        )
        .push("heartbeat", vitals.heartbeat.to_string());
    fields
}

pub(in crate::cmd) fn vital_signs(vitals: &VitalSigns) -> Fields {
    let mut fields = Fields::new("Vital signs");
    let throttled = if vitals.throttled_by.is_empty() {
        Cell::from("no")
    } else {
        Cell::new(
            format!("by {}", vitals.throttled_by.join(", ")),
            Tone::Doubtful,
        )
    };
    fields
        .push(
            "die",
            format!(
                "{:.1} C (throttles at {:.1} C, stops at {:.1} C)",
                vitals.die_celsius, vitals.throttle_celsius, vitals.shutdown_celsius
            ),
        )
        .push("memory", format!("{:.1} C", vitals.memory_celsius))
        .push(
            "power",
            format!(
                "{:.1} W of {:.1} W",
                vitals.power_watts, vitals.power_limit_watts
            ),
        )
        .push("throttled", throttled);
    fields
}

/// A count that should be 0.
fn count(count: u64) -> Cell {
    let tone = if count == 0 {
        Tone::Plain
    } else {
        Tone::Doubtful
    };
    Cell::new(count.to_string(), tone)
}

fn errors(seen: &Seen) -> Fields {
    let mut fields = Fields::new("Error counters");
    if let Some(vitals) = &seen.vital_signs {
        fields
            .push("ECC correctable", count(vitals.ecc_correctable.into()))
            .push("ECC uncorrectable", count(vitals.ecc_uncorrectable.into()))
            .push("retired pages", count(vitals.retired_pages.into()))
            .push("PCIe replays", count(vitals.pcie_replays.into()));
    }
    match &seen.aer {
        Some(aer) => fields
            .push("AER correctable", count(aer.correctable))
            .push("AER nonfatal", count(aer.nonfatal))
            .push("AER fatal", count(aer.fatal)),
        None => fields.push("AER", "not counted by the kernel"),
    };
    fields
}

fn bars(bars: &[Bar]) -> Fields {
    let mut fields = Fields::new("BARs");
    for bar in bars {
        fields.push(&format!("BAR{}", bar.number), bytes(bar.bytes));
    }
    fields
}

/// Bytes in the greatest binary unit that they are a whole number of.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut number = bytes;
    let mut unit = 0;
    while number >= 1024 && number.is_multiple_of(1024) && unit + 1 < units.len() {
        number /= 1024;
        unit += 1;
    }
    format!("{number} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_in_whole_units() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(0x8_0000), "512 KiB");
        assert_eq!(bytes(1025), "1025 B");
        assert_eq!(bytes(8 << 40), "8 TiB");
    }
}
