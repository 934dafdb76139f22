//! The engine's own time: it goes on over restarts of the agent and of the host, where the kernel's begins anew.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::Settings;
use crate::time::Moment;

/// How the kernel's clock becomes the engine's.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Clock {
    ahead: Duration,
}

/// The boot in which an engine goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Boot {
    /// The one in which it stopped.
    Same,
    /// A later one.
    Another {
        /// How long the host has been up, as far as is known; a simulated one is not as long up as the kernel's clock.
        host_up: Duration,
    },
}

impl Clock {
    /// The clock that goes on where another stopped. In the same boot the kernel's clock tells how long ago that was;
    /// in another only the wall clock can, which may have been set: then it was at least as long as the host is up.
    pub(super) fn resumed(self, stopped: Moment, now: Moment, boot: Boot) -> Self {
        let Boot::Another { host_up } = boot else {
            return self;
        };
        let passed = Duration::from_millis(now.unix_ms.saturating_sub(stopped.unix_ms));
        let goes_on = stopped.uptime.saturating_add(passed.max(host_up));
        Self {
            ahead: goes_on.saturating_sub(now.uptime),
        }
    }

    /// A moment of the kernel's clock.
    pub(super) fn moment(self, at: Moment) -> Moment {
        Moment {
            uptime: at.uptime.saturating_add(self.ahead),
            ..at
        }
    }

    /// Settings with the host's boot on the engine's clock.
    pub(super) fn settings(self, settings: Settings) -> Settings {
        Settings {
            booted: settings
                .booted
                .map(|booted| booted.saturating_add(self.ahead)),
            ..settings
        }
    }
}
