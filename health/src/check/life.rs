//! The life of a chip's firmware in which something was seen.

use auk_asic::vitals::Vitals;
use serde::{Deserialize, Serialize};

/// From one start of the firmware to the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Life {
    /// Its generation, once vital signs were read.
    generation: Option<u32>,
    /// Another was seen since, which may have come to the same generation meanwhile: a chip that loses power counts anew.
    #[serde(default)]
    is_over: bool,
}

impl Life {
    /// That of these vital signs, or the first that will be seen: which may still be that one.
    pub(super) fn of(vitals: Option<&Vitals>) -> Self {
        Self {
            generation: vitals.map(|vitals| vitals.generation),
            is_over: false,
        }
    }

    /// Whether these vital signs are of a later life, which has passed a self-test.
    pub(super) fn is_made_good(&mut self, vitals: &Vitals) -> bool {
        let generation = *self.generation.get_or_insert(vitals.generation);
        self.is_over |= generation != vitals.generation;
        self.is_over && vitals.self_test_passed()
    }

    /// Whether the function is one that has such lives.
    pub(super) const fn is_known(&self) -> bool {
        self.generation.is_some()
    }

    /// Its generation, if no other was seen since.
    pub(super) fn lasts(&self) -> Option<u32> {
        self.generation.filter(|_| !self.is_over)
    }
}
