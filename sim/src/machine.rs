//! The assembled chip: everything behind its one lock.

use std::time::{Duration, Instant};

use auk_asic::event::EventCode;
use auk_asic::log::CrashLog;
use auk_asic::{Fault, State, Status};
use zerocopy::FromZeros;

use crate::arming::Verdict;
use crate::config_space::ConfigSpace;
use crate::firmware::Firmware;
use crate::io::{self, Progress, Started};
use crate::life::Life;
use crate::log::Log;
use crate::memory::{Memory, SharedMemory};
use crate::msix_table::MsixTable;
use crate::profile::ChipProfile;
use crate::queue::{Current, Queue, Stopped};
use crate::registers::Registers;
use crate::resources::Resources;
use crate::strict::Violation;
use crate::telemetry::TelemetryPage;
use crate::vitals::{Board, Publication, SHUTDOWN_POINT};
use crate::{admin, telemetry};

/// Commands of one queue before the next queue has its turn.
const BATCH: u32 = 64;

/// What the queues get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// Everything.
    All,
    /// Commands end in a device error.
    Refusal,
    /// Nothing.
    None,
}

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
    pub(crate) doorbells: SharedMemory,
    pub(crate) msix: MsixTable,
    pub(crate) powered_on: Instant,
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
    pub(crate) fn new(
        profile: ChipProfile,
        device: SharedMemory,
        doorbells: SharedMemory,
        now: Instant,
    ) -> Self {
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
            powered_on: now,
            queues: (0..queues).map(|_| None).collect(),
            live: Vec::new(),
            stopped: 0,
            async_events: Vec::new(),
            poisoned: false,
            wake_at: None,
            blocked: false,
            asleep: false,
            attention: false,
            stopping: false,
            profile,
        }
    }

    // ---- time -----------------------------------------------------------------------------

    /// What the passing of time alone brings: the end of a boot, the watchdog, heat.
    pub(crate) fn update(&mut self, now: Instant) {
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

    fn boot(&mut self, now: Instant) {
        let pages = self.life.condemned_pages;
        match self.firmware.boot() {
            Ok(version) => {
                self.life.start(version, now);
                self.event(EventCode::FirmwareStarted, self.life.generation, now);
                if pages > 0 {
                    self.event(EventCode::PageRetired, self.life.retired_pages, now);
                }
            }
            Err(status) => {
                tracing::warn!(%status, "firmware image refused at boot");
                self.fail(
                    Fault::ImageRejected,
                    None,
                    "the image in the active slot was refused",
                    now,
                );
            }
        }
        self.publish(now);
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

    // ---- events and faults ----------------------------------------------------------------

    /// Something happened: writes it down, tells it, fires vector 0.
    pub(crate) fn event(&mut self, code: EventCode, argument: u32, now: Instant) {
        let uptime = self.uptime_ms(now);
        self.log
            .record(code, argument, self.life.generation, uptime);
        self.tell_events();
        if self.may_master() {
            self.resources.interrupts.fire(0);
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

    /// The runtime stands still; only the watchdog will notice.
    pub(crate) fn hang(&mut self, now: Instant) {
        if self.life.state == State::Running && !self.life.hangs() {
            self.life.watchdog_bites = Some(now + self.profile.timing.watchdog);
            self.publish(now);
            self.attention = true;
        }
    }

    // ---- resets ---------------------------------------------------------------------------

    /// Ends all DMA and forgets everything that belongs to a driver.
    pub(crate) fn drop_owner(&mut self) {
        for queue in self.queues.iter().flatten() {
            queue.set_parked(false);
        }
        self.queues.fill_with(|| None);
        self.live.clear();
        self.stopped = 0;
        self.async_events.clear();
        self.resources.clear();
        self.registers.control = auk_asic::bar0::Control::new();
    }

    /// CONTROL.restart.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.drop_owner();
        self.poisoned = false;
        self.life.restart(now, self.profile.timing.boot);
        self.publish(now);
        self.attention = true;
    }

    /// A function-level reset.
    pub(crate) fn function_reset(&mut self, now: Instant) {
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
        for queue in self.queues.iter_mut().flatten() {
            queue.unmap(iova, size);
        }
    }

    // ---- queues ---------------------------------------------------------------------------

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

    /// The chip may do DMA and raise interrupts.
    fn may_master(&self) -> bool {
        self.config.bus_master() && !self.config.in_d3hot()
    }

    fn service(&self) -> Service {
        if !self.may_master() || self.life.hangs() {
            return Service::None;
        }
        match (self.life.state, self.life.fault) {
            (State::Running | State::Loader, _) => Service::All,
            (State::Faulted, Some(Fault::EccUncorrectable)) => Service::Refusal,
            _ => Service::None,
        }
    }

    /// Whether doorbells mean anything now.
    pub(crate) fn serves(&self) -> bool {
        self.service() != Service::None && (!self.live.is_empty() || self.queues[0].is_some())
    }

    /// Looks at all doorbells. True when a queue has something to do.
    pub(crate) fn sweep(&mut self) -> bool {
        if !self.serves() {
            return false;
        }
        let mut work = false;
        for queue in self.queues.iter_mut().flatten() {
            work |= queue.sweep() || queue.current.as_ref().is_some_and(|c| !c.job.is_wait());
        }
        self.tell_of_stopped_queues();
        work
    }

    /// Whether the engine has a reason to be awake.
    pub(crate) fn wants_engine(&mut self) -> bool {
        self.stopping || self.attention || self.sweep()
    }

    pub(crate) fn tell_of_stopped_queues(&mut self) {
        for index in 0..self.queues.len() {
            let Some(queue) = &self.queues[index] else {
                continue;
            };
            let number = queue.number();
            let Some(why) = queue.stopped().filter(|_| self.stopped >> number & 1 == 0) else {
                continue;
            };
            let violation = match why {
                Stopped::DoorbellBeyondRing { tail } => Violation::DoorbellBeyondRing {
                    queue: number,
                    tail,
                    completed: queue.completed(),
                    depth: queue.depth(),
                },
                Stopped::RingNotMapped => Violation::RingNotMapped { queue: number },
            };
            self.stopped |= 1 << number;
            self.resources.strict.record(violation);
            let now = Instant::now();
            self.event(EventCode::QueueStopped, u32::from(number), now);
            if number == 0 && why == Stopped::RingNotMapped {
                self.fail(Fault::DmaFault, None, "the admin rings are not mapped", now);
            }
        }
    }

    /// One round over all queues. True when something was done.
    #[inline]
    pub(crate) fn turn(&mut self) -> bool {
        let service = self.service();
        self.wake_at = None;
        self.blocked = false;
        let mut worked = false;
        match service {
            Service::None => return false,
            Service::All => {
                for index in 0..self.live.len() {
                    worked |= self.serve(self.live[index]);
                }
                worked |= admin::serve(self);
            }
            Service::Refusal => {
                for index in 0..self.live.len() {
                    worked |= self.refuse(self.live[index]);
                }
            }
        }
        worked
    }

    #[inline]
    fn serve(&mut self, number: u16) -> bool {
        let Some(Some(queue)) = self.queues.get_mut(usize::from(number)) else {
            return false;
        };
        let resources = &mut self.resources;
        let mut worked = false;
        let mut begun = None;
        if queue.sweep() || queue.current.is_some() {
            for _ in 0..BATCH {
                if let Some(current) = &mut queue.current {
                    if !current.job.is_wait() {
                        begun.get_or_insert_with(Instant::now);
                    }
                    match current.job.advance(resources) {
                        Progress::More => {
                            worked = true;
                            break;
                        }
                        Progress::Blocked(deadline) => {
                            self.blocked = true;
                            earlier(&mut self.wake_at, deadline);
                            break;
                        }
                        Progress::Done(outcome) => {
                            let (id, launch) = (current.command_id, current.job.is_launch());
                            queue.current = None;
                            finish(queue, resources, id, outcome, launch);
                            worked = true;
                        }
                    }
                }
                let Some(entry) = queue.next() else {
                    break;
                };
                worked = true;
                if entry.opcode != auk_asic::io::IoOpcode::Nop.code() {
                    begun.get_or_insert_with(Instant::now);
                }
                match io::start(&entry, queue.context(), resources) {
                    Started::Done(outcome) => {
                        finish(queue, resources, entry.command_id, outcome, false);
                    }
                    Started::Job(job) => {
                        queue.current = Some(Current {
                            command_id: entry.command_id,
                            job,
                        });
                    }
                }
            }
        }
        if let Some(begun) = begun {
            let elapsed = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            resources.counters.busy_ns = resources.counters.busy_ns.saturating_add(elapsed);
        }
        match queue.look_at_arming() {
            Verdict::Quiet => {}
            Verdict::Fire => {
                if let Some(vector) = queue.vector() {
                    resources.interrupts.fire(vector);
                }
            }
            Verdict::At(due) => earlier(&mut self.wake_at, due),
        }
        if queue.stopped().is_some() && self.stopped >> number & 1 == 0 {
            self.tell_of_stopped_queues();
        }
        worked
    }

    /// Ends what a queue has in a device error.
    fn refuse(&mut self, number: u16) -> bool {
        let Some(Some(queue)) = self.queues.get_mut(usize::from(number)) else {
            return false;
        };
        let mut worked = false;
        let mut ended = queue.current.take().map(|current| current.command_id);
        let fetched = queue.sweep();
        for _ in 0..BATCH {
            let next = ended.take().map(|id| (id, Status::DeviceFaulted));
            let next = match next {
                Some(next) => next,
                None if !fetched => break,
                None => match queue.next() {
                    Some(entry) if std::mem::take(&mut self.poisoned) => {
                        (entry.command_id, Status::EccUncorrectable)
                    }
                    Some(entry) => (entry.command_id, Status::DeviceFaulted),
                    None => break,
                },
            };
            finish(queue, &mut self.resources, next.0, Err(next.1), false);
            worked = true;
        }
        if queue.look_at_arming() == Verdict::Fire
            && let Some(vector) = queue.vector()
        {
            self.resources.interrupts.fire(vector);
        }
        worked
    }

    // ---- sleep ----------------------------------------------------------------------------

    /// Tells the drivers of all queues whether a doorbell needs a KICK.
    pub(crate) fn set_parked(&self, parked: bool) {
        if self.profile.parking && self.serves() {
            for queue in self.queues.iter().flatten() {
                queue.set_parked(parked);
            }
        }
    }

    /// How long the engine may sleep; `None` is until somebody wakes it.
    pub(crate) fn sleep_limit(&self, now: Instant, nap: Duration) -> Option<Duration> {
        let mut limit = None;
        let deadlines = [
            self.life.boot_ends,
            self.life.watchdog_bites,
            self.wake_at.filter(|_| self.serves()),
        ];
        for deadline in deadlines.into_iter().flatten() {
            earlier(&mut limit, deadline);
        }
        let must_look = self.serves()
            && (self.blocked
                || !self.profile.parking
                || self.queues.iter().flatten().any(|queue| !queue.can_park()));
        if must_look {
            earlier(&mut limit, now + nap);
        }
        limit.map(|limit| limit.saturating_duration_since(now))
    }

    /// The telemetry table at this time.
    pub(crate) fn refresh_telemetry(&mut self, now: Instant) {
        let table = telemetry::compose(self, now);
        self.telemetry.update(table, now);
    }
}

#[inline]
fn finish(
    queue: &mut Queue,
    resources: &mut Resources,
    command_id: u16,
    outcome: Result<u64, Status>,
    launch: bool,
) {
    let counters = &mut resources.counters;
    match outcome {
        Ok(_) => {
            counters.commands_ok += 1;
            counters.launches += u64::from(launch);
        }
        Err(status) => {
            counters.commands_failed += 1;
            if status == Status::DmaFault {
                resources.strict.record(Violation::DmaNotMapped {
                    queue: queue.number(),
                    command_id,
                });
            }
        }
    }
    queue.complete(command_id, outcome);
}

fn earlier(limit: &mut Option<Instant>, candidate: Instant) {
    *limit = Some(limit.map_or(candidate, |limit| limit.min(candidate)));
}

/// Whole milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
