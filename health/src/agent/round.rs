//! One round: list the host's devices, look at each, judge what came in time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::shared::Shared;
use crate::facts::Class;
use crate::probe::ProbeError;
use crate::probe::discover::{Discovery, Found};
use crate::probe::reader::Reader;
use crate::probe::target::{Sample, Target};
use crate::time::{Moment, millis};

/// How long readers may take to end when the agent stops; one that the kernel holds is left.
const CLOSE: Duration = Duration::from_millis(500);

/// What a reader sends back. Each reader has at most one answer under way, which bounds the queue.
enum Answer {
    Listed(Result<Vec<Found>, ProbeError>),
    Looked {
        round: u64,
        serial: u64,
        sample: Box<Sample>,
    },
}

/// The readers of a host.
pub(super) struct Rounds {
    root: PathBuf,
    deadline: Duration,
    round: u64,
    /// Readers made so far: tells a component's reader from its former one.
    serial: u64,
    lister: Option<Watched>,
    components: BTreeMap<String, Component>,
    answers: UnboundedReceiver<Answer>,
    sender: UnboundedSender<Answer>,
}

struct Component {
    found: Found,
    serial: u64,
    /// Why there is none, when it could not be started.
    reader: Result<Watched, ProbeError>,
}

/// A reader, and whether it still works on what it was asked last.
struct Watched {
    reader: Reader,
    busy: bool,
    asked: u64,
}

impl Watched {
    fn new(reader: Reader) -> Self {
        Self {
            reader,
            busy: false,
            asked: 0,
        }
    }

    /// Asks for a look, once a round: a late reader that was asked again while the host was listed
    /// may have answered by now.
    fn ask(&mut self, round: u64) {
        if !self.busy && self.asked != round {
            self.busy = self.reader.ask(round);
            self.asked = round;
        }
    }
}

impl Rounds {
    pub(super) fn new(root: &Path, deadline: Duration) -> Self {
        let (sender, answers) = unbounded_channel();
        Self {
            root: root.to_owned(),
            deadline,
            round: 0,
            serial: 0,
            lister: None,
            components: BTreeMap::new(),
            answers,
            sender,
        }
    }

    /// Takes one look at everything; ends within two read deadlines.
    pub(super) async fn run(&mut self, shared: &Shared) {
        self.round += 1;
        let error = self.list(shared).await.err();
        if let Some(error) = &error {
            warn!(%error, "could not list the host's devices");
        }
        self.look(shared).await;
        shared.end_round(error.as_ref());
    }

    /// Ends the readers. One that is held by the kernel is left to end by itself.
    pub(super) async fn close(self) {
        let readers = self
            .components
            .into_values()
            .filter_map(|component| component.reader.ok());
        let threads: Vec<JoinHandle<()>> = readers
            .chain(self.lister)
            .map(|watched| watched.reader.close())
            .collect();
        let deadline = Instant::now() + CLOSE;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if !thread.is_finished() {
                warn!("a reader is still held by a read; it ends when the read does");
            } else if thread.join().is_err() {
                warn!("a reader ended by a panic, which is a bug of the agent");
            }
        }
    }

    async fn list(&mut self, shared: &Shared) -> Result<(), ProbeError> {
        if self.lister.is_none() {
            let sender = self.sender.clone();
            let mut discovery = Discovery::new(&self.root);
            let reader = Reader::start("auk-list", move |_| {
                // The receiver is gone only when the agent stops.
                let _ = sender.send(Answer::Listed(discovery.list()));
            });
            let reader = reader.map_err(|error| no_reader(&error))?;
            self.lister = Some(Watched::new(reader));
        }
        if let Some(lister) = &mut self.lister {
            lister.ask(self.round);
        }
        let deadline = Instant::now() + self.deadline;
        loop {
            match timeout_at(deadline, self.answers.recv()).await {
                Ok(Some(Answer::Listed(listed))) => {
                    if let Some(lister) = &mut self.lister {
                        lister.busy = false;
                    }
                    self.adopt(shared, listed?);
                    return Ok(());
                }
                Ok(Some(looked)) => self.take(shared, looked),
                Ok(None) | Err(_) => {
                    return Err(ProbeError::Late {
                        deadline_ms: millis(self.deadline),
                    });
                }
            }
        }
    }

    /// Starts readers for what is new; what is listed no more is looked at as before, and found
    /// absent.
    fn adopt(&mut self, shared: &Shared, listed: Vec<Found>) {
        for found in listed {
            match self.components.get(&found.bdf) {
                Some(known) if known.found == found => continue,
                Some(known) if known.found.kind != found.kind => {
                    shared.forget(&found.bdf, known.found.kind);
                }
                _ => {}
            }
            self.serial += 1;
            let serial = self.serial;
            let mut target = Target::new(&self.root, found.clone());
            let sender = self.sender.clone();
            let reader = Reader::start(&found.bdf, move |round| {
                let sample = Box::new(target.look(class_of(round, serial)));
                // The receiver is gone only when the agent stops.
                let _ = sender.send(Answer::Looked {
                    round,
                    serial,
                    sample,
                });
            });
            let reader = reader.map(Watched::new).map_err(|error| no_reader(&error));
            self.components.insert(
                found.bdf.clone(),
                Component {
                    found,
                    serial,
                    reader,
                },
            );
        }
    }

    async fn look(&mut self, shared: &Shared) {
        let round = self.round;
        for component in self.components.values_mut() {
            if let Ok(watched) = &mut component.reader {
                watched.ask(round);
            }
        }
        let deadline = Instant::now() + self.deadline;
        while self.waits_for_some() {
            match timeout_at(deadline, self.answers.recv()).await {
                Ok(Some(answer)) => self.take(shared, answer),
                Ok(None) | Err(_) => break,
            }
        }
        let late = ProbeError::Late {
            deadline_ms: millis(self.deadline),
        };
        for component in self.components.values() {
            let error = match &component.reader {
                Ok(watched) if watched.busy => &late,
                Ok(_) => continue,
                Err(error) => error,
            };
            let found = &component.found;
            let class = class_of(round, component.serial);
            shared.judge(|engine| engine.miss(&found.bdf, found.kind, Moment::now(), class, error));
        }
    }

    fn waits_for_some(&self) -> bool {
        self.components
            .values()
            .any(|component| component.reader.as_ref().is_ok_and(|watched| watched.busy))
    }

    /// Judges an answer, unless it is too old to say anything about now.
    fn take(&mut self, shared: &Shared, answer: Answer) {
        let (round, serial, sample) = match answer {
            Answer::Looked {
                round,
                serial,
                sample,
            } => (round, serial, sample),
            Answer::Listed(_) => {
                // Too late for its round; the next listing is newer.
                if let Some(lister) = &mut self.lister {
                    lister.busy = false;
                }
                return;
            }
        };
        let Some(component) = self.components.get_mut(&*sample.bdf) else {
            return;
        };
        if component.serial != serial {
            return;
        }
        if let Ok(watched) = &mut component.reader {
            watched.busy = false;
            if round != self.round {
                watched.ask(self.round);
                return;
            }
        }
        shared.judge(|engine| engine.observe(*sample));
    }
}

/// What a round reads of a component: in the first everything, then now and then, and not of all
/// components in the same round.
fn class_of(round: u64, serial: u64) -> Class {
    let each = Class::Slow.interval().as_secs() / Class::Fast.interval().as_secs();
    match round <= 1 || (round + serial).is_multiple_of(each) {
        true => Class::Slow,
        false => Class::Fast,
    }
}

fn no_reader(error: &std::io::Error) -> ProbeError {
    ProbeError::NoReader {
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::Agent;
    use crate::facts::{FactKind, Facts, Identity, Kind};

    /// A reader whose looks last until the test lets them end.
    fn held(rounds: &Rounds, serial: u64, release: Receiver<()>) -> Watched {
        let sender = rounds.sender.clone();
        let release = Mutex::new(release);
        let work = move |round| {
            // The other end goes when the test fails, and then nothing is to be held.
            let _ = release.lock().map(|release| release.recv());
            let error = ProbeError::NotFound {
                path: "a file".to_owned(),
            };
            let facts = Facts::blind(Moment::now(), &[FactKind::Presence], &error);
            let sample = Sample {
                bdf: "0000:02:00.0".into(),
                kind: Kind::Nic,
                identity: Identity::default(),
                facts,
            };
            let answer = Answer::Looked {
                round,
                serial,
                sample: Box::new(sample),
            };
            let _ = sender.send(answer);
        };
        Watched::new(Reader::start("held", work).unwrap())
    }

    #[test]
    fn a_read_that_does_not_end_makes_its_component_unobservable_and_stops_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::new(&Agent::builder(directory.path())));
        let mut rounds = Rounds::new(directory.path(), Duration::from_millis(50));
        let (release, released) = channel();
        let found = Found {
            bdf: "0000:02:00.0".to_owned(),
            kind: Kind::Nic,
            pci_id: "8086:1521".to_owned(),
            interface: None,
        };
        let component = Component {
            reader: Ok(held(&rounds, 1, released)),
            serial: 1,
            found,
        };
        rounds
            .components
            .insert("0000:02:00.0".to_owned(), component);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let reason = || {
            let status = shared.status();
            let presence = status.components[0].verdict("presence").unwrap().clone();
            presence.reason
        };
        runtime.block_on(async {
            rounds.run(&shared).await;
            assert!(
                reason().contains("did not end within 50 ms"),
                "{}",
                reason()
            );
            rounds.run(&shared).await;
            assert_eq!(shared.status().agent.rounds, 2);
            // The late answer is not believed; the look after it is.
            release.send(()).unwrap();
            release.send(()).unwrap();
            for _ in 0..100 {
                rounds.run(&shared).await;
                if reason().contains("does not exist") {
                    break;
                }
                let _ = release.send(());
            }
            assert!(reason().contains("does not exist"), "{}", reason());
            drop(release);
            rounds.close().await;
        });
    }
}
