//! What is said of an event in the journal.

use crate::store::{Event, TROUBLE};
use crate::verdict::Transition;

/// Writes an event to the journal, with its id.
pub(super) fn journal(event: &Event, transition: Option<&Transition>) {
    let Event {
        id, stored, record, ..
    } = event;
    match (transition, event.order()) {
        (Some(transition), _) => tracing::info!(
            event = id,
            stored,
            component = transition.component,
            check = transition.check,
            to = %transition.to,
            reason = transition.reason,
            shadow = transition.shadow,
            "state changed"
        ),
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
