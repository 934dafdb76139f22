//! When a wait ends.

use std::time::{Duration, Instant};

/// The moment after which a wait gives up. Every wait of the driver takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    start: Instant,
    end: Instant,
}

impl Deadline {
    /// Far enough to be never for a caller, near enough not to overflow the clock.
    const MOST: Duration = Duration::from_secs(30 * 24 * 3600);

    /// `time` from now, 30 days at most.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            end: start + time.min(Self::MOST),
        }
    }

    /// Whether it has passed.
    #[must_use]
    pub fn is_over(self) -> bool {
        Instant::now() >= self.end
    }

    /// What is left of it.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// How long it has run.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.start.elapsed()
    }

    /// The one that is over first.
    #[must_use]
    pub fn sooner(self, other: Self) -> Self {
        if other.end < self.end { other } else { self }
    }

    /// The moment itself.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.end
    }
}

impl From<Duration> for Deadline {
    fn from(time: Duration) -> Self {
        Self::after(time)
    }
}
