//! Calls that the kernel may sit on for a minute, made by a thread of their own.
//!
//! A function reset waits for a dead function with ever longer pauses, a minute in all (`PCIE_RESET_READY_POLL_MS` of
//! `drivers/pci/pci.c`), and cannot be interrupted.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::bus::BusError;
use crate::deadline::Deadline;

/// Between two tries: a reset of somebody else takes 100 ms at least (PCI Express Base Specification 6.0, section 6.6.2).
const PAUSE: Duration = Duration::from_millis(20);

/// Does `work`, and gives its result if that comes before the deadline. If not, the work goes on by itself, with all that it
/// has been given.
pub(super) fn within<T: Send + 'static>(
    what: &'static str,
    deadline: Deadline,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BusError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("auk-vfio-wait".to_owned())
        .spawn(move || {
            // Nobody may wait any more.
            let _ = sender.send(work());
        })
        .map_err(|source| BusError::System {
            what: "starting a thread for a call that may block",
            source,
        })?;
    receiver
        .recv_timeout(deadline.remaining())
        .map_err(|_| BusError::TimedOut {
            what: what.to_owned(),
            milliseconds: deadline.elapsed().as_millis(),
        })
}

/// Tries again while the kernel says that somebody else is resetting the function just now.
pub(super) fn again<T>(
    deadline: Deadline,
    mut call: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EAGAIN) if !deadline.is_over() => thread::sleep(PAUSE),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_ends_in_time_gives_its_result() {
        let answer = within("adding", Deadline::after(Duration::from_secs(60)), || 2 + 2);
        assert_eq!(answer.unwrap(), 4);
    }

    #[test]
    fn work_that_does_not_end_is_given_up_by_the_caller_alone() {
        let (release, held) = mpsc::channel::<()>();
        let (done, ended) = mpsc::channel();
        let result = within("resetting", Deadline::after(Duration::ZERO), move || {
            let _ = held.recv();
            let _ = done.send(());
        });
        assert!(matches!(result, Err(BusError::TimedOut { .. })));
        release.send(()).unwrap();
        ended.recv().unwrap();
    }
}
