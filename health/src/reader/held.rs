//! Readers that were left behind in a read that does not end, each with the job that holds it.

use std::time::{Duration, Instant};

use super::job::Key;
use super::life::{Life, Remains};
use super::wire::Answer;

/// How long a reset may hold a config read: the kernel waits up to 60 s for a function that resets
/// (`PCIE_RESET_READY_POLL_MS` in `drivers/pci/pci.h`). After that a reader is killed, should
/// something else hold it that lets go of the dead, and the read is tried again.
pub(super) const LONGEST_RESET: Duration = Duration::from_secs(65);

#[derive(Debug)]
struct Held {
    life: Life,
    key: Key,
    since: Instant,
    killed: bool,
}

/// The readers that were left behind.
#[derive(Debug, Default)]
pub(super) struct HeldReaders {
    all: Vec<Held>,
}

impl HeldReaders {
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn lives(&self) -> impl Iterator<Item = &Life> {
        self.all.iter().map(|held| &held.life)
    }

    /// Whether a reader hangs in this job.
    pub(super) fn hold(&self, key: Key) -> bool {
        self.all.iter().any(|held| held.key == key)
    }

    pub(super) fn add(&mut self, life: Life, key: Key, now: Instant) {
        self.all.push(Held {
            life,
            key,
            since: now,
            killed: false,
        });
    }

    /// Lets go of those whose read has ended; their jobs can be asked for again.
    pub(super) fn release(
        &mut self,
        now: Instant,
        buffer: &mut [u8],
        remains: &mut Vec<Remains>,
    ) -> Vec<Key> {
        let mut released = Vec::new();
        let mut still = Vec::new();
        for mut held in self.all.drain(..) {
            if held.has_ended(buffer) {
                released.push(held.key);
                remains.push(held.life.close());
                continue;
            }
            if !held.killed && now.saturating_duration_since(held.since) >= LONGEST_RESET {
                tracing::warn!(job = %held.key, "a read lasts longer than any reset: killing its reader");
                held.life.kill();
                held.killed = true;
            }
            still.push(held);
        }
        self.all = still;
        released
    }

    pub(super) fn close(self) -> impl Iterator<Item = Remains> {
        self.all.into_iter().map(|held| held.life.close())
    }
}

impl Held {
    /// Whether the read has ended, well or with its reader.
    fn has_ended(&self, buffer: &mut [u8]) -> bool {
        loop {
            match self.life.answer(buffer) {
                Ok(Some(Answer::Looked { id, .. })) if self.key == Key::Look(id) => return true,
                Ok(Some(Answer::Listed { whole: true, .. })) if self.key == Key::List => {
                    return true;
                }
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }
}
