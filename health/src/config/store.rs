//! `[store]`: how much is kept of what must survive the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{Keys, Section};
use super::{AgentSettings, Config};
use crate::store::{self, StoreSettings};

const DAY: Duration = Duration::from_secs(86_400);

impl Section for StoreSettings {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        let why = "how long events are kept; repeat offenders are judged by a week; read at start";
        keys.within("keep", &mut self.keep, DAY..=3650 * DAY, why);
        let mut mib = u32::try_from(self.most_bytes >> 20).unwrap_or(u32::MAX);
        let why = "how big the file may become, in MiB; an event is about 1 KiB, and the oldest go first; read at start";
        keys.within("most_mib", &mut mib, 1..=4096, why);
        self.most_bytes = u64::from(mib) << 20;
    }
}

impl Config {
    /// Where what must survive the agent of the host below a root is kept: `agent.state_directory`, where one is set,
    /// else as [`store::state_directory`] has it.
    #[must_use]
    pub fn state_directory(&self, root: &Path) -> PathBuf {
        let set = &self.agent.state_directory;
        if *set == AgentSettings::default().state_directory {
            return store::state_directory(root);
        }
        root.join(set.strip_prefix("/").unwrap_or(set))
    }
}
