//! What the engine is fed in one go, and what it makes of it.

use super::links::Book;
use crate::Engine;
use crate::facts::{Class, Kind};
use crate::probe::ProbeError;
use crate::probe::target::Sample;
use crate::recording::{Entry, Recorder};
use crate::store::Record;
use crate::time::Moment;

/// The engine, while it judges: what it is fed is recorded where that was asked for, what it says is collected.
pub(crate) struct Judging<'a> {
    engine: &'a mut Engine,
    links: &'a mut Book,
    recorder: Option<&'a mut Recorder>,
    records: Vec<Record>,
}

impl<'a> Judging<'a> {
    pub(super) fn new(
        engine: &'a mut Engine,
        links: &'a mut Book,
        recorder: Option<&'a mut Recorder>,
    ) -> Self {
        Self {
            engine,
            links,
            recorder,
            records: Vec::new(),
        }
    }

    /// A look.
    pub(super) fn observe(&mut self, mut sample: Sample) {
        if let Some(Ok(port)) = &sample.facts.port {
            let now = Moment::now();
            if let Some(port) = port {
                self.links.look(now, &sample.bdf, port);
            }
            sample.facts.port_heard = self.links.heard(sample.facts.at, &sample.bdf);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.look(&sample);
        }
        let changes = self.engine.observe(sample);
        self.records.extend(changes.iter().map(Record::from));
    }

    /// A look that saw nothing.
    pub(super) fn miss(&mut self, bdf: &str, kind: Kind, class: Class, error: &ProbeError) {
        let at = Moment::now();
        self.record(|| Entry::Miss {
            bdf: bdf.to_owned(),
            kind,
            at,
            class,
            error: error.clone(),
        });
        let changes = self.engine.miss(bdf, kind, at, class, error);
        self.records.extend(changes.iter().map(Record::from));
    }

    /// Another kind of component is now in the place of this one.
    pub(super) fn forget(&mut self, bdf: &str, kind: Kind) {
        self.record(|| Entry::Forget {
            bdf: bdf.to_owned(),
            kind,
        });
        self.engine.forget(bdf, kind);
    }

    fn record(&mut self, entry: impl FnOnce() -> Entry) {
        if let Some(recorder) = &mut self.recorder {
            recorder.put(&entry());
        }
    }

    /// The changes of state that follow, and what else is to be told by now.
    pub(super) fn records(mut self) -> Vec<Record> {
        self.records.extend(self.links.due(Moment::now()));
        self.records
    }
}
