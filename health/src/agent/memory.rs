//! What outlives the agent: who restores it, and when it is kept.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::Engine;
use crate::check::Settings;
use crate::engine::{RestoreError, Saved};
use crate::probe::text;
use crate::store::{Event, Query, Record, States, Store, TRANSITION};
use crate::time::Moment;

/// [`Record::kind`] of the agent's start.
const START: &str = "agent_start";
/// [`Record::kind`] of its end.
const STOP: &str = "agent_stop";
/// Between two times that all is kept while nothing changes. What changes a verdict is kept with it at once, so that
/// only the base lines of counters can be older, and then growth is seen all the same.
const EACH: Duration = Duration::from_secs(300);

/// The engine's memory in the store.
pub(super) struct Memory {
    boot_id: String,
    /// When all of it was kept last, and of which components.
    kept: Instant,
    known: Vec<String>,
}

impl Memory {
    /// An engine that goes on where the last agent's stopped, and what is to be said of that.
    pub(super) fn restore(
        store: &Store,
        settings: &Settings,
        boot_id: String,
        now: Moment,
    ) -> (Self, Engine, Record) {
        let (engine, past) = match restored(store, settings, &boot_id, now) {
            Ok(Some(engine)) => {
                let known = engine.known().count();
                (engine, format!("it goes on with {known} components"))
            }
            Ok(None) => (
                Engine::new(settings.clone()),
                "it knows nothing of the past".to_owned(),
            ),
            Err(reason) => (Engine::new(settings.clone()), reason),
        };
        let summary = format!(
            "agent {} started as process {}; {past}",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        );
        let memory = Self {
            boot_id,
            kept: Instant::now(),
            known: Vec::new(),
        };
        let record = Record::of_agent(now.unix_ms, START, summary);
        (memory, engine, record)
    }

    /// What is to be kept of the engine now, with these records: what has changed for those that they are of and for the
    /// components named, or all there is where neither is any.
    pub(super) fn states(
        &mut self,
        engine: &Engine,
        records: &[Record],
        concerned: &[String],
        now: Moment,
    ) -> Option<States> {
        let known = || engine.known().map(|(bdf, ..)| bdf);
        // What is ordered may concern any of them, and of one that is there no more the part has to go.
        let only_changes = records.iter().all(|record| record.kind == TRANSITION);
        let all = (records.is_empty() && concerned.is_empty())
            || !only_changes
            || !known().eq(self.known.iter().map(String::as_str));
        if all {
            self.kept = Instant::now();
            self.known = known().map(str::to_owned).collect();
        }
        let changed = |bdf: &str| {
            let mut components = records
                .iter()
                .filter_map(|record| record.component.as_deref());
            all || components.any(|component| component == bdf)
                || concerned.iter().any(|component| component == bdf)
        };
        match engine.saved_parts(now, Some(&self.boot_id), changed) {
            Ok(parts) => Some(States { parts, all }),
            Err(error) => {
                tracing::error!(%error, "what the agent remembers cannot be kept");
                None
            }
        }
    }

    /// Whether it was kept so long ago that it is time again.
    pub(super) fn is_due(&self) -> bool {
        self.kept.elapsed() >= EACH
    }

    /// What is to be said at the end.
    pub(super) fn farewell(now: Moment) -> Record {
        Record::of_agent(now.unix_ms, STOP, "agent stopped")
    }
}

fn restored(
    store: &Store,
    settings: &Settings,
    boot_id: &str,
    now: Moment,
) -> Result<Option<Engine>, String> {
    let unread = |error| format!("what it remembered cannot be read: {error}");
    let parts = store.states().map_err(unread)?;
    let last = Query {
        newest: true,
        ..Query::default()
    };
    let events = store.events(&last).map_err(unread)?.events;
    let changes: Vec<_> = events.iter().filter_map(Event::transition).collect();
    let restored = Saved::from_parts(&parts).and_then(|saved| match saved {
        Some(saved) => {
            let saved = saved.with_transitions(changes);
            Engine::restored(settings.clone(), saved, now, Some(boot_id)).map(Some)
        }
        None => Ok(None),
    });
    restored.map_err(|error: RestoreError| error.to_string())
}

/// The boot that this is, as the kernel names it. A tree without one is of a simulated host, which is up for as long as
/// this machine is.
pub(super) fn boot_id(root: &Path) -> String {
    const ID: &str = "proc/sys/kernel/random/boot_id";
    let of = |root: &Path| text::read(&root.join(ID)).ok();
    of(root)
        .or_else(|| of(Path::new("/")))
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
