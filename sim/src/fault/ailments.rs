//! Faults of a chip that last.

use std::time::{Duration, Instant};

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Spell {
    /// It does not.
    #[default]
    Over,
    /// Until then.
    Until(Instant),
    /// Until it is healed.
    Open,
}

impl Spell {
    /// From now on for so many milliseconds; 0 is until it is healed.
    pub(crate) fn of(for_ms: u64, now: Instant) -> Self {
        if for_ms == 0 {
            Self::Open
        } else {
            Self::Until(now + Duration::from_millis(for_ms))
        }
    }

    pub(crate) fn lasts(self) -> bool {
        self != Self::Over
    }

    /// Lets time pass. True when the fault has just ended.
    pub(crate) fn pass(&mut self, now: Instant) -> bool {
        let ends = matches!(*self, Self::Until(end) if end <= now);
        if ends {
            *self = Self::Over;
        }
        ends
    }

    pub(crate) fn end(self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(end),
            Self::Over | Self::Open => None,
        }
    }
}

/// A link that goes down and comes back.
#[derive(Clone, Copy, Debug)]
struct Flap {
    /// Times that are to come.
    left: u32,
    half: Duration,
    /// When it goes down next.
    next: Instant,
}

/// What ails a chip, beside its firmware and its sensors.
#[derive(Debug, Default)]
pub(crate) struct Ailments {
    /// Reads of the BARs are ones.
    pub(crate) bars: Spell,
    /// The chip is off the bus.
    pub(crate) bus: Spell,
    /// It was pulled out: nothing but putting it back ends that.
    pub(crate) removed: bool,
    /// Registers are slow, by so much.
    pub(crate) slow: (Spell, Duration),
    /// An interrupt fires over and over.
    pub(crate) storm: (Spell, u16),
    /// A reset of the function does not end.
    pub(crate) reset: Spell,
    flap: Option<Flap>,
}

impl Ailments {
    /// Whether neither config space nor BARs answer, and no DMA is done.
    #[inline]
    pub(crate) fn off_bus(&self) -> bool {
        self.removed || self.bus.lasts() || self.reset.lasts()
    }

    pub(crate) fn flap(&mut self, count: u32, down_ms: u64, now: Instant) {
        self.flap = Some(Flap {
            left: count,
            half: Duration::from_millis(down_ms),
            next: now,
        });
        self.pass(now);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, now: Instant) {
        for spell in [
            &mut self.bars,
            &mut self.bus,
            &mut self.slow.0,
            &mut self.storm.0,
            &mut self.reset,
        ] {
            spell.pass(now);
        }
        if let Some(flap) = &mut self.flap
            && flap.next <= now
        {
            self.bus = Spell::Until(now + flap.half);
            flap.left -= 1;
            flap.next = now + flap.half * 2;
            if flap.left == 0 {
                self.flap = None;
            }
        }
    }

    /// When something changes by itself next.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let spells = [self.bars, self.bus, self.slow.0, self.storm.0, self.reset];
        let ends = spells.into_iter().filter_map(Spell::end);
        ends.chain(self.flap.map(|flap| flap.next)).min()
    }

    /// Ends all but a removal.
    pub(crate) fn heal(&mut self) {
        *self = Self {
            removed: self.removed,
            ..Self::default()
        };
    }
}
