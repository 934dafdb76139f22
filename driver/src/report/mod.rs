//! A report on one device, for those who have to find out what happened: what it says of itself, what the host says of it, and the
//! last commands.
//!
//! It holds nothing of a job: opcodes, identifiers, lengths, addresses and statuses, and no operand's contents, pattern, semaphore value
//! or result. The last commands are read from the rings themselves, where they lie anyway; nothing is recorded for it.

mod commands;
mod gather;
mod write;

use std::collections::BTreeMap;

use auk_asic::vitals::Vitals;
use serde::Serialize;

pub(crate) use commands::RingView;
pub use commands::{RecentCommand, RecentCommands};
pub(crate) use write::Reports;

/// Version of the form in which a report is written.
pub const VERSION: u32 = 1;

/// A report. What could not be had is `None` or empty, and [`Report::missing`] says why.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Version of this driver.
    pub driver: &'static str,
    /// What the device is called.
    pub device: String,
    /// When it was made, in Unix milliseconds.
    pub unix_ms: u64,
    /// The error on which it was made.
    pub error: Option<String>,
    /// The vital signs.
    pub vital_signs: Option<Vitals>,
    /// What the kernel says of the function.
    pub function: Option<Function>,
    /// Registers of BAR0 by name.
    pub registers: Option<BTreeMap<&'static str, u32>>,
    /// The telemetry by name.
    pub telemetry: Option<BTreeMap<&'static str, u64>>,
    /// The firmware slots.
    pub firmware_slots: Option<Vec<Slot>>,
    /// The crash log; `None` as well when the firmware never stopped on a fault.
    pub crash_log: Option<Crash>,
    /// The chip's event log, oldest first.
    pub event_log: Option<Vec<LoggedEvent>>,
    /// The last commands, a queue each.
    pub queues: Vec<RecentCommands>,
    /// What a recovery has done since.
    pub recovered_by: Vec<String>,
    /// What is not in here.
    pub missing: Vec<Missing>,
}

/// A part that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// Which.
    pub part: &'static str,
    /// Why.
    pub why: String,
}

/// What the kernel says of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Function {
    /// The driver that has it.
    pub driver: Option<String>,
    /// Such as D0.
    pub power_state: Option<String>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// Speed and lanes, such as `32.0 GT/s PCIe x8`, and the same at best.
    pub link: Option<[String; 2]>,
    /// Totals of AER: correctable, not fatal, fatal.
    pub aer: Option<[u64; 3]>,
}

/// A firmware slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// What is in it, if anything.
    pub version: Option<String>,
    /// The running firmware is from here.
    pub booted_from: bool,
    /// The next will be.
    pub boots_next: bool,
}

/// What the firmware left behind when it last stopped on a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Crash {
    /// The fault.
    pub fault: &'static str,
    /// The start of the firmware that stopped.
    pub generation: u32,
    /// Since power-on.
    pub uptime_ms: u64,
    /// The firmware that stopped.
    pub firmware: Option<String>,
    /// Whose command ran; `None` for none.
    pub queue: Option<u16>,
    /// That command; `None` for none.
    pub command_id: Option<u16>,
    /// In device memory; `None` for none.
    pub address: Option<u64>,
    /// What the firmware has to say.
    pub message: String,
}

/// An entry of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoggedEvent {
    /// Counts since power-on.
    pub sequence: u64,
    /// Since power-on.
    pub uptime_ms: u64,
    /// Its name, or its code where this driver knows none.
    pub event: String,
    /// What it says.
    pub argument: u32,
    /// The start of the firmware.
    pub generation: u32,
}
