//! What the process has of memory and descriptors, for a soak that must not grow.

use std::fs;

use anyhow::Context;
use auk_driver::DmaSpace;
use serde::Serialize;

/// A look at the process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Footprint {
    /// Anonymous memory in kB: `RssAnon` of `/proc/self/status`, which leaves out the memory of simulated chips.
    pub(super) memory_kb: u64,
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// Memory for DMA in kB that buffers have. Of what was given up only the addresses are left.
    pub(super) dma_kb: u64,
}

impl Footprint {
    pub(super) fn now(space: &DmaSpace) -> anyhow::Result<Self> {
        let path = "/proc/self/status";
        let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        let memory_kb = text
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .with_context(|| format!("{path} has no RssAnon"))?;
        let path = "/proc/self/fd";
        let entries = fs::read_dir(path).with_context(|| format!("reading {path}"))?;
        Ok(Self {
            memory_kb,
            descriptors: entries.count() as u64,
            dma_kb: space.usage().used >> 10,
        })
    }
}

/// Looks at the process in the second quarter of a soak, when everything is warm, and in the last.
#[derive(Debug, Default)]
pub(super) struct Growth {
    second: Vec<Footprint>,
    last: Vec<Footprint>,
}

impl Growth {
    /// Takes a look, if such a part of the time, of 1 in all, is one to look at.
    pub(super) fn look(
        &mut self,
        part: f64,
        take: impl FnOnce() -> anyhow::Result<Footprint>,
    ) -> anyhow::Result<()> {
        let looks = match (part * 4.0) as u32 {
            1 => &mut self.second,
            3 => &mut self.last,
            _ => return Ok(()),
        };
        looks.push(take()?);
        Ok(())
    }

    /// What was usual in each. Most and least are a matter of chance: a chip that is opened anew while the old one closes has two of
    /// everything. A soak that has set up only in its last quarter has nothing to compare that with.
    pub(super) fn usual(&self) -> (Footprint, Footprint) {
        let second = match self.second.is_empty() {
            true => &self.last,
            false => &self.second,
        };
        (usual(second), usual(&self.last))
    }
}

/// The median of each by itself; nothing of no look.
fn usual(looks: &[Footprint]) -> Footprint {
    let median = |of: fn(&Footprint) -> u64| {
        let mut all: Vec<u64> = looks.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    Footprint {
        memory_kb: median(|look| look.memory_kb),
        descriptors: median(|look| look.descriptors),
        dma_kb: median(|look| look.dma_kb),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Looks throughout a soak, at so many descriptors.
    fn growth(descriptors: impl Fn(u64) -> u64) -> (u64, u64) {
        let mut growth = Growth::default();
        for look in 0..400 {
            let footprint = Footprint {
                descriptors: descriptors(look),
                ..Footprint::default()
            };
            growth.look(look as f64 / 400.0, || Ok(footprint)).unwrap();
        }
        let (second, last) = growth.usual();
        (second.descriptors, last.descriptors)
    }

    #[test]
    fn a_process_that_has_twice_as_much_for_a_moment_has_not_grown() {
        let peaks = |look| {
            if look % 100 == 50 {
                800
            } else {
                400 + look % 3
            }
        };
        assert_eq!(growth(peaks), (401, 401));
    }

    #[test]
    fn what_leaks_shows_although_the_last_look_is_a_low_one() {
        let leak = |look| if look == 399 { 0 } else { 400 + look };
        assert_eq!(growth(leak), (550, 749));
    }

    #[test]
    fn a_soak_that_is_over_before_anything_is_warm_has_nothing_to_compare() {
        let mut growth = Growth::default();
        let footprint = Footprint {
            descriptors: 400,
            ..Footprint::default()
        };
        growth.look(0.9, || Ok(footprint)).unwrap();
        let (second, last) = growth.usual();
        assert_eq!((second.descriptors, last.descriptors), (400, 400));
    }

    #[test]
    fn what_is_there_before_everything_is_warm_does_not_count() {
        let start = |look| if look < 100 { 10 } else { 400 };
        assert_eq!(growth(start), (400, 400));
    }
}
