//! The assembled chip: everything behind its one lock.

mod faults;
mod inject;
mod resets;
mod service;
mod sleep;

use std::time::{Duration, Instant};

use auk_asic::event::EventCode;
use auk_asic::{Fault, State, Status};

use crate::accesses::AccessLog;
use crate::config_space::ConfigSpace;
use crate::fault::{Ailments, Met, Plan};
use crate::firmware::Firmware;
use crate::gate::RegisterDelay;
use crate::inject::{Occasion, Verb};
use crate::life::Life;
use crate::log::Log;
use crate::memory::{Memfd, Memory};
use crate::msix_table::MsixTable;
use crate::profile::ChipProfile;
use crate::queue::Queue;
use crate::registers::Registers;
use crate::resources::Resources;
use crate::telemetry::{self, TelemetryPage};
use crate::vitals::{Board, Publication, SHUTDOWN_POINT};

/// The chip.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) profile: ChipProfile,
    pub(crate) config: ConfigSpace,
    pub(crate) registers: Registers,
    pub(crate) firmware: Firmware,
    pub(crate) life: Life,
    pub(crate) board: Board,
    pub(crate) vitals: Publication,
    pub(crate) telemetry: TelemetryPage,
    pub(crate) log: Log,
    pub(crate) resources: Resources,
    pub(crate) doorbells: Memfd,
    pub(crate) msix: MsixTable,
    pub(crate) accesses: AccessLog,
    pub(crate) powered_on: Instant,
    pub(crate) ailments: Ailments,
    /// Queues do not look at their doorbells themselves.
    is_wary: bool,
    /// Faults of the boot under way.
    at_boot: Vec<Verb>,
    /// How long a trapped access to a register takes.
    pub(crate) register_delay: RegisterDelay,
    /// Faults that happened and whose rest is the host's part.
    pub(crate) for_the_host: Vec<Verb>,
    /// Queue 0 is the admin queue.
    queues: Vec<Option<Queue>>,
    /// Numbers of the I/O queues that exist, so that the engine looks at no others.
    live: Vec<u16>,
    /// Bit q: queue q stopped on an error, and that was told.
    stopped: u64,
    /// ASYNC_EVENT commands that wait for an event.
    async_events: Vec<u16>,
    /// The next command that is fetched ends in EccUncorrectable.
    poisoned: bool,
    /// A reset was asked for that did not reach it, and nothing has ended its queues since.
    pub(crate) missed_reset: bool,
    /// The earliest time at which a queue must be looked at again.
    wake_at: Option<Instant>,
    /// A job waits for a semaphore.
    blocked: bool,
    /// The engine sleeps.
    pub(crate) asleep: bool,
    /// A visitor changed something that the sleeping engine must look at.
    pub(crate) attention: bool,
    /// The engine is to end.
    pub(crate) stopping: bool,
}

impl Machine {
    /// The chip at power-on.
    pub(crate) fn new(profile: ChipProfile, device: Memfd, doorbells: Memfd, now: Instant) -> Self {
        let memory = Memory::new(device, profile.cap_dma().last_address());
        let queues = usize::from(profile.io_queues) + 1;
        Self {
            config: ConfigSpace::new(&profile),
            registers: Registers::default(),
            firmware: Firmware::new(profile.model, profile.security_version),
            life: Life::new(now, profile.timing.boot),
            board: Board::new(now),
            vitals: Publication::new(now),
            telemetry: TelemetryPage::default(),
            log: Log::new(),
            resources: Resources::new(&profile, memory),
            doorbells,
            msix: MsixTable::default(),
            accesses: AccessLog::default(),
            powered_on: now,
            ailments: Ailments::default(),
            is_wary: false,
            at_boot: Vec::new(),
            register_delay: RegisterDelay::default(),
            for_the_host: Vec::new(),
            queues: (0..queues).map(|_| None).collect(),
            live: Vec::new(),
            stopped: 0,
            async_events: Vec::new(),
            poisoned: false,
            missed_reset: false,
            wake_at: None,
            blocked: false,
            asleep: false,
            attention: false,
            stopping: false,
            profile,
        }
    }

    /// What the passing of time alone brings: the end of a boot, the watchdog, heat.
    pub(crate) fn update(&mut self, now: Instant) {
        self.happen_by_the_clock(now);
        if self.life.boot_ends.is_some_and(|ends| now >= ends) {
            self.life.boot_ends = None;
            self.boot(now);
        }
        if self.life.watchdog_bites.is_some_and(|bites| now >= bites) {
            self.fail(
                Fault::FirmwareHang,
                None,
                "no heartbeat from the runtime",
                now,
            );
        }
        self.publish(now);
        if self.life.state == State::Running && self.board.die_temperature() >= SHUTDOWN_POINT {
            self.fail(
                Fault::OverTemperature,
                None,
                "the die reached its shutdown point",
                now,
            );
        }
    }

    /// What the boot that begins takes, and what is to befall it.
    fn boot_time(&mut self, now: Instant) -> Duration {
        let mut takes = self.profile.timing.boot;
        self.at_boot = self.meet(Met::of(Occasion::Boot), now);
        for verb in &self.at_boot {
            if let Verb::SlowBoot { ms } = verb {
                takes += Duration::from_millis(*ms);
            }
        }
        takes
    }

    fn boot(&mut self, now: Instant) {
        let pages = self.life.condemned_pages;
        let faults = std::mem::take(&mut self.at_boot);
        if faults.contains(&Verb::ImageRefused) {
            self.refuse_image(now);
            return self.publish(now);
        }
        match self.firmware.boot() {
            Ok(version) => {
                self.life.start(version, now);
                self.event(EventCode::FirmwareStarted, self.life.generation, now);
                if pages > 0 {
                    self.event(EventCode::PageRetired, self.life.retired_pages, now);
                }
                if faults.contains(&Verb::BootLoop) {
                    self.happen(&Verb::BootLoop, now);
                }
            }
            Err(status) => {
                tracing::warn!(%status, "firmware image refused at boot");
                self.refuse_image(now);
            }
        }
        self.publish(now);
    }

    fn refuse_image(&mut self, now: Instant) {
        self.fail(
            Fault::ImageRejected,
            None,
            "the image in the active slot was refused",
            now,
        );
    }

    pub(crate) fn plan_mut(&mut self) -> &mut Plan {
        &mut self.resources.plan
    }

    /// Brings the vital signs in config space up to date.
    pub(crate) fn publish(&mut self, now: Instant) {
        let in_d0 = !self.config.in_d3hot();
        self.life.update_heartbeat(in_d0, now);
        let busy_ns = self.resources.counters.busy_ns;
        let throttle = self
            .vitals
            .update(&self.life, &mut self.board, busy_ns, now);
        if let Some(throttle) = throttle {
            self.event(EventCode::ThrottleChanged, throttle.into_bits(), now);
        }
        self.config.set_vital_signs(self.vitals.block());
    }

    pub(crate) fn uptime_ms(&self, now: Instant) -> u64 {
        milliseconds(now.saturating_duration_since(self.powered_on))
    }
    pub(crate) fn queue(&self, number: u16) -> Option<&Queue> {
        self.queues.get(usize::from(number))?.as_ref()
    }

    pub(crate) fn queue_mut(&mut self, number: u16) -> Option<&mut Queue> {
        self.queues.get_mut(usize::from(number))?.as_mut()
    }

    pub(crate) fn io_queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter().skip(1).flatten()
    }

    /// # Errors
    /// [`Status::InvalidQueue`] when there is no such number, or it is taken.
    pub(crate) fn add_queue(&mut self, queue: Queue) -> Result<(), Status> {
        let number = queue.number();
        match self.queues.get_mut(usize::from(number)) {
            Some(place @ None) => *place = Some(queue),
            _ => return Err(Status::InvalidQueue),
        }
        if number != 0 {
            self.live.push(number);
        }
        Ok(())
    }

    /// # Errors
    /// [`Status::InvalidQueue`].
    pub(crate) fn remove_queue(&mut self, number: u16) -> Result<(), Status> {
        let place = self.queues.get_mut(usize::from(number));
        let queue = place.and_then(Option::take).ok_or(Status::InvalidQueue)?;
        queue.set_parked(false);
        self.live.retain(|&live| live != number);
        self.stopped &= !(1 << number);
        Ok(())
    }

    /// Bit q: queue q stopped on an error.
    pub(crate) fn stopped(&self) -> u64 {
        self.stopped
    }

    /// # Errors
    /// [`Status::OutOfResources`] when as many as may wait do.
    pub(crate) fn add_async_event(&mut self, command_id: u16) -> Result<(), Status> {
        if self.async_events.len() >= auk_asic::admin::MAX_ASYNC_EVENTS {
            return Err(Status::OutOfResources);
        }
        self.async_events.push(command_id);
        Ok(())
    }

    /// The telemetry table at this time.
    pub(crate) fn refresh_telemetry(&mut self, now: Instant) {
        let table = telemetry::compose(self, now);
        self.telemetry.update(table, now);
    }
}

/// Whole milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
