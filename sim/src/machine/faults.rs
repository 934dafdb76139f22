//! Events, and the faults that stop the chip.

use std::time::Instant;

use auk_asic::event::EventCode;
use auk_asic::log::CrashLog;
use auk_asic::{Fault, State, Status};
use zerocopy::FromZeros;

use super::Machine;

impl Machine {
    /// Something happened: writes it down, tells it, fires vector 0.
    pub(crate) fn event(&mut self, code: EventCode, argument: u32, now: Instant) {
        let uptime = self.uptime_ms(now);
        self.log
            .record(code, argument, self.life.generation, uptime);
        self.tell_events();
        if self.may_master() {
            self.resources.fire(0);
        }
    }

    /// Completes ASYNC_EVENTs with what there is to tell. The rest is lost but for the log.
    fn tell_events(&mut self) {
        let reachable = self.may_master() && !self.life.hangs();
        let Some(Some(admin)) = self.queues.first_mut() else {
            return self.log.lose_untold();
        };
        while reachable && self.log.has_untold() && !self.async_events.is_empty() {
            let command_id = self.async_events.remove(0);
            if let Some(event) = self.log.tell() {
                admin.complete(command_id, Ok(event.into_bits()));
            }
        }
        self.log.lose_untold();
    }

    /// The chip stops on a fault.
    pub(crate) fn fail(
        &mut self,
        fault: Fault,
        culprit: Option<(u16, u16)>,
        message: &str,
        now: Instant,
    ) {
        let (queue, command_id) = culprit.unwrap_or((u16::MAX, 0));
        let mut crash = CrashLog {
            valid: 1,
            fault: fault.code(),
            generation: self.life.generation,
            uptime_ms: self.uptime_ms(now),
            firmware_version: self.life.version.map_or(0, |version| version.into_bits()),
            queue,
            command_id,
            ..CrashLog::new_zeroed()
        };
        for (to, from) in crash.message.iter_mut().zip(message.bytes()) {
            *to = from;
        }
        self.log.set_crash(crash);
        self.life.fail(fault);
        self.event(EventCode::DeviceFaulted, u32::from(fault.code()), now);
        self.publish(now);
        self.attention = true;
    }

    /// Correctable memory errors.
    pub(crate) fn correctable_errors(&mut self, count: u32, now: Instant) {
        self.life.ecc_ce = self.life.ecc_ce.saturating_add(count);
        self.event(EventCode::EccCorrectable, self.life.ecc_ce, now);
    }

    /// An uncorrectable memory error under what runs, or else under what is fetched next.
    pub(crate) fn uncorrectable_error(&mut self, now: Instant) {
        self.life.ecc_ue = self.life.ecc_ue.saturating_add(1);
        self.event(EventCode::EccUncorrectable, self.life.ecc_ue, now);
        if self.life.state != State::Running {
            return;
        }
        self.life.condemned_pages = self.life.condemned_pages.saturating_add(1);
        let mut culprit = None;
        for queue in self.queues.iter_mut().skip(1).flatten() {
            let victim = queue.current.take_if(|current| !current.job.is_wait());
            if let Some(victim) = victim {
                queue.complete(victim.command_id, Err(Status::EccUncorrectable));
                culprit = Some((queue.number(), victim.command_id));
                break;
            }
        }
        self.poisoned = culprit.is_none();
        self.fail(
            Fault::EccUncorrectable,
            culprit,
            "uncorrectable ECC error in device memory",
            now,
        );
    }

    /// The patrol scrubber finds an uncorrectable error where nobody works.
    pub(crate) fn uncorrectable_error_in_unused_memory(&mut self, now: Instant) {
        self.life.ecc_ue = self.life.ecc_ue.saturating_add(1);
        self.life.condemned_pages = self.life.condemned_pages.saturating_add(1);
        self.event(EventCode::EccUncorrectable, self.life.ecc_ue, now);
    }

    /// Pages are retired.
    pub(crate) fn retire_pages(&mut self, count: u32, now: Instant) {
        self.life.retired_pages = self.life.retired_pages.saturating_add(count);
        self.event(EventCode::PageRetired, self.life.retired_pages, now);
    }

    /// The runtime stands still; only the watchdog will notice.
    pub(crate) fn hang(&mut self, now: Instant) {
        if self.life.state == State::Running && !self.life.hangs() {
            self.life.watchdog_bites = Some(now + self.profile.timing.watchdog);
            self.publish(now);
            self.attention = true;
        }
    }
}
