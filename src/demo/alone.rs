//! The job alone, on a chip of whatever host: no agent, and nobody harms it.

use std::thread;
use std::time::{Duration, Instant};

use auk_driver::{Device, OpenOptions, pci};

use super::digits::COUNT;
use super::job::{BATCH, Network};
use super::play::Ending;
use super::show::{Show, time};
use super::work::{BATCHES, Progress};
use crate::signals::Stop;

/// Runs it.
pub(super) fn play(
    host: &pci::Host,
    chip: pci::Bdf,
    pace: Duration,
    stop: &Stop,
    show: &Show,
) -> anyhow::Result<Ending> {
    let opened = Instant::now();
    let device = Device::open(host, chip, &OpenOptions::default())?;
    let mut network = Network::load(&device)?;
    let loaded = time(opened.elapsed());
    show.say("job", &format!("{chip} open, network loaded in {loaded}"))?;
    let mut progress = Progress::new();
    for batch in 0..BATCHES {
        if stop.is_raised() {
            return Ok(Ending::Interrupted);
        }
        progress.run_batch(&mut network, batch)?;
        show.advance(((batch + 1) * BATCH).min(COUNT));
        thread::sleep(pace);
    }
    Ok(Ending::Played(Box::new(progress.summarise())))
}
