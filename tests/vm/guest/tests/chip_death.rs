//! A chip that dies while a program has it open. Its machine is of no use afterwards.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use auk_driver::{Command, Error, QueueOptions, WaitMode};
use auk_vm::Request;

use crate::chip;
use crate::guest::Guest;
use crate::registry::{Test, test};

pub(crate) const TESTS: &[Test] = &[test(
    "a_dead_chip_ends_every_wait_in_an_error",
    a_dead_chip_ends_every_wait_in_an_error,
)
.within(200)];

fn a_dead_chip_ends_every_wait_in_an_error(guest: &Guest) -> Result<()> {
    auk_driver::install_sigbus_handler()?;
    let device = chip::open(guest)?;
    let options = QueueOptions::default().wait_mode(WaitMode::Interrupt);
    let mut queue = device.create_queue(&options)?;
    let semaphore = device.buffer(8)?;
    let ticket = queue.submit(&Command::wait(&semaphore, 1, 60_000))?;
    guest.ask(Request::KillSimulator(0))?;
    let started = Instant::now();
    let ended = queue.wait(ticket, Duration::from_secs(10));
    let Err(error) = ended else {
        bail!("the command of a dead chip ended well");
    };
    println!("after {:?} the job is told: {error}", started.elapsed());
    ensure!(
        matches!(
            error,
            Error::Gone { .. } | Error::Disconnected { .. } | Error::Bus { .. }
        ),
        "the job is told {error:?}"
    );
    ensure!(
        started.elapsed() < Duration::from_secs(20),
        "it took {:?}",
        started.elapsed()
    );
    let again = queue.submit(&Command::nop());
    ensure!(again.is_err(), "work for a dead chip was taken");
    let checked = device.check();
    ensure!(checked.is_err(), "a dead chip says {checked:?}");
    // What closing costs is the kernel's: it waits for a reset that never ends.
    std::mem::forget((device, queue, semaphore));
    Ok(())
}
