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

impl Clock {
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
