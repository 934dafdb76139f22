//! What goes into a report, and what is said where it cannot be had.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use auk_asic::bar0;
use auk_asic::event::EventCode;
use auk_asic::firmware::FirmwareVersion;
use auk_asic::log::{CrashLog, SlotInfo};
use auk_asic::register::Register;
use auk_asic::telemetry::Telemetry;

use super::{Crash, Function, LoggedEvent, Missing, Report, Slot, VERSION};
use crate::bus::FunctionConfig;
use crate::device::{Device, Inner};
use crate::error::Error;
use crate::pci::{PciFunction, read_vitals};

/// How long a log may take: a chip that is as slow as it may be has more urgent things to do than this.
const LOG_TIME: Duration = Duration::from_secs(2);

/// Why what follows something that was not to be had is not in a report.
const UNASKED: &str = "not asked for, because what comes before it was not to be had";

const REGISTERS: [Register; 18] = [
    bar0::STATUS,
    bar0::FAULT,
    bar0::GENERATION,
    bar0::STOPPED_LO,
    bar0::STOPPED_HI,
    bar0::CONTROL,
    bar0::IDENT,
    bar0::VERSION,
    bar0::CAP_QUEUES,
    bar0::CAP_DMA,
    bar0::CAP_LIMITS,
    bar0::ADMIN_QUEUE,
    bar0::TIMEOUT_READY,
    bar0::TIMEOUT_COMMAND,
    bar0::TIMEOUT_ABORT,
    bar0::TIMEOUT_QUEUE,
    bar0::TIMEOUT_RESTART,
    bar0::TIMEOUT_FLR,
];

/// Bits of `SlotInfo::flags`, `docs/hardware.md`, section 12.
const BOOTED_FROM: u32 = 1 << 0;
const BOOTS_NEXT: u32 = 1 << 1;

impl Report {
    fn empty(device: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            version: VERSION,
            driver: env!("CARGO_PKG_VERSION"),
            device: device.to_owned(),
            unix_ms: now.map_or(0, |now| now.as_millis() as u64),
            error: None,
            vital_signs: None,
            function: None,
            registers: None,
            telemetry: None,
            firmware_slots: None,
            crash_log: None,
            event_log: None,
            queues: Vec::new(),
            recovered_by: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// What can be had of a function without touching it: its vital signs and what the kernel says, from sysfs.
    #[must_use]
    pub fn of_function(function: &PciFunction) -> Self {
        let mut report = Self::empty(&function.bdf().to_string());
        let vitals = function.config().and_then(|config| config.vitals());
        report.vital_signs = report.had("vital signs", vitals);
        report.look_at(function);
        report
    }

    /// Says why a part is not in here.
    pub fn lacks(&mut self, part: &'static str, why: impl Display) {
        let why = why.to_string();
        self.missing.push(Missing { part, why });
    }

    fn had<T, E: Display>(&mut self, part: &'static str, found: Result<T, E>) -> Option<T> {
        found.map_err(|error| self.lacks(part, error)).ok()
    }

    fn look_at(&mut self, function: &PciFunction) {
        let link = self.had("link", function.link()).map(|link| {
            [
                format!("{} x{}", link.current_speed, link.current_width),
                format!("{} x{}", link.max_speed, link.max_width),
            ]
        });
        let aer = self.had("AER counters", function.aer()).flatten();
        self.function = Some(Function {
            driver: self.had("driver", function.driver()).flatten(),
            power_state: self.had("power state", function.power_state()),
            numa_node: self.had("NUMA node", function.numa_node()).flatten(),
            link,
            aer: aer.map(|aer| [aer.correctable, aer.nonfatal, aer.fatal]),
        });
    }

    /// All that can be had at once, whatever state the chip is in: without its logs.
    pub(crate) fn snapshot(inner: &Inner, error: Option<&Error>) -> Self {
        let mut report = Self::empty(&inner.name);
        report.error = error.map(ToString::to_string);
        match &inner.listed {
            Some(function) => {
                let vitals = function.config().and_then(|config| config.vitals());
                report.vital_signs = report.had("vital signs", vitals);
                report.look_at(function);
            }
            None => {
                let vitals = read_vitals(&FunctionConfig(&*inner.function));
                report.vital_signs = report.had("vital signs", vitals);
            }
        }
        report.ask_for_registers(inner);
        report.queues = inner.recent_commands();
        report
    }

    fn ask_for_registers(&mut self, inner: &Inner) {
        let registers: Result<BTreeMap<_, _>, Error> = REGISTERS
            .iter()
            .map(|register| Ok((register.name, inner.read_register(*register)?)))
            .collect();
        self.registers = self.had("registers", registers);
        if self.registers.is_some() {
            let found = inner.read_telemetry().map(|table| readings(&table));
            self.telemetry = self.had("telemetry", found);
        } else {
            self.lacks("telemetry", UNASKED);
        }
    }

    /// Adds to a report from sysfs what the chip says once it is open.
    pub fn add(&mut self, device: &Device) {
        self.ask_for_registers(&device.inner);
        self.take_logs(device);
    }

    /// Asks for the logs, which a chip has to serve admin commands for: also once more, after a recovery.
    pub fn take_logs(&mut self, device: &Device) {
        self.ask_for_logs(&device.inner);
    }

    pub(crate) fn ask_for_logs(&mut self, inner: &Inner) {
        const LOGS: [&str; 3] = ["crash log", "event log", "firmware slots"];
        self.missing.retain(|missing| !LOGS.contains(&missing.part));
        let [crash, events, slots] = LOGS;
        // One that does not answer is asked once.
        if let Err(error) = inner.check_serving("reading logs") {
            for part in LOGS {
                self.lacks(part, &error);
            }
            return;
        }
        let found = inner.read_crash_log(LOG_TIME);
        let answers = found.is_ok();
        self.crash_log = self
            .had(crash, found)
            .flatten()
            .map(|(log, fault)| Crash::new(&log, fault.name()));
        if !answers {
            for part in [events, slots] {
                self.lacks(part, UNASKED);
            }
            return;
        }
        let found = inner.read_event_log(LOG_TIME);
        self.event_log = self.had(events, found).map(|log| {
            let entries = log.iter().map(|record| LoggedEvent {
                sequence: record.sequence,
                uptime_ms: record.uptime_ms,
                event: EventCode::parse(record.code)
                    .map_or_else(|_| record.code.to_string(), |code| code.name().to_owned()),
                argument: record.argument,
                generation: record.generation,
            });
            entries.collect()
        });
        let found = inner.read_firmware_slots(LOG_TIME);
        self.firmware_slots = self
            .had(slots, found)
            .map(|slots| slots.iter().map(Slot::new).collect());
    }
}

impl Device {
    /// A report on the device as it is now. Parts that its state does not allow are left out, and said to be missing; the chip is not
    /// changed. Takes a few seconds at most where the chip does not answer, and what the bus takes beside.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::snapshot(&self.inner, None);
        report.take_logs(self);
        report
    }
}

fn readings(table: &Telemetry) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("uptime_ms", table.uptime_ms),
        ("firmware_uptime_ms", table.firmware_uptime_ms),
        ("commands_ok", table.commands_ok),
        ("commands_failed", table.commands_failed),
        ("launches", table.launches),
        ("host_read_bytes", table.host_read_bytes),
        ("host_written_bytes", table.host_written_bytes),
        ("interrupts", table.interrupts),
        ("kicks", table.kicks),
        ("busy_ns", table.busy_ns),
        ("throttled_ms", table.throttled_ms),
        ("memory_used", table.memory_used),
        ("memory_total", table.memory_total),
        ("clock_mhz", table.clock_mhz.into()),
        ("queues", table.queues.into()),
        ("contexts", table.contexts.into()),
        ("programs", table.programs.into()),
    ])
}

impl Crash {
    fn new(log: &CrashLog, fault: &'static str) -> Self {
        let known = |number: u16| (number != u16::MAX).then_some(number);
        let message = log.message.split(|byte| *byte == 0).next();
        Self {
            fault,
            generation: log.generation,
            uptime_ms: log.uptime_ms,
            firmware: FirmwareVersion::parse_optional(log.firmware_version)
                .map(|version| version.to_string()),
            queue: known(log.queue),
            command_id: known(log.queue).map(|_| log.command_id),
            address: (log.address != 0).then_some(log.address),
            message: String::from_utf8_lossy(message.unwrap_or_default()).into_owned(),
        }
    }
}

impl Slot {
    fn new(info: &SlotInfo) -> Self {
        Self {
            version: FirmwareVersion::parse_optional(info.version)
                .map(|version| version.to_string()),
            booted_from: info.flags & BOOTED_FROM != 0,
            boots_next: info.flags & BOOTS_NEXT != 0,
        }
    }
}
