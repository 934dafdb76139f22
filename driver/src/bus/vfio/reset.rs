//! Resets, which the kernel may take a minute over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use nix::errno::Errno;

use super::blocking;
use super::errno::Call;
use crate::bus::BusError;
use crate::deadline::Deadline;

/// Since when a reset runs that nobody waits for any more.
#[derive(Debug, Default)]
pub(super) struct Resets(Arc<Mutex<Option<Instant>>>);

impl Resets {
    /// Resets by `work`, which holds what it needs. What takes longer than the deadline ends by itself, and until then
    /// [`Resets::idle`] says so.
    pub(super) fn run(
        &self,
        call: Call,
        deadline: Deadline,
        mut work: impl FnMut() -> Result<(), Errno> + Send + 'static,
    ) -> Result<(), BusError> {
        self.begin(call)?;
        let running = Arc::clone(&self.0);
        let done = blocking::within(call.name(), deadline, move || {
            let result = blocking::again(deadline, &mut work);
            // Whatever `work` holds is let go before anybody is told that it is over.
            drop(work);
            *running.lock().unwrap_or_else(PoisonError::into_inner) = None;
            result
        });
        match done {
            Ok(result) => result.map_err(|errno| call.error(errno)),
            Err(error) => {
                if !matches!(error, BusError::TimedOut { .. }) {
                    *self.since() = None;
                }
                Err(error)
            }
        }
    }

    /// That no reset is under way, in which case a call of this kind could wait without end.
    pub(super) fn idle(&self, call: Call) -> Result<(), BusError> {
        self.since().map_or(Ok(()), |since| Err(runs(call, since)))
    }

    fn begin(&self, call: Call) -> Result<(), BusError> {
        let mut since = self.since();
        if let Some(since) = *since {
            return Err(runs(call, since));
        }
        *since = Some(Instant::now());
        Ok(())
    }

    fn since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn runs(call: Call, since: Instant) -> BusError {
    BusError::ResetRuns {
        what: call.name().to_owned(),
        milliseconds: since.elapsed().as_millis(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_reset_that_does_not_end_is_told_by_every_call_until_it_has() {
        let resets = Resets::default();
        let (release, held) = mpsc::channel::<()>();
        let result = resets.run(Call::Reset, Deadline::after(Duration::ZERO), move || {
            let _ = held.recv();
            Ok(())
        });
        assert!(matches!(result, Err(BusError::TimedOut { .. })));
        assert!(matches!(
            resets.idle(Call::ReadRegion),
            Err(BusError::ResetRuns { .. })
        ));
        assert!(matches!(
            resets.run(Call::Reset, Deadline::after(Duration::ZERO), || Ok(())),
            Err(BusError::ResetRuns { .. })
        ));
        release.send(()).unwrap();
        while resets.idle(Call::ReadRegion).is_err() {
            std::thread::yield_now();
        }
        resets
            .run(
                Call::Reset,
                Deadline::after(Duration::from_secs(60)),
                || Ok(()),
            )
            .unwrap();
    }

    #[test]
    fn a_reset_that_somebody_else_holds_up_is_tried_again() {
        let mut left = 3;
        let result = Resets::default().run(
            Call::Reset,
            Deadline::after(Duration::from_secs(60)),
            move || {
                left -= 1;
                if left > 0 { Err(Errno::EAGAIN) } else { Ok(()) }
            },
        );
        result.unwrap();
    }
}
