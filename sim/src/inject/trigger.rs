//! When a fault happens.

use serde::{Deserialize, Serialize};

use auk_asic::io::IoOpcode;

use super::catalogue::Occasion;
use super::{InjectError, Verb};

/// When a fault happens, and how often. All that is said must hold.
///
/// Without anything it happens once: at once, or at the next occasion of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trigger {
    /// Not before so many milliseconds have passed.
    pub after_ms: u64,
    /// Milliseconds between two times, for what happens by the clock.
    pub every_ms: u64,
    /// Only of the I/O queue with this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u16>,
    /// Only of commands with this opcode, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opcode: Option<Opcode>,
    /// Only of accesses to the register at this offset of BAR0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register: Option<u64>,
    /// So many occasions are let go first.
    pub skip: u64,
    /// One of so many occasions, by chance.
    pub one_in: u64,
    /// What chance is made from: the same seed, the same choices.
    pub seed: u64,
    /// How often; 0 is without an end.
    pub times: u64,
}

impl Default for Trigger {
    fn default() -> Self {
        Self {
            after_ms: 0,
            every_ms: 0,
            queue: None,
            opcode: None,
            register: None,
            skip: 0,
            one_in: 1,
            seed: 0,
            times: 1,
        }
    }
}

/// An opcode of an I/O command, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Opcode {
    /// NOP.
    Nop,
    /// COPY.
    Copy,
    /// FILL.
    Fill,
    /// LAUNCH.
    Launch,
    /// SIGNAL.
    Signal,
    /// WAIT.
    Wait,
}

impl Opcode {
    /// As they are written.
    pub const NAMES: &'static [&'static str] = &["nop", "copy", "fill", "launch", "signal", "wait"];

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Nop => IoOpcode::Nop.code(),
            Self::Copy => IoOpcode::Copy.code(),
            Self::Fill => IoOpcode::Fill.code(),
            Self::Launch => IoOpcode::Launch.code(),
            Self::Signal => IoOpcode::Signal.code(),
            Self::Wait => IoOpcode::Wait.code(),
        }
    }
}

impl Trigger {
    /// Its keys in JSON and TOML, with what each says.
    pub const KEYS: &'static [(&'static str, &'static str)] = &[
        ("after_ms", "Not before so many milliseconds have passed"),
        (
            "every_ms",
            "Milliseconds between two times, for what happens by the clock",
        ),
        ("queue", "Only of the I/O queue with this number"),
        ("opcode", "Only of commands with this opcode"),
        (
            "register",
            "Only of accesses to the register at this offset of BAR0",
        ),
        ("skip", "So many occasions are let go first"),
        ("one_in", "One of so many occasions, by chance"),
        (
            "seed",
            "What chance is made from: the same seed, the same choices",
        ),
        ("times", "How often; 0 is without an end"),
    ];

    /// What a fault waits for with this trigger.
    pub(crate) fn occasion(&self, verb: &Verb) -> Occasion {
        match verb.entry().occasion {
            Occasion::Now if self.register.is_some() => Occasion::Register,
            Occasion::Now if self.waits_for_commands() => Occasion::Command,
            natural => natural,
        }
    }

    fn waits_for_commands(&self) -> bool {
        self.queue.is_some() || self.opcode.is_some() || self.skip > 0 || self.one_in > 1
    }

    /// # Errors
    /// [`InjectError::OutOfRange`] for what the fault cannot wait for.
    pub(crate) fn check(&self, verb: &Verb) -> Result<(), InjectError> {
        let entry = verb.entry();
        let wrong = |reason: String| {
            Err(InjectError::OutOfRange {
                verb: entry.name,
                reason,
            })
        };
        if self.one_in == 0 {
            return wrong("one_in is at least 1".to_owned());
        }
        let occasion = self.occasion(verb);
        if self.every_ms > 0 && occasion != Occasion::Now {
            return wrong(format!(
                "it waits for the next {}, not for the clock: every_ms says nothing",
                occasion.next()
            ));
        }
        if self.times != 1 && occasion == Occasion::Now && self.every_ms == 0 {
            return wrong("times needs every_ms, for it happens by the clock".to_owned());
        }
        let has_queue = matches!(
            occasion,
            Occasion::Command | Occasion::Completion | Occasion::Interrupt | Occasion::Doorbell
        );
        if self.queue.is_some() && !has_queue {
            return wrong(format!(
                "it waits for the next {}, which is of no queue",
                occasion.next()
            ));
        }
        let has_opcode = matches!(occasion, Occasion::Command | Occasion::Completion);
        if self.opcode.is_some() && !has_opcode {
            return wrong(format!(
                "it waits for the next {}, which has no opcode",
                occasion.next()
            ));
        }
        if self.register.is_some() && occasion != Occasion::Register {
            return wrong(format!(
                "it waits for the next {}, not for a register",
                occasion.next()
            ));
        }
        Ok(())
    }
}
