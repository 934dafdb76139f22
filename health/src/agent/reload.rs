//! Reading the configuration again while the agent runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::Shared;
use crate::config::{AgentSettings, Config, ConfigError, Overrides};
use crate::store::StoreSettings;

/// Asks an agent to read its configuration again.
#[derive(Clone, Debug, Default)]
pub struct Reloader {
    asked: Arc<Notify>,
}

impl Reloader {
    /// It does so before its next look. A configuration with problems is told, and changes nothing; what came of it is
    /// in the status document.
    pub fn reload(&self) {
        self.asked.notify_one();
    }

    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }
}

/// The configuration in force, and what it takes to read another.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) root: PathBuf,
    pub(super) overrides: Overrides,
    /// The host's boot, which no file knows.
    pub(super) booted: Option<Duration>,
    /// How the agent runs.
    pub(super) agent: AgentSettings,
    /// How much is kept.
    pub(super) store: StoreSettings,
}

impl InForce {
    /// Puts what the files say now in force, if it makes sense.
    ///
    /// # Errors
    /// All that is wrong with it; the former one stays in force.
    pub(super) fn reload(&mut self, shared: &Shared) -> Result<(), ConfigError> {
        let mut config = match Config::load(&self.root) {
            Ok(config) => config.overridden(&self.overrides),
            Err(wrong) => {
                for problem in &wrong.problems {
                    error!("{problem}");
                }
                error!("the new configuration is not used, the former one stays in force");
                shared.refuse(&wrong);
                return Err(wrong);
            }
        };
        config.settings.booted = self.booted;
        tell_warnings(&config);
        let pending = self.pending(&config);
        for key in &pending {
            warn!("{key} was changed, and is read at start only: restart the agent");
        }
        shared.configure(&config, pending);
        info!(hash = config.hash(), "configuration reloaded");
        self.agent = AgentSettings {
            listen: self.agent.listen,
            state_directory: self.agent.state_directory.clone(),
            ..config.agent
        };
        Ok(())
    }

    /// Keys whose new values come into force with the agent's next start.
    fn pending(&self, new: &Config) -> Vec<String> {
        let (agent, store) = (&self.agent, &self.store);
        let changed = [
            ("agent.listen", new.agent.listen != agent.listen),
            (
                "agent.state_directory",
                new.agent.state_directory != agent.state_directory,
            ),
            ("store.keep", new.store.keep != store.keep),
            ("store.most_mib", new.store.most_bytes != store.most_bytes),
        ];
        let changed = changed.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(key, _)| key.to_owned()).collect()
    }
}

pub(super) fn tell_warnings(config: &Config) {
    for warning in &config.warnings {
        warn!("{warning}");
    }
}
