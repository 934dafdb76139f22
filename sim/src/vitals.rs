//! The vital signs: a model of heat and power, and the block in config space.

use std::time::{Duration, Instant};

use auk_asic::admin::PowerState;
use auk_asic::vitals::{Throttle, VitalSigns};

use crate::fault::Spell;
use crate::life::Life;

/// The block changes at most this often, but for a change of state or fault.
const PERIOD: Duration = Duration::from_millis(100);

/// Power limit of the board, milliwatts.
const BOARD_POWER: u32 = 90_000;
/// Power without work, milliwatts.
const IDLE_POWER: u32 = 18_000;
/// Temperatures in tenths of a degree Celsius: without work, and what full work adds.
const IDLE_TEMPERATURE: i16 = 420;
const WORK_TEMPERATURE: f64 = 260.0;
/// The die throttles here, in tenths of a degree Celsius.
pub(crate) const THROTTLE_POINT: i16 = 950;
/// The die stops here, in tenths of a degree Celsius.
pub(crate) const SHUTDOWN_POINT: i16 = 1050;

/// The clock of the processing elements in MHz, and when throttled.
const CLOCK_MHZ: u32 = 1350;
const THROTTLED_CLOCK_MHZ: u32 = 675;

/// What the sensors show.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    die_temperature: i16,
    memory_temperature: i16,
    power: u32,
}

/// What sensors show that are broken: the least temperature that the field holds, and more power than any board has.
const NONSENSE: Shown = Shown {
    die_temperature: i16::MIN,
    memory_temperature: i16::MIN,
    power: u32::MAX,
};

/// Heat and power, from the work done.
#[derive(Debug)]
pub(crate) struct Board {
    power_state: PowerState,
    /// What the die is made to be at.
    forced_temperature: (Spell, i16),
    forced_throttle: Spell,
    supply_cap: Spell,
    /// The sensors show what they showed then.
    stuck: (Spell, Shown),
    nonsense: Spell,
    /// Share of the time in which the chip worked, smoothed.
    load: f64,
    throttled: Duration,
    updated: Instant,
    busy_ns: u64,
}

impl Board {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            power_state: PowerState::Full,
            forced_temperature: (Spell::Over, 0),
            forced_throttle: Spell::Over,
            supply_cap: Spell::Over,
            stuck: (Spell::Over, Shown::default()),
            nonsense: Spell::Over,
            load: 0.0,
            throttled: Duration::ZERO,
            updated: now,
            busy_ns: 0,
        }
    }

    pub(crate) fn set_power_state(&mut self, state: PowerState) {
        self.power_state = state;
    }

    /// Follows the work that was done since the last call.
    fn update(&mut self, busy_ns: u64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated);
        if elapsed.is_zero() {
            return;
        }
        if self.throttle() != Throttle::new() {
            self.throttled += elapsed;
        }
        let worked = busy_ns.saturating_sub(self.busy_ns) as f64 / elapsed.as_nanos() as f64;
        // A board of this size follows its load in about two seconds.
        let weight = 1.0 - (-elapsed.as_secs_f64() / 2.0).exp();
        self.load += (worked.min(1.0) - self.load) * weight;
        self.busy_ns = busy_ns;
        self.updated = now;
    }

    pub(crate) fn die_temperature(&self) -> i16 {
        let (spell, forced) = self.forced_temperature;
        if spell.lasts() {
            forced
        } else {
            IDLE_TEMPERATURE + (WORK_TEMPERATURE * self.load) as i16
        }
    }

    /// Until the spell is over the die is at so many tenths of a degree.
    pub(crate) fn force_temperature(&mut self, tenths: i16, spell: Spell) {
        self.forced_temperature = (spell, tenths);
    }

    pub(crate) fn throttle_by_heat(&mut self, spell: Spell) {
        self.forced_throttle = spell;
    }

    pub(crate) fn cap_by_supply(&mut self, spell: Spell) {
        self.supply_cap = spell;
    }

    pub(crate) fn stick(&mut self, spell: Spell) {
        self.stuck = (spell, self.measured());
    }

    pub(crate) fn talk_nonsense(&mut self, spell: Spell) {
        self.nonsense = spell;
    }

    fn spells(&mut self) -> [&mut Spell; 5] {
        [
            &mut self.forced_temperature.0,
            &mut self.forced_throttle,
            &mut self.supply_cap,
            &mut self.stuck.0,
            &mut self.nonsense,
        ]
    }

    /// Lets time pass over what was forced on it.
    pub(crate) fn pass(&mut self, now: Instant) {
        for spell in self.spells() {
            spell.pass(now);
        }
    }

    /// Ends what was forced on it.
    pub(crate) fn heal(&mut self) {
        for spell in self.spells() {
            *spell = Spell::Over;
        }
    }

    /// When a fault of the sensors ends.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let spells = [
            self.forced_temperature.0,
            self.forced_throttle,
            self.supply_cap,
            self.stuck.0,
            self.nonsense,
        ];
        spells.into_iter().filter_map(Spell::end).min()
    }

    fn measured(&self) -> Shown {
        Shown {
            die_temperature: self.die_temperature(),
            memory_temperature: self.memory_temperature(),
            power: self.power(),
        }
    }

    fn shown(&self) -> Shown {
        match self.stuck {
            _ if self.nonsense.lasts() => NONSENSE,
            (spell, shown) if spell.lasts() => shown,
            _ => self.measured(),
        }
    }

    fn memory_temperature(&self) -> i16 {
        self.die_temperature().saturating_sub(40)
    }

    fn power_limit(&self) -> u32 {
        match self.power_state {
            PowerState::Full => BOARD_POWER,
            PowerState::Reduced => BOARD_POWER / 4 * 3,
            PowerState::Low => BOARD_POWER / 2,
        }
    }

    fn wanted_power(&self) -> u32 {
        IDLE_POWER + (f64::from(BOARD_POWER - IDLE_POWER) * self.load) as u32
    }

    fn power(&self) -> u32 {
        self.wanted_power().min(self.power_limit())
    }

    pub(crate) fn throttle(&self) -> Throttle {
        Throttle::new()
            .with_thermal(self.die_temperature() >= THROTTLE_POINT || self.forced_throttle.lasts())
            .with_power_cap(self.wanted_power() > self.power_limit())
            .with_supply(self.supply_cap.lasts())
    }

    pub(crate) fn clock_mhz(&self) -> u32 {
        if self.throttle() == Throttle::new() {
            CLOCK_MHZ
        } else {
            THROTTLED_CLOCK_MHZ
        }
    }

    pub(crate) fn throttled(&self) -> Duration {
        self.throttled
    }
}

/// The block as readers see it.
#[derive(Debug)]
pub(crate) struct Publication {
    block: VitalSigns,
    changed: Instant,
    /// The throttle reasons that were published before, to tell when they change.
    told: Throttle,
}

impl Publication {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            block: VitalSigns::default(),
            changed: now.checked_sub(PERIOD).unwrap_or(now),
            told: Throttle::new(),
        }
    }

    /// The block at this time. The new throttle reasons, if they changed.
    pub(crate) fn update(
        &mut self,
        life: &Life,
        board: &mut Board,
        busy_ns: u64,
        now: Instant,
    ) -> Option<Throttle> {
        self.block.heartbeat = life.heartbeat(now);
        let urgent = self.block.state != life.state.code()
            || self.block.fault != life.fault.map_or(0, auk_asic::Fault::code)
            || self.block.generation != life.generation;
        if !urgent && now.saturating_duration_since(self.changed) < PERIOD {
            return None;
        }
        board.update(busy_ns, now);
        let fresh = VitalSigns {
            sequence: self.block.sequence,
            heartbeat: self.block.heartbeat,
            ..compose(life, board)
        };
        if fresh != self.block {
            // Readers see the block change as a whole, so the odd value never shows.
            self.block = VitalSigns {
                sequence: self.block.sequence.wrapping_add(2),
                ..fresh
            };
            self.changed = now;
        }
        let throttle = board.throttle();
        let changed = throttle != self.told;
        self.told = throttle;
        changed.then_some(throttle)
    }

    pub(crate) fn block(&self) -> &VitalSigns {
        &self.block
    }
}

fn compose(life: &Life, board: &Board) -> VitalSigns {
    let shown = board.shown();
    let (last_fault, last_fault_generation) = life
        .last_fault
        .map_or((0, 0), |(fault, generation)| (fault.code(), generation));
    VitalSigns {
        sequence: 0,
        state: life.state.code(),
        self_test: life.self_test.code(),
        fault: life.fault.map_or(0, auk_asic::Fault::code),
        generation: life.generation,
        last_fault,
        reserved0: 0,
        last_fault_generation,
        self_test_generation: life.self_test_generation,
        die_temperature: shown.die_temperature,
        memory_temperature: shown.memory_temperature,
        power: shown.power,
        throttle: board.throttle(),
        ecc_ce: life.ecc_ce,
        ecc_ue: life.ecc_ue,
        retired_pages: life.retired_pages,
        pcie_replays: life.pcie_replays,
        heartbeat: 0,
        throttle_point: THROTTLE_POINT,
        shutdown_point: SHUTDOWN_POINT,
        power_limit: board.power_limit(),
        firmware_version: life.version.map_or(0, |version| version.into_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auk_asic::Fault;

    fn parts() -> (Life, Board, Publication, Instant) {
        let now = Instant::now();
        let life = Life::new(now, Duration::ZERO);
        (life, Board::new(now), Publication::new(now), now)
    }

    #[test]
    fn counters_show_at_most_every_tenth_of_a_second() {
        let (mut life, mut board, mut shown, now) = parts();
        shown.update(&life, &mut board, 0, now);
        let first = *shown.block();
        life.ecc_ce = 5;
        shown.update(&life, &mut board, 0, now + Duration::from_millis(99));
        assert_eq!(*shown.block(), first);
        shown.update(&life, &mut board, 0, now + Duration::from_millis(100));
        assert_eq!(shown.block().ecc_ce, 5);
        assert_eq!(shown.block().sequence, first.sequence + 2);
    }

    #[test]
    fn a_fault_shows_at_once() {
        let (mut life, mut board, mut shown, now) = parts();
        shown.update(&life, &mut board, 0, now);
        life.fail(Fault::FirmwareCrash);
        shown.update(&life, &mut board, 0, now);
        assert_eq!(shown.block().fault, Fault::FirmwareCrash.code());
    }

    #[test]
    fn a_block_that_stays_the_same_keeps_its_sequence() {
        let (life, mut board, mut shown, now) = parts();
        shown.update(&life, &mut board, 0, now);
        let first = *shown.block();
        for tick in 1..10 {
            shown.update(&life, &mut board, 0, now + Duration::from_secs(tick));
        }
        assert_eq!(*shown.block(), first);
    }

    #[test]
    fn work_heats_and_a_lower_power_state_caps() {
        let (life, mut board, mut shown, now) = parts();
        board.set_power_state(PowerState::Low);
        let minute = Duration::from_secs(60);
        let busy = u64::try_from(minute.as_nanos()).unwrap();
        shown.update(&life, &mut board, 0, now);
        shown.update(&life, &mut board, busy, now + minute);
        assert!(board.die_temperature() > IDLE_TEMPERATURE + 200);
        assert!(board.throttle().power_cap());
        assert_eq!(shown.block().power, BOARD_POWER / 2);
        assert_eq!(shown.block().power_limit, BOARD_POWER / 2);
    }
}
