//! What stands above all files: options of the command line, or of the program that the agent is part of.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Config, Source, Value};

/// Values that no file changes, now or at a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// For `agent.interval`.
    pub interval: Option<Duration>,
    /// For `agent.slow_interval`.
    pub slow_interval: Option<Duration>,
    /// For `agent.read_deadline`.
    pub read_deadline: Option<Duration>,
    /// For `agent.listen`.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// This configuration, with other values where there are some.
    #[must_use]
    pub fn overridden(mut self, by: &Overrides) -> Self {
        if let Some(interval) = by.interval {
            self.agent.interval = interval;
            self.say("interval", &interval);
        }
        if let Some(interval) = by.slow_interval {
            self.agent.slow_interval = Some(interval);
            self.say("slow_interval", &interval);
        }
        if let Some(deadline) = by.read_deadline {
            self.agent.read_deadline = deadline;
            self.say("read_deadline", &deadline);
        }
        if let Some(address) = by.listen {
            self.agent.listen = Some(address);
            self.say("listen", &address);
        }
        self
    }

    fn say(&mut self, name: &str, value: &impl Value) {
        let named =
            |setting: &&mut super::Setting| setting.table == "agent" && setting.name == name;
        if let Some(setting) = self.effective.iter_mut().find(named) {
            setting.toml = Some(value.to_toml());
            setting.json = value.to_json();
            setting.source = Source::CommandLine;
        }
    }
}
