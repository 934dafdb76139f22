//! `[hook.NAME]`: a command that is run on a change of state.

use std::time::Duration;

use super::keys::{Keys, Section};
use crate::verdict::{HealthState, Transition};

/// A command and when it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Whether it is run at all.
    pub enabled: bool,
    /// Program and arguments; no shell is between.
    pub command: Vec<String>,
    /// States into which a change must lead.
    pub on: Vec<String>,
    /// Whether the changes of single checks count too, not only those of whole components.
    pub checks: bool,
    /// How long it may run before it is killed with all that it started.
    pub deadline: Duration,
}

impl Default for Hook {
    fn default() -> Self {
        Self {
            enabled: true,
            command: Vec::new(),
            on: HealthState::ALL
                .map(|state| state.name().to_owned())
                .to_vec(),
            checks: false,
            deadline: Duration::from_secs(30),
        }
    }
}

impl Section for Hook {
    fn keys(&mut self, keys: &mut Keys<'_>) {
        keys.set("enabled", &mut self.enabled, "false: it is not run");
        let why = "program, by its absolute path, and arguments; no shell is between";
        keys.set("command", &mut self.command, why);
        let absolute = self
            .command
            .first()
            .is_some_and(|program| program.starts_with('/'));
        let whole = self.command.iter().all(|part| !part.contains('\0'));
        keys.require(absolute && whole, &["command"], || {
            "a program by its absolute path, and its arguments, such as [\"/usr/libexec/auk/page\", \"oncall\"]".to_owned()
        });
        let why = "states into which a change must lead";
        keys.set("on", &mut self.on, why);
        let states = HealthState::ALL.map(HealthState::name);
        let known = |state: &String| states.contains(&state.as_str());
        keys.require(
            !self.on.is_empty() && self.on.iter().all(known),
            &["on"],
            || format!("one or more of {}", states.join(", ")),
        );
        let why = "true: run also for the changes of single checks, not only of whole components";
        keys.set("checks", &mut self.checks, why);
        let why = "then it is killed with all that it started";
        let bounds = Duration::from_millis(100)..=Duration::from_secs(600);
        keys.within("deadline", &mut self.deadline, bounds, why);
    }
}

impl Hook {
    /// Whether a change is one of those that it is run for.
    #[must_use]
    pub fn wants(&self, change: &Transition) -> bool {
        self.enabled
            && !change.shadow
            && (self.checks || change.check.is_none())
            && self.on.iter().any(|state| state == change.to.name())
    }
}
