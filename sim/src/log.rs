//! What the chip remembers of its past: events and the last crash.

use std::collections::VecDeque;

use auk_asic::event::{EventCode, EventRecord, EventResult};
use auk_asic::log::{CrashLog, EVENT_LOG_ENTRIES};
use zerocopy::{FromZeros, IntoBytes};

/// The event log, and the events that no ASYNC_EVENT has told yet.
#[derive(Debug)]
pub(crate) struct Log {
    events: VecDeque<EventRecord>,
    last_sequence: u64,
    /// Events waiting to be told to an outstanding ASYNC_EVENT.
    untold: VecDeque<(EventCode, u32)>,
    /// Events that nobody was there to hear.
    lost: u16,
    crash: CrashLog,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            events: VecDeque::new(),
            last_sequence: 0,
            untold: VecDeque::new(),
            lost: 0,
            crash: CrashLog::new_zeroed(),
        }
    }

    pub(crate) fn record(
        &mut self,
        code: EventCode,
        argument: u32,
        generation: u32,
        uptime_ms: u64,
    ) {
        self.last_sequence += 1;
        if self.events.len() == EVENT_LOG_ENTRIES {
            self.events.pop_front();
        }
        self.events.push_back(EventRecord {
            sequence: self.last_sequence,
            uptime_ms,
            code: code.code(),
            reserved: 0,
            argument,
            generation,
            reserved1: 0,
        });
        self.untold.push_back((code, argument));
    }

    /// Whether an event waits to be told.
    pub(crate) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// The oldest event that waits to be told, as the result of an ASYNC_EVENT.
    pub(crate) fn tell(&mut self) -> Option<EventResult> {
        let (code, argument) = self.untold.pop_front()?;
        let lost = std::mem::take(&mut self.lost);
        Some(
            EventResult::new()
                .with_code(code.code())
                .with_lost(lost)
                .with_argument(argument),
        )
    }

    /// Counts the events that wait as lost: there is no ASYNC_EVENT to tell them.
    pub(crate) fn lose_untold(&mut self) {
        let lost = u16::try_from(self.untold.len()).unwrap_or(u16::MAX);
        self.lost = self.lost.saturating_add(lost);
        self.untold.clear();
    }

    pub(crate) fn events(&self) -> Vec<u8> {
        self.events
            .iter()
            .flat_map(|event| event.as_bytes().iter().copied())
            .collect()
    }

    pub(crate) fn crash(&self) -> &CrashLog {
        &self.crash
    }

    pub(crate) fn set_crash(&mut self, crash: CrashLog) {
        self.crash = crash;
    }
}
