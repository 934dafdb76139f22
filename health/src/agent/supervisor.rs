//! What the service manager is told, as sd_notify(3) has it, and the watchdog that it keeps on the loop.

use std::collections::BTreeMap;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::warn;

use super::Shared;
use crate::status::ReloadStatus;
use crate::verdict::HealthState;

/// The service manager, if this process has one that asked to be told.
#[derive(Debug)]
pub(super) struct Supervisor {
    asked: bool,
    /// When the watchdog is to be fed between rounds that are far apart.
    feed: Option<Interval>,
    ready: bool,
    said: String,
}

impl Supervisor {
    /// Nobody is told, whatever the environment says: the agent is not the service.
    pub(super) fn none() -> Self {
        Self {
            asked: false,
            feed: None,
            ready: false,
            said: String::new(),
        }
    }

    /// The one that `NOTIFY_SOCKET` and `WATCHDOG_USEC` name. To be called in a runtime.
    pub(super) fn of_service() -> Self {
        let watchdog = sd_notify::watchdog_enabled().filter(|period| !period.is_zero());
        Self {
            asked: std::env::var_os("NOTIFY_SOCKET").is_some(),
            // sd_watchdog_enabled(3): every half of the time; a quarter forgives a late one.
            feed: watchdog.map(|period| feed_every(period / 4)),
            ..Self::none()
        }
    }

    /// Ready when the watchdog is due between two rounds; never without one.
    pub(super) async fn hungry(&mut self) {
        match &mut self.feed {
            Some(feed) => {
                feed.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// The loop goes round.
    pub(super) fn alive(&mut self) {
        if self.feed.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// A round has ended. After the first one the agent has seen what is there, and is ready.
    pub(super) fn round_ended(&mut self, shared: &Shared) {
        if !self.asked {
            return;
        }
        self.alive();
        let status = describe(&shared.states(), shared.last_reload().as_ref());
        if status != self.said {
            self.tell(&[NotifyState::Status(&status)]);
            self.said = status;
        }
        if !self.ready {
            self.ready = true;
            self.tell(&[NotifyState::Ready]);
        }
    }

    /// The configuration is about to be read again.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => warn!(%error, "could not read the monotonic clock"),
        }
    }

    /// It was, whatever came of it.
    pub(super) fn reloaded(&self) {
        // Before the first round the end of that says so.
        if self.ready {
            self.tell(&[NotifyState::Ready]);
        }
    }

    /// The loop has ended.
    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&self, what: &[NotifyState<'_>]) {
        if !self.asked {
            return;
        }
        if let Err(error) = sd_notify::notify(what) {
            warn!(%error, "could not tell the service manager");
        }
    }
}

fn feed_every(period: Duration) -> Interval {
    let mut feed = interval(period.max(Duration::from_millis(1)));
    feed.set_missed_tick_behavior(MissedTickBehavior::Delay);
    feed
}

/// One line on the host: how many components are how, the worst first.
fn describe(states: &BTreeMap<HealthState, usize>, reload: Option<&ReloadStatus>) -> String {
    let counts = states.iter().rev();
    let counts: Vec<String> = counts
        .map(|(state, count)| format!("{count} {}", state.name()))
        .collect();
    let mut line = match counts.is_empty() {
        true => "no components".to_owned(),
        false => counts.join(", "),
    };
    if reload.is_some_and(|reload| !reload.problems.is_empty()) {
        line.push_str("; the configuration could not be reloaded");
    }
    line
}
