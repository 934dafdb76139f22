//! Time as the engine sees it: an input, never asked for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One instant on the two clocks that a verdict needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// `CLOCK_BOOTTIME`: never set back, and it counts suspend. All intervals are measured on it.
    pub uptime: Duration,
    /// Milliseconds since the Unix epoch, for people and for other hosts.
    pub unix_ms: u64,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            uptime: boot_time(),
            unix_ms: millis(unix),
        }
    }

    /// Time that has passed since `earlier`; zero when that lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.uptime.saturating_sub(earlier.uptime)
    }
}

fn boot_time() -> Duration {
    // The kernel has this clock since 2.6.39, so an error cannot happen on a kernel that runs us;
    // zero would only make intervals look short.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default()
}

/// Whole milliseconds of a duration, at most what fits in 64 bits.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
