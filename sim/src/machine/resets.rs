//! Resets, and a client that leaves.

use std::time::Instant;

use auk_asic::State;
use auk_asic::bar0::Control;
use auk_asic::event::EventCode;

use super::Machine;
use crate::fault::{Met, Spell};
use crate::inject::{Occasion, Verb};
use crate::log::Log;
use crate::msix_table::MsixTable;
use crate::queue::Stopped;
use crate::registers::Registers;

impl Machine {
    /// Ends all DMA and forgets everything that belongs to a driver.
    pub(crate) fn drop_owner(&mut self) {
        self.set_parked(false);
        self.queues.fill_with(|| None);
        self.live.clear();
        self.stopped = 0;
        self.missed_reset = false;
        self.async_events.clear();
        self.resources.clear();
        self.registers.control = Control::new();
    }

    /// CONTROL.restart.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.drop_owner();
        self.poisoned = false;
        let boot = self.boot_time(now);
        self.life.restart(now, boot);
        self.publish(now);
        self.attention = true;
    }

    /// A function-level reset, and what was to befall it.
    pub(crate) fn function_reset(&mut self, now: Instant) {
        // Another try heals one that failed.
        if self.life.state == State::Resetting {
            let boot = self.boot_time(now);
            self.life.restart(now, boot);
        }
        self.wipe_function(now);
        for verb in self.meet(Met::of(Occasion::Reset), now) {
            match verb {
                Verb::ResetHang { for_ms } => self.ailments.reset = Spell::of(for_ms, now),
                Verb::ResetDead => self.ailments.bus = Spell::Open,
                Verb::ResetFails => {
                    self.life.state = State::Resetting;
                    self.life.watchdog_bites = None;
                }
                _ => self.happen(&verb, now),
            }
        }
        self.publish(now);
    }

    /// The device is put back after it was pulled out: power on.
    pub(super) fn power_cycle(&mut self, now: Instant) {
        self.disconnect();
        self.wipe_function(now);
        self.log = Log::new();
        let boot = self.boot_time(now);
        self.life.power_cycle(now, boot);
        self.powered_on = now;
        self.publish(now);
    }

    fn wipe_function(&mut self, now: Instant) {
        self.drop_owner();
        self.registers = Registers::default();
        self.msix = MsixTable::default();
        self.resources.interrupts.reset();
        if let Err(error) = self.resources.memory.device.scrub() {
            tracing::error!(%error, "cannot zero device memory");
        }
        self.config.reset(&self.profile);
        self.event(EventCode::Reset, 0, now);
        self.publish(now);
        self.attention = true;
    }

    /// The client is gone: its memory and eventfds go, and so the queues stop where they are.
    pub(crate) fn disconnect(&mut self) {
        for queue in self.queues.iter_mut().flatten() {
            queue.stop(Stopped::RingNotMapped);
            queue.unmap(0, u64::MAX);
            self.stopped |= 1 << queue.number();
        }
        self.async_events.clear();
        self.resources.memory.host.clear();
        self.resources.interrupts.clear();
        self.config.set_msix_enabled(false);
    }

    /// The client takes memory back.
    pub(crate) fn unmap(&mut self, iova: u64, size: u64) {
        // Of a chip that is off the bus nobody can get its queues first, and whoever has tried need not try again.
        let is_excused = self.ailments.off_bus() || self.missed_reset;
        for queue in self.queues.iter_mut().flatten() {
            queue.unmap(iova, size);
            if is_excused && !queue.has_rings() {
                queue.stop(Stopped::RingNotMapped);
                self.stopped |= 1 << queue.number();
            }
        }
    }
}
