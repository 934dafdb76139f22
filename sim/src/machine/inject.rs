//! What an injected fault does to the chip.

use std::time::{Duration, Instant};

use auk_asic::event::EventCode;
use auk_asic::{Fault, State};

use super::Machine;
use crate::fault::{Met, Spell};
use crate::inject::{InjectError, Injection, Occasion, Target, Verb};
use crate::profile::Link;

/// Most faults that wait for the host: it takes them ten times a second.
const MOST_LEFT_TO_HOST: usize = 1024;

impl Machine {
    /// Has a fault happen, or wait.
    ///
    /// # Errors
    /// [`InjectError`] for a number that is out of its range, or what no chip can have; then nothing happened.
    pub(crate) fn inject(
        &mut self,
        injection: &Injection,
        now: Instant,
    ) -> Result<(), InjectError> {
        self.check(&injection.verb)?;
        injection.when.check(&injection.verb)?;
        self.plan_mut().add(injection, now);
        self.happen_by_the_clock(now);
        self.attention = true;
        Ok(())
    }

    fn check(&self, verb: &Verb) -> Result<(), InjectError> {
        let out_of_range = |reason: String| {
            Err(InjectError::OutOfRange {
                verb: verb.name(),
                reason,
            })
        };
        let most = self.profile.link;
        match *verb {
            Verb::EccCe { count: 0 }
            | Verb::PageRetired { count: 0 }
            | Verb::Replays { count: 0 }
            | Verb::AerCorrectable { count: 0 }
            | Verb::AerNonfatal { count: 0 }
            | Verb::AerFatal { count: 0 }
            | Verb::LinkFlap { count: 0, .. } => out_of_range("count is at least 1".to_owned()),
            Verb::LinkFlap { down_ms, .. } if !(1..=3_600_000).contains(&down_ms) => {
                out_of_range(format!("down_ms is 1 to 3600000, not {down_ms}"))
            }
            Verb::Temperature { celsius, .. } if !(-3276..=3276).contains(&celsius) => {
                out_of_range(format!("celsius is -3276 to 3276, not {celsius}"))
            }
            Verb::InterruptSpurious { vector } | Verb::InterruptStorm { vector, .. }
                if vector > u16::from(self.profile.io_queues) =>
            {
                out_of_range(format!(
                    "vector is 0 to {}, not {vector}",
                    self.profile.io_queues
                ))
            }
            Verb::QueueStuck { number, .. } if self.queue(number).is_none() || number == 0 => {
                out_of_range(format!("there is no I/O queue {number} now"))
            }
            Verb::ImageRot { slot } if !self.firmware.has_image(slot) => {
                out_of_range(format!("slot {slot} does not exist or is empty"))
            }
            Verb::LinkWidth { lanes } => check_link(
                verb,
                most,
                Link {
                    width: lanes,
                    ..most
                },
            ),
            Verb::LinkSpeed { generation } => check_link(
                verb,
                most,
                Link {
                    speed: generation,
                    ..most
                },
            ),
            _ if verb.entry().target == Target::Nic => Err(InjectError::WrongKind {
                verb: verb.name(),
                expected: "NICs",
                target: format!("{:#018x}", self.profile.serial),
                found: "a chip",
            }),
            _ => Ok(()),
        }
    }

    /// What was to happen until now, and what lasts no longer.
    pub(crate) fn happen_by_the_clock(&mut self, now: Instant) {
        self.ailments.pass(now);
        self.board.pass(now);
        for queue in self.queues.iter_mut().flatten() {
            queue.pass(now);
        }
        if self.plan_mut().watches(Occasion::Now) {
            for verb in self.plan_mut().due(now) {
                self.happen(&verb, now);
            }
        }
        let slow = if self.ailments.slow.0.lasts() {
            self.ailments.slow.1
        } else {
            Duration::ZERO
        };
        self.register_delay.set(slow);
    }

    /// Something is met that faults may wait for.
    pub(crate) fn meet(&mut self, met: Met, now: Instant) -> Vec<Verb> {
        if self.plan_mut().watches(met.occasion) {
            self.plan_mut().meet(met, now)
        } else {
            Vec::new()
        }
    }

    /// A fault happens to the chip as a whole.
    pub(crate) fn happen(&mut self, verb: &Verb, now: Instant) {
        self.attention = true;
        match *verb {
            Verb::InterruptSpurious { vector } => self.resources.fire(vector),
            Verb::InterruptStorm { vector, for_ms } => {
                self.ailments.storm = (Spell::of(for_ms, now), vector);
            }
            Verb::QueueStuck { number, for_ms } => {
                if let Some(Some(queue)) = self.queues.get_mut(usize::from(number)) {
                    queue.stick(Spell::of(for_ms, now));
                }
            }
            Verb::EccCe { count } => self.correctable_errors(count, now),
            Verb::EccUe => self.uncorrectable_error(now),
            Verb::EccUeUnused => self.uncorrectable_error_in_unused_memory(now),
            Verb::PageRetired { count } => self.retire_pages(count, now),
            Verb::Temperature { celsius, for_ms } => {
                let tenths = i16::try_from(celsius * 10).unwrap_or(i16::MAX);
                self.board.force_temperature(tenths, Spell::of(for_ms, now));
            }
            Verb::Throttle { for_ms } => self.board.throttle_by_heat(Spell::of(for_ms, now)),
            Verb::PowerCap { for_ms } => self.board.cap_by_supply(Spell::of(for_ms, now)),
            Verb::SensorStuck { for_ms } => self.board.stick(Spell::of(for_ms, now)),
            Verb::SensorNonsense { for_ms } => self.board.talk_nonsense(Spell::of(for_ms, now)),
            Verb::ImageRot { slot } => self.firmware.corrupt(slot),
            Verb::FirmwareHang => self.hang(now),
            Verb::FirmwareCrash | Verb::BootLoop => self.crash(now),
            Verb::BarOnes { for_ms } => self.ailments.bars = Spell::of(for_ms, now),
            Verb::ConfigOnes { for_ms } => self.ailments.bus = Spell::of(for_ms, now),
            Verb::SlowRegisters { ms, for_ms } => {
                self.ailments.slow = (Spell::of(for_ms, now), Duration::from_millis(ms));
            }
            Verb::LinkWidth { lanes } => {
                let link = self.config.link();
                self.train(
                    Link {
                        width: lanes,
                        ..link
                    },
                    now,
                );
            }
            Verb::LinkSpeed { generation } => {
                let link = self.config.link();
                self.train(
                    Link {
                        speed: generation,
                        ..link
                    },
                    now,
                );
            }
            Verb::LinkFlap { count, down_ms } => self.ailments.flap(count, down_ms, now),
            Verb::Replays { count } => {
                self.life.pcie_replays = self.life.pcie_replays.saturating_add(count);
            }
            Verb::Remove => {
                self.ailments.removed = true;
                self.leave_to_host(verb);
            }
            Verb::Return => {
                self.ailments.removed = false;
                self.power_cycle(now);
                self.leave_to_host(verb);
            }
            Verb::AerCorrectable { .. }
            | Verb::AerNonfatal { .. }
            | Verb::AerFatal { .. }
            | Verb::DmaUnmapped
            | Verb::ProcessKill => self.leave_to_host(verb),
            Verb::Heal => self.heal(now),
            // What befalls a command, a completion, an interrupt, a doorbell, a boot or a reset does where that is; the rest is of
            // NICs.
            _ => {}
        }
        self.publish(now);
    }

    /// The rest is the host's part. A chip without a host has nobody who takes it.
    fn leave_to_host(&mut self, verb: &Verb) {
        if self.for_the_host.len() < MOST_LEFT_TO_HOST {
            self.for_the_host.push(verb.clone());
        }
    }

    fn heal(&mut self, now: Instant) {
        self.plan_mut().clear();
        self.ailments.heal();
        self.board.heal();
        for queue in self.queues.iter_mut().flatten() {
            queue.heal();
        }
        self.train(self.profile.link, now);
    }

    fn crash(&mut self, now: Instant) {
        if self.life.state == State::Running {
            self.fail(Fault::FirmwareCrash, None, "assertion failed", now);
        }
    }

    fn train(&mut self, link: Link, now: Instant) {
        if self.config.link() != link {
            self.config.set_link(link);
            let status = u32::from(self.config.link_status());
            self.event(EventCode::LinkChanged, status, now);
        }
    }
}

fn check_link(verb: &Verb, most: Link, link: Link) -> Result<(), InjectError> {
    if link.is_valid() && link.speed <= most.speed && link.width <= most.width {
        return Ok(());
    }
    let lanes = [1, 2, 4, 8, 16, 32]
        .into_iter()
        .filter(|&lanes| lanes <= most.width);
    let lanes: Vec<_> = lanes.map(|lanes: u8| lanes.to_string()).collect();
    Err(InjectError::OutOfRange {
        verb: verb.name(),
        reason: format!(
            "its slot trains to generation 1 to {} with {} lanes, not to generation {} with {}",
            most.speed,
            lanes.join(", "),
            link.speed,
            link.width
        ),
    })
}
