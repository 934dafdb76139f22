//! Incidents: what is to be repaired, once each, however many components suffer from it.

use serde::{Deserialize, Serialize};

use crate::status::ComponentStatus;
use crate::verdict::{Action, HealthState, Verdict};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Address of the component, or of the port above that explains it.
    pub cause: String,
    /// Addresses of the components that suffer from it.
    pub components: Vec<String>,
    /// The worst state of these.
    pub state: HealthState,
    /// Unix time in milliseconds since which the first of them suffers.
    pub since_unix_ms: u64,
    /// Why, in a sentence.
    pub reason: String,
    /// What to do.
    pub action: Action,
}

/// What is wrong on a host, the worst and then the oldest first.
#[must_use]
pub fn incidents(components: &[ComponentStatus]) -> Vec<Incident> {
    let mut incidents: Vec<Incident> = Vec::new();
    let ill = components
        .iter()
        .filter(|component| component.state >= HealthState::Degraded);
    for component in ill {
        let cause = explanation(component).unwrap_or(&component.bdf);
        let known = incidents
            .iter_mut()
            .find(|incident| incident.cause == cause);
        let Some(incident) = known else {
            incidents.push(Incident {
                cause: cause.to_owned(),
                components: vec![component.bdf.clone()],
                state: component.state,
                since_unix_ms: component.since_unix_ms,
                reason: component.reason.clone(),
                action: component.action,
            });
            continue;
        };
        incident.components.push(component.bdf.clone());
        incident.state = incident.state.max(component.state);
        incident.action = incident.action.max(component.action);
        incident.since_unix_ms = incident.since_unix_ms.min(component.since_unix_ms);
    }
    incidents.sort_by_key(|incident| (std::cmp::Reverse(incident.state), incident.since_unix_ms));
    incidents
}

/// The port above that explains the component's state: only when no rule says as bad a thing of the component itself.
fn explanation(component: &ComponentStatus) -> Option<&str> {
    let as_bad = |verdict: &&Verdict| verdict.counts && verdict.state == component.state;
    let mut explained = component
        .verdicts
        .iter()
        .filter(as_bad)
        .map(|verdict| verdict.blamed_on.as_deref());
    let first = explained.next()??;
    explained.all(|other| other == Some(first)).then_some(first)
}
