//! The host profile: each of its topics is a check, which holds what was read against the manifest.

use serde::{Deserialize, Serialize};

use super::{Check, Finding, View};
use crate::facts::FactKind;
use crate::host::{TOPICS, Topic};
use crate::verdict::{Action, Evidence};

/// Topics of which nothing changes after the kernel's start. Services set up what the others are about, in their time.
const AS_BOOTED: [&str; 2] = ["kernel_version", "command_line"];

/// The checks, one a topic.
pub(super) fn of_host() -> Vec<Box<dyn Check>> {
    let checks = TOPICS.iter().map(|topic| {
        let check: Box<dyn Check> = Box::new(Profiled {
            topic: Named(topic),
        });
        check
    });
    checks.collect()
}

/// The check of a topic. It keeps nothing of the past: a setting is as it is.
#[derive(Serialize, Deserialize)]
struct Profiled {
    topic: Named,
}

/// A topic, which is kept by its name.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Named(&'static Topic);

impl From<Named> for String {
    fn from(Named(topic): Named) -> Self {
        topic.name.to_owned()
    }
}

impl TryFrom<String> for Named {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let topic = TOPICS.iter().find(|topic| topic.name == name);
        topic.map(Self).ok_or_else(|| format!("no topic {name}"))
    }
}

impl Check for Profiled {
    fn name(&self) -> &'static str {
        self.topic.0.name
    }

    fn reads(&self) -> &'static [FactKind] {
        &[FactKind::Profile]
    }

    fn at_first(&self) -> Finding {
        Finding::not_applicable("the manifest says nothing of the host")
    }

    fn judge(&mut self, view: &View<'_>) -> Result<Finding, Finding> {
        let profile = super::known(&view.facts.profile)?;
        let wanted = &view.settings.manifest.host;
        let compared = (self.topic.0.compare)(profile, wanted);
        if !compared.is_asked() {
            return Err(Finding::not_applicable("the manifest says nothing of it"));
        }
        let Some(first) = compared.differences.first() else {
            return match compared.unread {
                Some(error) => Err(Finding::blind(error)),
                None => Ok(Finding::healthy(compared.met.join("; "))),
            };
        };
        let others = match compared.differences.len() {
            1 => String::new(),
            count => format!("; and {} more", count - 1),
        };
        let reason = format!(
            "{}: {}, and the manifest wants {}{others}; {}",
            first.what, first.found, first.expected, first.mend
        );
        if view.in_boot_grace() && !AS_BOOTED.contains(&self.name()) {
            return Ok(Finding::pending(format!(
                "{reason}; the host has only just booted"
            )));
        }
        let finding = match wanted.required.iter().any(|name| name == self.name()) {
            true => Finding::unhealthy(reason, Action::Drain),
            false => Finding::degraded(reason, Action::Watch),
        };
        let at_unix_ms = view.now.unix_ms;
        Ok(compared
            .differences
            .into_iter()
            .fold(finding, |finding, difference| {
                finding.with(Evidence {
                    what: difference.what,
                    found: difference.found,
                    limit: difference.expected,
                    source: difference.source,
                    at_unix_ms,
                })
            }))
    }
}
