//! A chip that stops answering while it is open. Kernels before 7 then wait a minute for each reset; newer ones look first whether
//! it answers, and give up.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use auk_driver::bus::{BusError, Function, Region};
use auk_driver::{Deadline, DmaSpace};
use auk_vm::Request;

use crate::guest::Guest;
use crate::registry::{Test, test};
use crate::vfio;

pub(crate) const TESTS: &[Test] = &[test(
    "a_dead_function_keeps_nobody_waiting_and_is_unmapped",
    a_dead_function_keeps_nobody_waiting_and_is_unmapped,
)
.within(300)];

fn a_dead_function_keeps_nobody_waiting_and_is_unmapped(guest: &Guest) -> Result<()> {
    let space = DmaSpace::new();
    let chip = vfio::open(guest, &guest.chips()?[0], &space)?;
    let target = chip.dma();
    space.attach(target.clone(), u64::MAX)?;
    let buffer = space.alloc(1 << 20)?;
    guest.ask(Request::KillSimulator(0))?;

    let reset = chip.reset(Deadline::after(Duration::from_secs(2)));
    let begun = Instant::now();
    match reset {
        Err(BusError::TimedOut { .. }) => {
            let read = chip.read(Region::Config, 0, &mut [0; 4]);
            ensure!(matches!(read, Err(BusError::ResetRuns { .. })), "{read:?}");
        }
        Err(BusError::Kernel { .. }) => {}
        other => anyhow::bail!("the reset of a dead chip: {other:?}"),
    }
    // Nothing of this asks the function.
    drop(buffer);
    space.detach(&target);
    ensure!(space.usage().leaked == 0, "{:?}", space.usage());
    ensure!(begun.elapsed() < Duration::from_secs(20), "it blocked");
    Ok(())
}
