//! What a function did while no job had it, and which therefore no job can have made it do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::View;

/// A function is free once nobody has had it for so long: what a job that died left under way ends with the reset that
/// follows, and is over by then.
const SETTLED: Duration = Duration::from_secs(10);
/// Times that may wait for a look; of more those of one time are one.
const MOST_WAITING: usize = 256;

/// Sorts out what a function did while it was free.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct OwnDoing {
    /// From when on it is free, when each look since has found nobody on it. What was while no agent looked, nobody knows.
    #[serde(skip)]
    free_from: Option<Duration>,
    /// What happened when since the last look that says who has it.
    waiting: Vec<(Duration, u64)>,
}

impl OwnDoing {
    /// So many things happened.
    pub(super) fn add(&mut self, at: Duration, count: u64) {
        let is_full = self.waiting.len() >= MOST_WAITING;
        match self.waiting.last_mut() {
            Some((last, sum)) if *last == at || is_full => {
                *sum = sum.saturating_add(count);
            }
            _ => self.waiting.push((at, count)),
        }
    }

    /// Takes a look, and gives what happened while this and the looks before it found nobody on the function.
    pub(super) fn settle(&mut self, view: &View<'_>) -> Vec<(Duration, u64)> {
        if view.facts.presence.is_none() {
            // Only the log was read, and not who has it.
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        if view.facts.holder.is_some() {
            self.free_from = None;
            return Vec::new();
        }
        let free_from = *self.free_from.get_or_insert(view.now.uptime + SETTLED);
        let own = waiting.into_iter().filter(|(at, _)| *at >= free_from);
        own.collect()
    }
}
