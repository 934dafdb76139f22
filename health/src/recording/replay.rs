//! Runs a recording through an engine: nothing is read but the file, and no clock is asked.

use std::path::Path;

use serde::Serialize;

use super::line::{Entry, Start, THIS_BOOT};
use super::{Header, ReadError, Reader};
use crate::check::Settings;
use crate::config::Config;
use crate::engine::Engine;
use crate::incident::{Incident, incidents};
use crate::operator::{Author, Done, Order, OrderError};
use crate::status::ComponentStatus;
use crate::time::Moment;
use crate::verdict::Transition;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An agent started.
    Started(Moment),
    /// A state changed.
    Changed(Transition),
    /// Somebody ordered something, or a hold ended.
    Ordered(Done),
}

impl Event {
    /// Unix time in milliseconds.
    #[must_use]
    pub fn at_unix_ms(&self) -> u64 {
        match self {
            Self::Started(at) => at.unix_ms,
            Self::Changed(transition) => transition.at_unix_ms,
            Self::Ordered(done) => done.at_unix_ms,
        }
    }
}

/// What an engine makes of a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// The first line.
    pub header: Header,
    /// Lines that were read.
    pub lines: u64,
    /// Whether the last line was cut short, and left out.
    pub cut_short: bool,
    /// What happened, in its order.
    pub events: Vec<Event>,
    /// When it ends.
    pub ended: Moment,
    /// The components at the end.
    pub components: Vec<ComponentStatus>,
    /// What is wrong at the end.
    pub incidents: Vec<Incident>,
}

impl Replayed {
    /// The changes of state alone.
    pub fn transitions(&self) -> impl Iterator<Item = &Transition> {
        self.events.iter().filter_map(|event| match event {
            Event::Changed(transition) => Some(transition),
            _ => None,
        })
    }
}

/// Runs a recording through an engine. With settings these are judged by, else those that were recorded.
///
/// # Errors
/// When the file cannot be read or a line makes no sense; with its number.
pub fn replay(path: &Path, settings: Option<&Settings>) -> Result<Replayed, ReadError> {
    let mut reader = Reader::open(path)?;
    let mut play = Play {
        settings,
        engine: None,
        now: Moment::default(),
        events: Vec::new(),
    };
    while let Some(entry) = reader.next_entry()? {
        play.step(entry)
            .map_err(|reason| reader.damaged_here(reason))?;
    }
    let components = play
        .engine
        .map(|engine| engine.components(play.now))
        .unwrap_or_default();
    Ok(Replayed {
        header: reader.header().clone(),
        lines: reader.lines(),
        cut_short: reader.is_cut_short(),
        events: play.events,
        ended: play.now,
        incidents: incidents(&components),
        components,
    })
}

struct Play<'a> {
    settings: Option<&'a Settings>,
    engine: Option<Engine>,
    now: Moment,
    events: Vec<Event>,
}

impl Play<'_> {
    /// Takes an entry; why it makes no sense.
    fn step(&mut self, entry: Entry) -> Result<(), String> {
        if let Entry::Start(start) = entry {
            return self.start(*start);
        }
        let engine = self
            .engine
            .as_mut()
            .ok_or("nothing can be judged before a start, with the settings to judge by")?;
        let mut ended = Vec::new();
        let (at, transitions) = match entry {
            Entry::Start(_) => return Ok(()),
            Entry::Settings(start) => {
                let at = start.at;
                engine.set_settings(settings(self.settings, &start)?);
                (Some(at), Vec::new())
            }
            Entry::Look(sample) => (Some(sample.facts.at), engine.observe(*sample)),
            Entry::Miss {
                bdf,
                kind,
                at,
                class,
                error,
            } => (Some(at), engine.miss(&bdf, kind, at, class, &error)),
            Entry::Order { at, author, order } => {
                let (done, transitions) = match engine.order(at, &author, order.clone()) {
                    Ok(done) => done,
                    // By other limits there may be nothing to clear.
                    Err(error) => (refused(at, author, order, &error), Vec::new()),
                };
                ended.push(done);
                (Some(at), transitions)
            }
            Entry::Expire(at) => {
                ended = engine.expire(at);
                (Some(at), Vec::new())
            }
            Entry::Forget { bdf, kind } => {
                engine.forget(&bdf, kind);
                (None, Vec::new())
            }
        };
        self.now = at.unwrap_or(self.now);
        self.events.extend(ended.into_iter().map(Event::Ordered));
        self.events
            .extend(transitions.into_iter().map(Event::Changed));
        Ok(())
    }

    fn start(&mut self, mut start: Start) -> Result<(), String> {
        self.now = start.at;
        self.events.push(Event::Started(start.at));
        let settings = settings(self.settings, &start)?;
        self.engine = Some(match start.memory.take() {
            Some(memory) => Engine::restored(settings, *memory, start.at, Some(THIS_BOOT))
                .map_err(|error| error.to_string())?,
            None => Engine::new(settings),
        });
        Ok(())
    }
}

fn refused(at: Moment, author: Author, order: Order, error: &OrderError) -> Done {
    Done {
        at_unix_ms: at.unix_ms,
        author: Some(author),
        order,
        outcome: format!("was done then, and is refused in this replay: {error}"),
    }
}

fn settings(given: Option<&Settings>, start: &Start) -> Result<Settings, String> {
    let settings = match given {
        Some(settings) => settings.clone(),
        None => {
            let config = Config::from_text("recorded configuration".as_ref(), &start.config);
            config.map_err(|error| error.to_string())?.settings
        }
    };
    Ok(Settings {
        booted: start.booted,
        ..settings
    })
}
