//! What is said of an event in the journal.

use crate::store::{Event, TROUBLE};
use crate::verdict::{Evidence, HealthState, Transition};

/// Writes an event to the journal, with its id.
pub(super) fn journal(event: &Event, transition: Option<&Transition>) {
    let Event {
        id, stored, record, ..
    } = event;
    match (transition, event.order()) {
        (Some(transition), _) => change(event, transition),
        (None, Some(done)) => tracing::info!(
            event = id,
            stored,
            author = done.author.as_ref().map(tracing::field::display),
            order = ?done.order,
            outcome = done.outcome,
            "order"
        ),
        (None, None) if record.kind.starts_with(TROUBLE) => {
            tracing::warn!(event = id, stored, kind = record.kind, "{}", record.summary);
        }
        (None, None) => {
            tracing::info!(event = id, stored, kind = record.kind, "{}", record.summary);
        }
    }
}

/// A change of state. That of a whole component to something bad is a warning, once.
fn change(event: &Event, transition: &Transition) {
    let Transition {
        component,
        check,
        to,
        reason,
        ..
    } = transition;
    let from = transition.from.map(HealthState::name);
    let evidence: Vec<String> = transition.evidence.iter().map(evidence).collect();
    let evidence = evidence.join("; ");
    macro_rules! say {
        ($level:ident, $($message:tt)+) => {
            tracing::$level!(
                event = event.id,
                stored = event.stored,
                component,
                serial = transition.serial,
                check,
                from,
                to = to.name(),
                reason,
                evidence,
                shadow = transition.shadow,
                $($message)+
            )
        };
    }
    match check {
        None if *to >= HealthState::Degraded => say!(warn, "{component} is {to}: {reason}"),
        None => say!(info, "{component} is {to}: {reason}"),
        Some(check) => say!(info, "{component} {check} is {to}: {reason}"),
    }
}

fn evidence(evidence: &Evidence) -> String {
    let Evidence {
        what,
        found,
        limit,
        source,
        ..
    } = evidence;
    format!("{what} {found}, limit {limit}, from {source}")
}
