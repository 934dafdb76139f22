//! Telemetry and log pages.

use std::time::Duration;

use auk_asic::Fault;
use auk_asic::admin::{AdminCommand, PowerState};
use auk_asic::bar0;
use auk_asic::event::EventRecord;
use auk_asic::firmware::SLOTS;
use auk_asic::log::{CrashLog, EVENT_LOG_ENTRIES, LogPage, SlotInfo};
use auk_asic::submission::Operand;
use auk_asic::telemetry::Telemetry;
use auk_asic::vitals::READ_TRIES;
use zerocopy::FromBytes;

use super::Device;
use super::inner::Inner;
use crate::bus::Region;
use crate::deadline::Deadline;
use crate::error::Error;

/// The chip changes the telemetry for far less than this.
const RETRY: Duration = Duration::from_micros(200);

impl Device {
    /// The telemetry table, read from its page under its sequence counter.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it changed during every try, or is of another layout; what the bus says.
    pub fn telemetry(&self) -> Result<Telemetry, Error> {
        self.inner.read_telemetry()
    }

    /// The chip's event log, oldest first.
    ///
    /// # Errors
    /// As [`Device::log`].
    pub fn event_log(&self) -> Result<Vec<EventRecord>, Error> {
        self.met(|inner| inner.read_event_log(inner.capabilities.timeouts().command))
    }

    /// What the firmware left behind when it last stopped on a fault.
    ///
    /// # Errors
    /// As [`Device::log`]; [`Error::Malformed`] when it is not a crash log.
    pub fn crash_log(&self) -> Result<Option<(CrashLog, Fault)>, Error> {
        self.met(|inner| inner.read_crash_log(inner.capabilities.timeouts().command))
    }

    /// The firmware slots.
    ///
    /// # Errors
    /// As [`Device::log`].
    pub fn firmware_slots(&self) -> Result<Vec<SlotInfo>, Error> {
        self.met(|inner| inner.read_firmware_slots(inner.capabilities.timeouts().command))
    }

    /// The first bytes of a log page, `most` of them or as many as it has.
    ///
    /// # Errors
    /// [`Error::Command`], [`Error::TimedOut`], what has become of the chip.
    pub fn log(&self, page: LogPage, most: usize) -> Result<Vec<u8>, Error> {
        self.met(|inner| inner.read_log(page, most, inner.capabilities.timeouts().command))
    }

    /// What was asked for; if it met an error, the policy of recovery is followed.
    fn met<T>(&self, ask: impl FnOnce(&Inner) -> Result<T, Error>) -> Result<T, Error> {
        let life = self.inner.life();
        ask(&self.inner).inspect_err(|error| self.inner.met(life, error))
    }

    /// Caps the chip's power.
    ///
    /// # Errors
    /// [`Error::Command`], [`Error::TimedOut`], what has become of the chip.
    pub fn set_power_state(&self, state: PowerState) -> Result<(), Error> {
        let inner = &self.inner;
        let deadline = Deadline::after(inner.capabilities.timeouts().command);
        inner.execute(
            AdminCommand::SetPowerState { state },
            None,
            "setting the power state",
            deadline,
        )?;
        Ok(())
    }
}

/// The same for reports, which are made while the policy of recovery is followed.
impl Inner {
    pub(crate) fn read_telemetry(&self) -> Result<Telemetry, Error> {
        let bus = |source| self.bus_error("reading telemetry", source);
        let mut tries = 0;
        loop {
            let mut table = [0; Telemetry::SIZE];
            let mut after = [0; 4];
            self.function
                .read(Region::Bar0, bar0::TELEMETRY, &mut table)
                .map_err(bus)?;
            self.function
                .read(Region::Bar0, bar0::TELEMETRY, &mut after)
                .map_err(bus)?;
            if table == [0xFF; Telemetry::SIZE] {
                self.check_serving("reading telemetry")?;
            }
            let problem = match Telemetry::parse(&table) {
                Ok(parsed) if parsed.sequence == u32::from_le_bytes(after) => return Ok(parsed),
                Ok(parsed) => auk_asic::Malformed {
                    what: "telemetry sequence",
                    found: u64::from(parsed.sequence),
                    expected: "the same value before and after the table",
                },
                Err(error) => error,
            };
            tries += 1;
            if tries == READ_TRIES {
                return Err(self.malformed(problem));
            }
            std::thread::sleep(RETRY);
        }
    }

    pub(crate) fn read_event_log(&self, time: Duration) -> Result<Vec<EventRecord>, Error> {
        let most = EVENT_LOG_ENTRIES * EventRecord::SIZE;
        Ok(records(&self.read_log(LogPage::Events, most, time)?))
    }

    pub(crate) fn read_crash_log(
        &self,
        time: Duration,
    ) -> Result<Option<(CrashLog, Fault)>, Error> {
        let bytes = self.read_log(LogPage::Crash, CrashLog::SIZE, time)?;
        CrashLog::parse(&bytes).map_err(|source| self.malformed(source))
    }

    pub(crate) fn read_firmware_slots(&self, time: Duration) -> Result<Vec<SlotInfo>, Error> {
        let most = usize::from(SLOTS) * SlotInfo::SIZE;
        Ok(records(&self.read_log(LogPage::Firmware, most, time)?))
    }

    fn read_log(&self, page: LogPage, most: usize, time: Duration) -> Result<Vec<u8>, Error> {
        let buffer = self.space.alloc(most)?;
        let length = u32::try_from(most).map_err(|_| Error::Invalid {
            what: "bytes of a log page",
            found: most.to_string(),
            expected: "less than 4 GiB".to_owned(),
        })?;
        let command = AdminCommand::GetLog {
            dst: Operand::host(buffer.iova()),
            page,
            offset: 0,
            length,
        };
        let whole = self.execute_quietly(
            self.running_life()?,
            command,
            Some(buffer.clone()),
            "reading a log page",
            Deadline::after(time),
        )?;
        // Whatever length the chip claims, no more was asked for.
        let length = usize::try_from(whole).unwrap_or(most).min(most);
        Ok(buffer.to_vec(0, length)?)
    }
}

fn records<T: FromBytes>(bytes: &[u8]) -> Vec<T> {
    bytes
        .chunks_exact(size_of::<T>())
        .filter_map(|chunk| T::read_from_bytes(chunk).ok())
        .collect()
}
