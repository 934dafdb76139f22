//! The agent's configuration: TOML files, layered as systemd does it, checked before anything of it is used.
//!
//! Each table is a [`Section`] that names its keys with their bounds and reasons. From that one list come reading, the
//! messages on what is wrong, the configuration in force and `docs/health.md`'s table.

mod agent;
mod duration;
mod hook;
mod host;
mod keys;
mod layers;
mod manifest;
mod overrides;
mod print;
mod problem;
mod rules;
mod store;
mod tree;
mod value;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

pub use agent::AgentSettings;
pub use hook::Hook;
pub use host::{ExpectedHost, ExpectedNode, KernelVersion};
pub use keys::{Keys, Section, Setting};
pub use manifest::{Entry, Expected, ExpectedNic, Manifest, Wanted, WantedPort};
pub use overrides::Overrides;
pub use problem::{ConfigError, Origin, Problem, Source};
pub use value::Value;

use crate::check::Settings;
use crate::status::ConfigStatus;
use crate::store::StoreSettings;
use layers::Layers;
use tree::Tree;

/// A configuration that was found to make sense.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the agent runs.
    pub agent: AgentSettings,
    /// How much is kept of what must survive the agent.
    pub store: StoreSettings,
    /// By what is judged.
    pub settings: Settings,
    /// Commands to run, by name.
    pub hooks: BTreeMap<String, Hook>,
    /// Every key with its value and source.
    pub effective: Vec<Setting>,
    /// The files that it was read from, the weakest first.
    pub files: Vec<PathBuf>,
    /// What is no error and yet may not be meant.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the configuration of the host below a root. Without any file it is the default.
    ///
    /// # Errors
    /// All that is wrong with it, with file, line and column.
    pub fn load(root: &Path) -> Result<Self, ConfigError> {
        let layers = Layers::find(root)?;
        let mut config = Self::of_files(layers.files)?;
        config.warnings.extend(layers.ignored);
        config.warn_of_hooks(root);
        Ok(config)
    }

    /// Reads one file alone.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        Self::of_files(vec![path.to_owned()])
    }

    /// Reads a text as if it were the only file, under a name for messages.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_text(name: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::of_texts(vec![(name.to_owned(), text.to_owned())])
    }

    fn of_files(files: Vec<PathBuf>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut texts = Vec::new();
        for file in files {
            match layers::read(&file) {
                Ok(text) => texts.push((file, text)),
                Err(error) => problems.extend(error.problems),
            }
        }
        match problems.is_empty() {
            true => Self::of_texts(texts),
            false => Err(ConfigError { problems }),
        }
    }

    fn of_texts(texts: Vec<(PathBuf, String)>) -> Result<Self, ConfigError> {
        let mut tree = Tree::default();
        let mut problems = Vec::new();
        for (file, text) in &texts {
            problems.extend(tree.merge(file, text));
        }
        let files = texts.into_iter().map(|(file, _)| file).collect();
        let (config, strange) = Self::of_tree(&tree, files);
        // What is no TOML would only draw other problems after it.
        if problems.is_empty() {
            problems = strange;
        }
        match problems.is_empty() {
            true => Ok(config),
            false => Err(ConfigError { problems }),
        }
    }

    fn of_tree(tree: &Tree, files: Vec<PathBuf>) -> (Self, Vec<Problem>) {
        let mut agent = AgentSettings::default();
        let mut settings = Settings::default();
        let mut keys = Keys::new(tree);
        keys.table("agent", |keys| agent.keys(keys));
        let mut store = StoreSettings::default();
        keys.table("store", |keys| store.keys(keys));
        settings.keys(&mut keys);
        let mut hooks = BTreeMap::<String, Hook>::new();
        keys.named("hook", &mut hooks);
        let mut manifest = Manifest::default();
        keys.table("manifest", |keys| manifest.keys(keys));
        settings.manifest = manifest.into();
        let (effective, problems) = keys.finish();
        let config = Self {
            agent,
            store,
            settings,
            hooks,
            effective,
            files,
            warnings: Vec::new(),
        };
        (config, problems)
    }

    /// A digest of the values in force: equal for equal configurations, however they were written.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut digest = Sha256::new();
        for setting in &self.effective {
            if let Some(value) = &setting.toml {
                digest.update(setting.key());
                digest.update(" = ");
                digest.update(value);
                digest.update("\n");
            }
        }
        // Sixteen digits tell the configurations of a fleet apart, and fit on a dashboard.
        digest
            .finalize()
            .iter()
            .take(8)
            .fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// For the status document, of a configuration that is in force from a time on.
    pub(crate) fn status(&self, since_unix_ms: u64) -> ConfigStatus {
        let files = self.files.iter().map(|file| file.display().to_string());
        ConfigStatus {
            hash: self.hash(),
            files: files.collect(),
            since_unix_ms,
            reload: None,
        }
    }

    fn warn_of_hooks(&mut self, root: &Path) {
        for (name, hook) in &self.hooks {
            let Some(program) = hook.command.first().filter(|_| hook.enabled) else {
                continue;
            };
            // A simulated host has hooks of this machine.
            let here = Path::new(program);
            let there = root.join(program.trim_start_matches('/'));
            if !here.is_file() && !there.is_file() {
                self.warnings.push(format!(
                    "hook.{name}.command: there is no {program} on this host"
                ));
            }
        }
    }
}

impl Settings {
    /// What differs from the defaults, as TOML that gives the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let defaults = Self::default().listed();
        let defaults: BTreeMap<String, Option<String>> = defaults
            .into_iter()
            .map(|setting| (setting.key(), setting.toml))
            .collect();
        let mut text = String::new();
        for setting in self.clone().listed() {
            if let Some(value) = &setting.toml
                && defaults.get(&setting.key()) != Some(&setting.toml)
            {
                let _ = writeln!(text, "{} = {value}", setting.key());
            }
        }
        text
    }

    /// Every key with its value.
    fn listed(mut self) -> Vec<Setting> {
        let tree = Tree::default();
        let mut keys = Keys::new(&tree);
        self.keys(&mut keys);
        let mut manifest = Manifest::clone(&self.manifest);
        keys.table("manifest", |keys| manifest.keys(keys));
        keys.finish().0
    }
}

impl Default for Config {
    fn default() -> Self {
        // Without files nothing can be wrong.
        Self::of_tree(&Tree::default(), Vec::new()).0
    }
}

/// A duration as it is written in a configuration.
#[must_use]
pub fn duration(duration: Duration) -> String {
    duration::show(duration)
}
