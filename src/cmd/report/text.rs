//! A report for people.

use auk_driver::Report;
use auk_driver::report::RecentCommands;

use crate::cmd::show::seen;
use crate::inventory::VitalSigns;
use crate::output::{Cell, Fields, Grid, Screen, Tone, date};

/// The sections of a report, the most telling first.
pub(super) fn render(report: &Report, screen: Screen) -> String {
    let mut sections = vec![head(report).render(screen)];
    if let Some(vitals) = &report.vital_signs {
        let vitals = VitalSigns::from(vitals);
        sections.push(seen::firmware(&vitals).render(screen));
        sections.push(seen::vital_signs(&vitals).render(screen));
    }
    if let Some(crash) = crash_log(report) {
        sections.push(crash.render(screen));
    }
    if let Some(function) = function(report) {
        sections.push(function.render(screen));
    }
    if let Some(registers) = &report.registers {
        let mut fields = Fields::new("Registers");
        for (name, value) in registers {
            fields.push(name, format!("{value:08x}"));
        }
        sections.push(fields.render(screen));
    }
    if let Some(telemetry) = &report.telemetry {
        let mut fields = Fields::new("Telemetry");
        for (name, value) in telemetry {
            fields.push(name, value.to_string());
        }
        sections.push(fields.render(screen));
    }
    sections.extend(slots(report).map(|slots| slots.render(screen)));
    sections.extend(events(report).map(|events| titled("Event log", &events, screen)));
    for queue in &report.queues {
        let title = format!("Last commands of queue {}", queue.queue);
        sections.push(titled(&title, &commands(queue), screen));
    }
    if !report.missing.is_empty() {
        let mut grid = Grid::new(&["PART", "WHY"]);
        for missing in &report.missing {
            let part = Cell::new(missing.part, Tone::Doubtful);
            grid.push(vec![part, Cell::from(&missing.why)]);
        }
        sections.push(titled("Not in this report", &grid, screen));
    }
    sections.join("\n")
}

fn titled(title: &str, grid: &Grid, screen: Screen) -> String {
    format!("{title}\n{}", grid.render(screen))
}

fn head(report: &Report) -> Fields {
    let mut fields = Fields::new(&format!("Report on {}", report.device));
    fields
        .push("made", date(report.unix_ms))
        .push("driver", report.driver);
    if let Some(error) = &report.error {
        fields.push("error", Cell::new(error, Tone::Bad));
    }
    if !report.recovered_by.is_empty() {
        fields.push("recovered by", report.recovered_by.join(", "));
    }
    fields
}

fn crash_log(report: &Report) -> Option<Fields> {
    let crash = report.crash_log.as_ref()?;
    let mut fields = Fields::new("Crash log");
    fields
        .push("fault", crash.fault)
        .push("generation", crash.generation.to_string())
        .push("after power-on", format!("{} ms", crash.uptime_ms))
        .push("firmware", crash.firmware.as_deref().unwrap_or("unknown"));
    if let (Some(queue), Some(id)) = (crash.queue, crash.command_id) {
        fields.push("command", format!("{id} of queue {queue}"));
    }
    if let Some(address) = crash.address {
        fields.push("address", format!("{address:#x}"));
    }
    fields.push("message", &crash.message);
    Some(fields)
}

fn function(report: &Report) -> Option<Fields> {
    let found = report.function.as_ref()?;
    let mut fields = Fields::new("Host");
    fields
        .push("driver", found.driver.as_deref().unwrap_or("none"))
        .push("power state", found.power_state.as_deref().unwrap_or("-"));
    if let Some(node) = found.numa_node {
        fields.push("NUMA node", node.to_string());
    }
    if let Some([now, best]) = &found.link {
        fields.push("link", format!("{now} of {best}"));
    }
    if let Some([correctable, nonfatal, fatal]) = found.aer {
        fields.push(
            "AER",
            format!("{correctable} correctable, {nonfatal} not fatal, {fatal} fatal"),
        );
    }
    Some(fields)
}

fn slots(report: &Report) -> Option<Fields> {
    let slots = report.firmware_slots.as_ref()?;
    let mut fields = Fields::new("Firmware slots");
    for (number, slot) in slots.iter().enumerate() {
        let version = slot.version.as_deref().unwrap_or("empty");
        let booted = if slot.booted_from {
            ", booted from"
        } else {
            ""
        };
        let next = if slot.boots_next {
            ", next to boot"
        } else {
            ""
        };
        fields.push(
            &format!("slot {number}"),
            format!("{version}{booted}{next}"),
        );
    }
    Some(fields)
}

fn events(report: &Report) -> Option<Grid> {
    let mut grid = Grid::new(&[
        "SEQUENCE",
        "AFTER POWER-ON",
        "GENERATION",
        "EVENT",
        "ARGUMENT",
    ]);
    for event in report.event_log.as_ref()? {
        grid.push(vec![
            event.sequence.to_string().into(),
            format!("{} ms", event.uptime_ms).into(),
            event.generation.to_string().into(),
            Cell::from(&event.event),
            event.argument.to_string().into(),
        ]);
    }
    Some(grid)
}

fn commands(queue: &RecentCommands) -> Grid {
    let mut grid = Grid::new(&["ID", "COMMAND", "DST", "SRC", "AUX", "BYTES", "STATUS"]);
    let dash = || "-".to_owned();
    for command in &queue.commands {
        let operand = |operand: &Option<String>| Cell::from(operand.clone().unwrap_or_else(dash));
        let status = match command.status.as_deref() {
            None => Cell::new("in flight", Tone::Doubtful),
            Some("Success") => Cell::from("Success"),
            Some(other) => Cell::new(other, Tone::Bad),
        };
        grid.push(vec![
            command.id.to_string().into(),
            Cell::from(&command.opcode),
            operand(&command.dst),
            operand(&command.src),
            operand(&command.aux),
            command
                .bytes
                .map_or_else(dash, |bytes| bytes.to_string())
                .into(),
            status,
        ]);
    }
    grid
}
