//! The faults that a soak mixes, and who is to see each.

use auk_sim::inject::{Trigger, Verb};

use super::ledger::Wish;

/// What the job or the agent must see of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// The driver returns an error.
    Error,
    /// An answer is wrong.
    Wrong,
    /// Completions of no command are counted.
    Strays,
    /// A result is late.
    Late,
    /// This check of the agent calls the chip degraded or unhealthy.
    Check(&'static str),
    /// This check of the agent says that it cannot tell.
    Blind(&'static str),
}

impl Sight {
    /// The check of the agent that sees it, if one is to.
    pub(super) const fn check(self) -> Option<&'static str> {
        match self {
            Self::Check(check) | Self::Blind(check) => Some(check),
            Self::Error | Self::Wrong | Self::Strays | Self::Late => None,
        }
    }
}

/// One fault of a soak.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) verb: Verb,
    pub(super) when: Trigger,
    /// All of it must be seen; nothing, if the work is to go on as if nothing were.
    pub(super) sights: &'static [Sight],
    /// What the job must do for the fault to befall it.
    pub(super) wish: Option<Wish>,
}

impl Case {
    fn new(verb: Verb, sights: &'static [Sight]) -> Self {
        Self {
            verb,
            when: Trigger::default(),
            sights,
            wish: None,
        }
    }

    fn wishing(self, wish: Wish) -> Self {
        Self {
            wish: Some(wish),
            ..self
        }
    }

    fn times(mut self, times: u64) -> Self {
        self.when.times = times;
        self
    }

    /// What ends it, and brings the chip back to where it can be had.
    pub(super) const fn end(&self) -> Verb {
        match self.verb {
            Verb::Remove => Verb::Return,
            _ => Verb::Heal,
        }
    }
}

/// Every fault that can befall a chip, once, but for `heal` and `return`, which end others, and `process-kill`, which ends the
/// whole host and has a host of its own.
pub(super) fn all() -> Vec<Case> {
    use Sight::{Blind, Check, Error, Late, Strays, Wrong};
    vec![
        Case::new(Verb::CompletionDrop, &[Error]),
        Case::new(Verb::CompletionDelay { ms: 700 }, &[Late]),
        Case::new(Verb::CompletionDuplicate, &[Strays]),
        Case::new(Verb::CompletionCorrupt, &[Error]),
        Case::new(Verb::CompletionWrongId, &[Error, Strays]),
        Case::new(Verb::CompletionWrongQueue, &[Error, Strays]),
        // Seen only where nothing overwrites it before the driver looks; the right one follows either way.
        Case::new(Verb::CompletionStaleTag { ms: 20 }, &[]),
        Case::new(Verb::CompletionReorder, &[]),
        Case::new(Verb::InterruptLost, &[]),
        Case::new(Verb::InterruptSpurious { vector: 1 }, &[]),
        Case::new(
            Verb::InterruptStorm {
                vector: 1,
                for_ms: 300,
            },
            &[],
        ),
        Case::new(Verb::DoorbellIgnored, &[Error]),
        Case::new(
            Verb::QueueStuck {
                number: 1,
                for_ms: 0,
            },
            &[Error],
        ),
        Case::new(Verb::DmaUnmapped, &[Error]),
        Case::new(Verb::DmaShort, &[Wrong]),
        Case::new(Verb::CopyFlip, &[Wrong]),
        Case::new(Verb::ResultFlip, &[Wrong]),
        Case::new(Verb::EccCe { count: 200 }, &[Check("ecc_ce")]),
        Case::new(Verb::EccUe, &[Error, Check("ecc_ue")]),
        Case::new(Verb::EccUeUnused, &[Check("ecc_ue")]),
        Case::new(Verb::PageRetired { count: 64 }, &[Check("page_retirement")]),
        Case::new(
            Verb::Temperature {
                celsius: 110,
                for_ms: 0,
            },
            &[Error],
        ),
        Case::new(Verb::Throttle { for_ms: 300 }, &[]),
        Case::new(Verb::PowerCap { for_ms: 300 }, &[]),
        Case::new(Verb::SensorStuck { for_ms: 300 }, &[]),
        Case::new(Verb::SensorNonsense { for_ms: 0 }, &[Blind("temperature")]),
        Case::new(Verb::FirmwareHang, &[Error]),
        Case::new(Verb::FirmwareCrash, &[Error]),
        Case::new(Verb::BootLoop, &[Error])
            .times(2)
            .wishing(Wish::Restart),
        Case::new(Verb::ImageRefused, &[Error]).wishing(Wish::Restart),
        Case::new(Verb::ImageRot { slot: 0 }, &[Error]).wishing(Wish::Restart),
        Case::new(Verb::SlowBoot { ms: 200 }, &[]).wishing(Wish::Restart),
        Case::new(Verb::ResetHang { for_ms: 300 }, &[]).wishing(Wish::Reset),
        Case::new(Verb::ResetDead, &[Error]).wishing(Wish::Reset),
        Case::new(Verb::ResetFails, &[Error]).wishing(Wish::Reset),
        Case::new(Verb::BarOnes { for_ms: 0 }, &[Error]).wishing(Wish::Reset),
        Case::new(Verb::ConfigOnes { for_ms: 0 }, &[Error, Check("presence")]),
        Case::new(Verb::SlowRegisters { ms: 5, for_ms: 300 }, &[]),
        Case::new(Verb::LinkWidth { lanes: 2 }, &[Check("link")]),
        Case::new(Verb::LinkSpeed { generation: 2 }, &[Check("link")]),
        Case::new(
            Verb::LinkFlap {
                count: 2,
                down_ms: 30,
            },
            &[],
        ),
        Case::new(Verb::AerCorrectable { count: 1 }, &[]),
        Case::new(
            Verb::AerNonfatal { count: 1 },
            &[Check("aer_uncorrectable")],
        ),
        Case::new(Verb::AerFatal { count: 1 }, &[Check("aer_uncorrectable")]),
        // A burst passes: the rule wants a rate that stays for minutes.
        Case::new(Verb::Replays { count: 10_000 }, &[]),
        Case::new(Verb::Remove, &[Error, Check("presence")]),
    ]
}

/// Their names.
pub(super) fn names() -> Vec<&'static str> {
    all().iter().map(|case| case.verb.name()).collect()
}

/// Those with these names; all if there are none.
pub(super) fn chosen(names: &[String]) -> Vec<Case> {
    let mut cases = all();
    cases.retain(|case| is_chosen(&case.verb, names));
    cases
}

/// Whether a verb is among those that were asked for; all are if there are none.
pub(super) fn is_chosen(verb: &Verb, names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| name == verb.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use auk_sim::inject::Target;

    #[test]
    fn every_fault_of_a_chip_is_in_the_mix() {
        let mut mixed: Vec<_> = all().iter().map(|case| case.verb.name()).collect();
        mixed.extend(["heal", "return", "process-kill"]);
        mixed.sort_unstable();
        let chips = Verb::CATALOGUE
            .iter()
            .filter(|entry| entry.target != Target::Nic);
        let mut known: Vec<_> = chips.map(|entry| entry.name).collect();
        known.sort_unstable();
        assert_eq!(mixed, known);
    }
}
